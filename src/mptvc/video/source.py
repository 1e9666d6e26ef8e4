"""Video files opened through PyAV: what they say of themselves, and then their frames."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Self

import av

from mptvc.errors import VideoError
from mptvc.video.cuts import SHOT_THRESHOLD
from mptvc.video.description import USUAL_RATE, SourceInfo, Warnings, check_stream, describe
from mptvc.video.diagnosis import invalid, is_encrypted, unreadable
from mptvc.video.ffmpeg import REFUSALS, local, reason
from mptvc.video.frames import Reading, SourceFrames
from mptvc.video.joins import without_jumps
from mptvc.video.raw import RawVideo
from mptvc.video.sound import SideRecorder
from mptvc.video.stills import ARRAY, open_array, open_pictures, other_pictures, packets_of, pictures_of
from mptvc.video.streams import PICTURES, chosen_stream

#: A picture's name is that of one file, not a pattern for the names of many; streams that start late are
#: found in the first ten minutes or 64 MB.
_OPTIONS = {"pattern_type": "none", "probesize": "64000000", "analyzeduration": "600000000"}

#: Containers of what is no film, though FFmpeg can show it.
_STILL = ("image2", "tty")


class VideoSource:
    """A video file's video stream, opened; use it in a ``with`` block.

    Args:
        source: Path of a video, of a folder of pictures or of an array; raw video or binary file.
        shot_threshold: Score from which a frame starts a shot; None looks for no cuts.
        start: Seconds to skip.
        duration: Seconds to read; None reads to the end.
        force_8bit: Accept video of more than 8 bits and round it.
        deinterlace: Turn interlaced frames into whole ones, one for one.
        sound: Keep the packets of sound and subtitles.
        strict: Refuse what otherwise is a warning.
        stream: Number of the video stream in the file; None takes the one that is the film.
        upright: Give pictures as they are to be shown; otherwise as they are stored, but never mirrored.
        on_size_change: ``stop`` or ``split`` end where the size changes on the way, ``scale`` makes one.
        frame_rate: Frames a second of a source that does not say: a folder of pictures, or an array.
        scale: Sides of the pictures by those of the source's, above 0 and at most 1.

    Attributes:
        info: What the file says of its video; what is true of it, the frames tell.
        is_silenced: Whether there is sound or there are subtitles, and they were not asked for.

    Raises:
        VideoError: The file cannot be read, has no video, or needs an option that is not set.
        ValueError: A threshold, start, duration or scale out of range, or the number of no video stream.
    """

    def __init__(
        self,
        source: str | Path | RawVideo | BinaryIO,
        *,
        shot_threshold: float | None = SHOT_THRESHOLD,
        start: float = 0.0,
        duration: float | None = None,
        force_8bit: bool = False,
        deinterlace: bool = False,
        sound: bool = False,
        strict: bool = False,
        stream: int | None = None,
        upright: bool = False,
        on_size_change: str = "stop",
        frame_rate: Fraction = USUAL_RATE,
        scale: float = 1.0,
    ) -> None:
        name = _name(source)
        self._reading = Reading(
            shot_threshold, start, duration, force_8bit, deinterlace, upright, on_size_change, scale
        )
        self._warnings = Warnings(name, strict)
        self._container = _opened(source, name, frame_rate)
        self._recorder: SideRecorder | None = None
        try:
            self._stream = chosen_stream(name, self._container, stream, self._warnings)
            if isinstance(source, str | Path) and Path(source).is_file() and is_encrypted(Path(source)):
                raise VideoError(f"{name}: its pictures are encrypted")
            check_stream(name, self._stream, force_8bit, self._warnings)
            self.info: SourceInfo = describe(name, self._container, self._stream)
            others = (*self._container.streams.audio, *self._container.streams.subtitles)
            self.is_silenced = bool(others) and not sound
            if sound:
                self._recorder = SideRecorder(self._container)
            if isinstance(source, RawVideo) and (rest := source.left_over()):
                self._warnings.add(
                    f"{rest} bytes are left over after the last whole frame: is the size right?"
                )
            is_folder = isinstance(source, str | Path) and Path(source).is_dir()
            if is_folder and (left_out := other_pictures(Path(name))):
                self._warnings.add(
                    f"pictures of another kind are left out: {len(left_out)} ({left_out[0].name})"
                )
        except BaseException:
            self.close()
            raise
        others = () if self._recorder is None else self._recorder.streams
        self._packets = without_jumps(self._container, self._container.demux(self._stream, *others))
        if is_folder:
            paths = pictures_of(Path(name))
            self.info = replace(self.info, expected_frames=len(paths), promised_frames=len(paths))
            self._packets = packets_of(paths, self._stream)

    def frames(self) -> SourceFrames:
        """The frames in the order in which they are shown, which come once."""
        return SourceFrames(
            self._stream, self._packets, self.info, self._reading, self._recorder, self._warnings
        )

    def close(self) -> None:
        """Close the file, and drop the sound that was kept."""
        self._container.close()
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_video(path: Path) -> bool:
    """Whether FFmpeg finds moving pictures in a file; a picture, text or sound alone is none."""
    try:
        with av.open(local(path), "r", options={"pattern_type": "none"}) as container:
            if container.format.name in _STILL or container.format.name.endswith("_pipe"):
                return False
            films = (s for s in container.streams.video if not s.disposition & PICTURES)
            return any(stream.codec_context is not None for stream in films)
    except REFUSALS:
        return False


def _name(source: str | Path | RawVideo | BinaryIO) -> str:
    """What messages call a source: a file object behind an address says which."""
    if isinstance(source, str | Path | RawVideo):
        return str(source)
    return str(getattr(source, "url", "standard input"))


def _opened(
    source: str | Path | RawVideo | BinaryIO, name: str, frame_rate: Fraction
) -> av.container.InputContainer:
    """A container in which texts that are no UTF-8 do not matter."""
    path = Path(name)
    if isinstance(source, str | Path | RawVideo) and not path.exists():
        raise VideoError(f"{name}: no such file")
    is_file = isinstance(source, str | Path) and path.is_file()
    if is_file and (why := unreadable(path)):
        raise VideoError(f"{name}: cannot be read as video: {why}")
    try:
        if isinstance(source, RawVideo):
            return av.open(local(source.path), "r", "rawvideo", options=source.options)
        if isinstance(source, str | Path) and path.is_dir():
            return open_pictures(path, frame_rate)
        if is_file and path.suffix.lower() == ARRAY:
            return open_array(path, frame_rate)
        opened = local(source) if isinstance(source, str | Path) else source
        return av.open(opened, "r", options=_OPTIONS, metadata_errors="replace")
    except REFUSALS as error:
        why = (invalid(path) if is_file else "") or reason(error)
        raise VideoError(f"{name}: cannot be read as video: {why}") from error
