"""Whole videos in: frames as they come, clip by clip, to a file.

Memory does not grow with the length of the video.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Rational
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Protocol, Self
from zlib import crc32

import numpy as np

from mptvc.codec.coder import ClipCoder, CodedSection
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.loop_encoder import LoopEncoder
from mptvc.codec.patch_encoder import PatchEncoder
from mptvc.codec.patches import PatchCoder
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.errors import LimitExceededError
from mptvc.format.bitstream import make_header, write_header
from mptvc.format.header import MAX_RATIO, Header, Index, Layout, Section, Side, VideoInfo, header_ratio
from mptvc.format.rules import MAX_SIDE

_SPOOL_BYTES = 2**25
_COPY_BYTES = 2**20


#: Called with the number of frames that are coded so far.
Told = Callable[[int], None]


class FrameEncoder(Protocol):
    """Codes frames as they come, a clip at a time."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each shot so far."""

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> Sequence[Sequence[CodedSection]]:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot.

        Returns:
            The sections of each clip that is done.

        Raises:
            ValueError: Another shape than the first frame's.
            MptError: A network returned a number that is not finite, or the memory is too small.
        """

    def finish(self) -> Sequence[Sequence[CodedSection]]:
        """Code what is left, and return the sections of each clip."""


def make_encoder(coder: ClipCoder, rate: Rate, told: Told | None = None) -> FrameEncoder:
    """The encoder of the weights' form.

    Args:
        coder: Codes the clips.
        rate: How finely to quantize, or how many bits to use.
        told: Told what is done, which is later than what has come.
    """
    if isinstance(coder, LoopCoder):
        return LoopEncoder(coder, rate, told)
    if isinstance(coder, PatchCoder):
        return PatchEncoder(coder, rate, told)
    raise TypeError(f"{type(coder).__name__} is none of the forms")


class SectionStore:
    """The sections of a video that is being coded; use it in a ``with`` block.

    They wait in temporary files, one for each level, because a file is level-major.
    """

    def __init__(self, num_levels: int) -> None:
        self._sections: list[list[Section]] = [[] for _ in range(num_levels)]
        self._spools = [
            SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - closed by __exit__
            for _ in range(num_levels)
        ]

    def add(self, data: Sequence[bytes]) -> None:
        """Take the sections of the next clip, one for each level."""
        for section, sections, spool in zip(data, self._sections, self._spools, strict=True):
            sections.append(section_of(section))
            spool.write(section)

    def write(
        self, out: BinaryIO, layout: Layout, side_file: BinaryIO | None = None, lead_s: int = 0
    ) -> Header:
        """Write the file.

        Args:
            out: Binary file, written from its current position to the end.
            layout: Describes the video.
            side_file: The side section, a seekable file at its start.
            lead_s: Lead of the side section.

        Raises:
            FormatError: The layout is none that a header can hold.
            LimitExceededError: The header or the side section would be too long.
        """
        side = None if side_file is None else Side(_measure(side_file), lead_s)
        header = make_header(layout, Index.of(self._sections), side)
        out.write(write_header(header))
        for spool in (*([] if side_file is None else [side_file]), *self._spools):
            spool.seek(0)
            while chunk := spool.read(_COPY_BYTES):
                out.write(chunk)
        return header

    def close(self) -> None:
        """Drop the temporary files."""
        for spool in self._spools:
            spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Compressor:
    """Takes frames one at a time and writes the file at the end; use it in a ``with`` block."""

    def __init__(self, coder: ClipCoder, rate: Rate = DEFAULT_RATE, told: Told | None = None) -> None:
        self._coder, self._encoder = coder, make_encoder(coder, rate, told)
        self._store = SectionStore(coder.num_levels)
        self._gains: list[tuple[int, ...]] = []
        self._count = 0

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> None:
        """Take the next frame; as ``FrameEncoder.add``."""
        self._keep(self._encoder.add(frame, is_cut=is_cut))
        self._count += 1

    def finish(
        self, video: VideoInfo, out: BinaryIO, side_file: BinaryIO | None = None, lead_s: int = 0
    ) -> Header:
        """Write the file.

        Args:
            video: Describes the source; its number of frames must be that of the frames added.
            out: Binary file, written from its current position to the end.
            side_file: The side section, a seekable file at its start.
            lead_s: Lead of the side section.

        Raises:
            ValueError: No frame was added, or ``video`` has another number of frames.
        """
        if self._count == 0 or self._count != video.num_frames:
            raise ValueError(f"{self._count} frames were added, the video has {video.num_frames}")
        self._keep(self._encoder.finish())
        layout = self._coder.layout(video, self._encoder.lengths, self._gains)
        return self._store.write(out, layout, side_file, lead_s)

    def _keep(self, clips: Sequence[Sequence[CodedSection]]) -> None:
        for sections in clips:
            self._gains.append(tuple(section.gain for section in sections))
            self._store.add([section.data for section in sections])

    def close(self) -> None:
        """Drop the temporary files."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def section_of(data: bytes) -> Section:
    """Length and CRC-32 of a section."""
    return Section(len(data), crc32(data))


def _measure(file: BinaryIO) -> Section:
    """Length and CRC-32 of a file from its current position on.

    Raises:
        LimitExceededError: It is longer than the format can say.
    """
    length = check = 0
    while chunk := file.read(_COPY_BYTES):
        length, check = length + len(chunk), crc32(chunk, check)
    if length >= 2**32:
        raise LimitExceededError(
            f"sound and subtitles take {length} bytes, the limit is 4 GiB: leave them out with sound=False"
        )
    return Section(length, check)


def describe(frames: np.ndarray, frame_rate: Fraction | float) -> VideoInfo:
    """Describe frames uint8 ``[T, H, W, 3]``.

    Raises:
        ValueError: They are too large, or the rate is not above zero.
    """
    count, height, width, _ = frames.shape
    return describe_size(count, height, width, frame_rate)


def describe_size(count: int, height: int, width: int, frame_rate: Fraction | float) -> VideoInfo:
    """Describe so many frames of a size.

    Raises:
        ValueError: A number is out of range.
    """
    if min(count, height, width) < 1 or max(height, width) > MAX_SIDE:
        raise ValueError(
            f"frames with sides of 1 to {MAX_SIDE} pixels are needed, found {count} of {width}x{height}"
        )
    rate = checked_rate(frame_rate)
    return VideoInfo(width, height, count, frame_rate=rate, time_base=1 / rate)


def checked_rate(frame_rate: Fraction | float) -> Fraction:
    """The nearest frame rate that a header can hold.

    Raises:
        ValueError: It is no number, not above zero, or too far from it for a header.
    """
    fits = isinstance(frame_rate, Rational | float) and 0 < frame_rate <= MAX_RATIO
    if not fits or not (rate := header_ratio(Fraction(frame_rate))):
        raise ValueError(f"frame_rate is a number above 0, at most {MAX_RATIO}; found {frame_rate!r}")
    return rate


def checked_lengths(lengths: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Lengths of the shots of so many frames; one shot if none are given.

    Raises:
        ValueError: They do not sum to the number of frames.
    """
    lengths = (count,) if lengths is None else tuple(lengths)
    if min(lengths, default=0) < 1 or sum(lengths) != count:
        raise ValueError(f"shots {lengths} do not add up to {count} frames")
    return lengths
