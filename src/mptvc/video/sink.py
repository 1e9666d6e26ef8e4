"""Video files written through PyAV: H.264, FFV1, Y4M, PNG folders; and arrays.

Output goes to a temporary file or folder beside the target and is renamed when it is complete. MP4 and
MKV keep uneven time stamps, rotation and colour tags; other pictures are turned as they are to be shown. The
pixel aspect is kept by H.264 and its like, which store it themselves. Y4M keeps the colour range alone, so it
is written with the usual matrix.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np
from av.video.frame import VideoFrame

from mptvc.format.header import Colour, VideoInfo
from mptvc.format.target import move_into_place, part_path, refuse_existing, refuse_other_files, remove
from mptvc.video.colour import carried_colour, from_rgb
from mptvc.video.ffmpeg import quiet_encoders, refusals, require_encoder, same_scheduling
from mptvc.video.orientation import upright, upright_info
from mptvc.video.packets import EXPERIMENTAL, AnyPacket
from mptvc.video.sound import SidePlayer


@dataclass(frozen=True)
class OutputOptions:
    """How to write a video.

    Attributes:
        format: ``mp4``, ``mkv``, ``y4m``, ``png`` (a folder) or ``npy``; None goes by the name.
        codec: Video codec of FFmpeg for mp4 and mkv, such as ``libx264`` or ``ffv1``; None chooses.
        crf: Quality of the codec, lower is better.
        pix_fmt: Pixel format of FFmpeg; None chooses.
        stored: Leave pictures as they are stored where the format cannot say how to turn them.
    """

    format: str | None = None
    codec: str | None = None
    crf: int = 12
    pix_fmt: str | None = None
    stored: bool = False


#: Pixels of frames of which x264 looks less far ahead.
_LARGE = 2**22
#: Codecs that take a quality in ``crf``.
_CRF_CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9")
_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mp4",
    ".mkv": "mkv",
    ".y4m": "y4m",
    ".npy": "npy",
    "": "png",
}
_STREAMED = ("y4m", "mkv")
_TAGGED = ("mp4", "mkv")
#: Names of the files in a folder of PNG, for FFmpeg and as a pattern.
_FRAME, _FRAMES = "frame_%06d.png", "frame_*.png"


def output_format(target: str, options: OutputOptions) -> str:
    """The output format that a name and options ask for.

    Raises:
        ValueError: The name says nothing and no format is given, or the format is unknown or cannot
            be written to standard output.
    """
    if target == "-" and options.format not in _STREAMED:
        raise ValueError('standard output needs format="y4m" or format="mkv"')
    if options.format is not None:
        if options.format not in _FORMATS.values():
            raise ValueError(f"format is one of mp4, mkv, y4m, png, npy; found {options.format}")
        return options.format
    suffix = Path(target).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"cannot tell the format from {suffix}: name it with format=")
    return _FORMATS[suffix]


def suffix_of(options: OutputOptions) -> str:
    """The ending of outputs that are named after their inputs."""
    wanted = output_format("x.mp4", options)
    return next(ending for ending, kind in _FORMATS.items() if kind == wanted)


class VideoSink:
    """Writes frames to a file, a folder or a stream; the target appears when all is written.

    Args:
        target: Path, or a binary file for y4m and mkv.
        info: Describes the frames; width, height and number are those of what is written.
        options: Format and codec.
        side: Sound and subtitles to write along, where the format holds any.
        force: Replace an existing target.

    Raises:
        MptError: The target exists.
        VideoError: The codec does not exist or cannot be opened, or a folder would replace a file or a
            file a folder.
        ValueError: The format does not follow from the name, or cannot be streamed.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        info: VideoInfo,
        options: OutputOptions,
        *,
        side: SidePlayer | None = None,
        force: bool = False,
    ) -> None:
        self._target, self._info, self._force = target, info, force
        self._name = str(target) if isinstance(target, Path) else "standard output"
        self._kind = output_format(str(target) if isinstance(target, Path) else "-", options)
        self._given, self._rotation = info, 0
        if self._kind not in _TAGGED and not options.stored:
            self._info, self._rotation = upright_info(info), info.rotation
        self._stamps = _stamps(info) if self._kind in _TAGGED else []
        self._side = side if self._kind in _TAGGED else None
        if side is not None and self._side is None:
            side.warnings.append(f"{self._kind} holds no {side.contents}: those of the video are left out")
        if isinstance(target, Path):
            refuse_existing(target, force, folder=self._kind == "png")
            if self._kind == "png":
                refuse_other_files(target, _FRAMES)
            self._part: Path | None = part_path(target, folder=self._kind == "png")
        else:
            self._part = None
        try:
            self._open(options)
        except BaseException:
            self._discard()
            raise

    def _open(self, options: OutputOptions) -> None:
        self._array: np.memmap | None = None
        self._container: av.container.OutputContainer | None = None
        info = self._info
        where: str | Path | BinaryIO = self._part if self._part is not None else self._target
        if self._kind == "npy" and isinstance(where, Path):
            self._array, self._count = _mapped_array(where, self._name, info), 0
            return
        codec, pix_fmt = _codec(self._kind, options, info)
        self._colour = _carried_colour(self._kind, info.colour, pix_fmt)
        container_format = {
            "mp4": "mp4", "mkv": "matroska", "y4m": "yuv4mpegpipe", "png": "image2",
        }[self._kind]  # fmt: skip
        if self._kind == "png":  # the folder is part of a pattern, in which %% stands for %
            where = f"{where}/".replace("%", "%%") + _FRAME
        name = str(where) if isinstance(where, str | Path) else where
        extra = EXPERIMENTAL | {"movflags": "+faststart"} if self._kind == "mp4" else {}
        with refusals(f"cannot write {self._name}"):
            self._container = av.open(name, "w", format=container_format, options=extra)
            self._add_stream(codec, pix_fmt, options.crf)
            if self._side is not None:
                self._side.add_streams(self._container)

    def _add_stream(self, codec: str, pix_fmt: str, crf: int) -> None:
        if self._container is None:
            return
        info = self._info
        stream = self._container.add_stream(codec, rate=info.frame_rate)
        if not isinstance(stream, av.VideoStream):
            raise ValueError(f"{codec} is no video codec")
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = info.width, info.height, pix_fmt
        self._tick = info.time_base if self._stamps else 1 / info.frame_rate
        context.time_base = self._tick
        context.sample_aspect_ratio = info.pixel_aspect
        if codec in _CRF_CODECS:
            context.options = {"crf": str(crf)}
        if (
            codec == "libx264" and info.width * info.height > _LARGE
        ):  # else it holds as much as decoding takes
            context.options |= {"rc-lookahead": "10"}
        if codec == "libx265":
            context.options |= {"x265-params": "log-level=error"}
        colour = self._colour
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.colorspace, context.color_range = colour.matrix, colour.range
        if info.rotation and self._kind in _TAGGED:
            stream.set_display_rotation(info.rotation)
        quiet_encoders()
        with same_scheduling():
            context.open()
        self._stream, self._pix_fmt, self._count = stream, pix_fmt, 0
        self._lead: int | None = None  # ticks by which the first packet is decoded early

    @property
    def info(self) -> VideoInfo:
        """The video as it is written."""
        return self._info

    def write(self, frames: np.ndarray) -> None:
        """Append frames uint8 ``[T, H, W, 3]``, as they are stored.

        Raises:
            ValueError: They have another size than the sink.
            VideoError: The codec or the disk refuses them.
        """
        if frames.shape[1:] != (self._given.height, self._given.width, 3):
            raise ValueError(f"frames of {frames.shape[1:]} in a video of another size")
        if self._rotation:
            frames = upright(frames, self._rotation)
        if self._array is not None:
            self._array[self._count : self._count + len(frames)] = frames
            self._count += len(frames)
            return
        for pixels in frames:
            frame = from_rgb(pixels, self._pix_fmt, self._colour)
            frame.pts = self._stamps[self._count] if self._stamps else self._count
            self._count += 1
            self._play(frame.pts * self._tick)
            self._mux(frame)

    def _play(self, until: Fraction | None) -> None:
        """Write the sound that starts before a time; all that is left for None."""
        if self._side is None or self._container is None:
            return
        with refusals(f"cannot write sound to {self._name}"):
            self._side.play(self._container, until)

    def _mux(self, frame: VideoFrame | None) -> None:
        if self._container is None:
            return
        with refusals(f"cannot write {self._name}"):
            packets = self._stream.encode(frame)
            self._tell_the_end(packets, whole=frame is None)
            self._container.mux(packets)

    def _tell_the_end(self, packets: list[AnyPacket], *, whole: bool) -> None:
        """Say in the packets how long the last frame is shown.

        MP4 takes a track's length from the packet that is decoded last, others from the frame shown last.
        """
        if not self._info.last_step or self._kind not in _TAGGED:
            return
        end = round(self._info.times.end / self._tick)
        for packet in packets:
            self._lead = -(packet.dts or 0) if self._lead is None else self._lead
            if packet.pts == (self._stamps[-1] if self._stamps else self._info.num_frames - 1):
                packet.duration = end - packet.pts
        if whole and packets and packets[-1].dts is not None and self._kind == "mp4":
            packets[-1].duration = max(1, end - packets[-1].dts - (self._lead or 0))

    def commit(self) -> None:
        """Finish the file and move it to its place.

        Raises:
            VideoError: The file cannot be finished, or the target has appeared in the meantime.
        """
        if self._array is not None:
            self._array.flush()
            self._array = None
        self._play(None)
        self._mux(None)
        if self._container is not None:
            with refusals(f"cannot write {self._name}"):
                self._container.close()
            self._container = None
        if self._part is not None and isinstance(self._target, Path):
            if self._kind == "png":
                refuse_other_files(self._target, _FRAMES)
            move_into_place(self._part, self._target, self._force)
            self._part = None

    def _discard(self) -> None:
        self._array = None
        if self._container is not None:
            with suppress(av.FFmpegError, OSError):
                self._container.close()
            self._container = None
        if self._part is not None:
            remove(self._part)
            self._part = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or on an error leave nothing behind."""
        try:
            if kind is None:
                self.commit()
        finally:
            self._discard()


def _mapped_array(path: Path, name: str, info: VideoInfo) -> np.memmap:
    """An array of all frames in a file, which takes its room at once: later, a full disk ends the process.

    Raises:
        VideoError: There is no room.
    """
    with refusals(f"cannot write {name}"):
        array = np.lib.format.open_memmap(path, "w+", np.uint8, (info.num_frames, info.height, info.width, 3))
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _stamps(info: VideoInfo) -> list[int]:
    """Time stamp of each frame, empty at a constant rate; no two are equal, containers refuse that."""
    ticks, order = np.array(info.times.ticks, dtype=np.int64), np.arange(len(info.times.ticks))
    rising: list[int] = (np.maximum.accumulate(ticks - order) + order).tolist()
    return rising


def _carried_colour(kind: str, colour: Colour, pix_fmt: str) -> Colour:
    """The tags that a file can carry and that say how its pixels were converted."""
    if kind == "png":
        return Colour()
    if kind == "y4m":
        return Colour(range=colour.range)
    return carried_colour(colour, pix_fmt)


def _codec(kind: str, options: OutputOptions, info: VideoInfo) -> tuple[str, str]:
    """Codec and pixel format; odd sizes cannot be subsampled, so they keep full chroma."""
    codec = options.codec or {"y4m": "wrapped_avframe", "png": "png"}.get(kind, "libx264")
    require_encoder(codec)
    if options.pix_fmt:
        return codec, options.pix_fmt
    if kind == "png":
        return codec, "rgb24"
    if codec == "ffv1":
        return codec, "bgr0"
    odd = info.width % 2 or info.height % 2
    return codec, "yuv444p" if odd or kind == "y4m" else "yuv420p"
