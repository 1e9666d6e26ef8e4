"""Whole videos, clip by clip: frames in and a file out, a file or a prefix of it in and frames out.

Memory does not grow with the length of the video.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Rational
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Self
from zlib import crc32

import numpy as np
from torch import Tensor

from mptvc.codec.patches import ClipCoder
from mptvc.codec.rate import DEFAULT_RATE, Rate, RateControl
from mptvc.errors import CorruptPacketError, FormatError, LimitExceededError, WeightsError
from mptvc.format.bitstream import MAX_SIDE, read_header, read_section, write_header
from mptvc.format.header import (
    MAX_RATIO,
    Availability,
    Header,
    Section,
    Side,
    VideoInfo,
    availability,
    gains_of,
    header_ratio,
    prefix_name,
)

_SPOOL_BYTES = 2**25
_COPY_BYTES = 2**20


class Compressor:
    """Takes frames one at a time and writes the file at the end; use it in a ``with`` block.

    Packets wait in temporary files, one per level, because the file is level-major.
    """

    def __init__(self, coder: ClipCoder, rate: Rate = DEFAULT_RATE) -> None:
        self._coder, self._patch = coder, coder.config.patch_frames
        self._control = RateControl(rate, len(coder.config.levels))
        self._shots: list[int] = []
        self._buffer: np.ndarray | None = None
        self._filled = self._padding = self._counted_shots = 0
        self._scenes: list[int] = []
        self._sections: list[list[Section]] = [[] for _ in coder.config.levels]
        self._gains: list[list[int]] = [[] for _ in coder.config.levels]
        self._spools = [
            SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - closed by __exit__
            for _ in coder.config.levels
        ]
        self._header: Header | None = None

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> None:
        """Take the next frame, uint8 ``[H, W, 3]``; ``is_cut`` says that it starts a shot."""
        if self._buffer is None:
            self._start(frame)
            is_cut = True
        if is_cut:
            self._pad_shot()
            self._shots.append(0)
        self._shots[-1] += 1
        self._put(frame)

    def _start(self, frame: np.ndarray) -> None:
        video = describe(frame[None], Fraction(25))
        self._header = self._coder.header(video, (1,))
        self._buffer = np.empty((self._coder.config.clip_frames, *frame.shape), dtype=np.uint8)

    def _put(self, frame: np.ndarray) -> None:
        if self._buffer is None:
            raise ValueError("no frame was added")
        if self._filled == len(self._buffer):
            self._flush()
        if frame.shape != self._buffer.shape[1:]:
            raise ValueError(f"a frame of {frame.shape} after frames of {self._buffer.shape[1:]}")
        if self._filled % self._patch == 0:
            self._scenes.append(len(self._shots) - 1)
        self._buffer[self._filled] = frame
        self._filled += 1

    def _pad_shot(self) -> None:
        """Repeat the last frame until the shot fills its last patch."""
        while self._filled % self._patch:
            self._padding += 1
            self._put(self._buffer[self._filled - 1])  # type: ignore[index]

    def _flush(self) -> None:
        if self._buffer is None or self._header is None:
            return
        scenes, frames = tuple(self._scenes), self._buffer[: self._filled]
        overhead = self._header.header_share(len(self._sections[0]), scenes[-1] + 1 - self._counted_shots)
        self._counted_shots = scenes[-1] + 1
        self._control.start_clip(frames[self._padding :].size // 3, overhead)
        levels = self._coder.encode_clip(frames, self._header, scenes, self._control)
        for k, coded in enumerate(levels):
            self._sections[k].append(Section(len(coded.packet), crc32(coded.packet)))
            self._gains[k].append(coded.gain)
            self._spools[k].write(coded.packet)
        self._filled, self._padding, self._scenes = 0, 0, []

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
        if self._header is None or sum(self._shots) != video.frames:
            raise ValueError(f"{sum(self._shots)} frames were added, the video has {video.frames}")
        self._pad_shot()
        self._flush()
        header = replace(
            self._header,
            video=video,
            shots=tuple(self._shots),
            index=tuple(tuple(sections) for sections in self._sections),
            side=None if side_file is None else Side(_measure(side_file), lead_s),
            gains=gains_of(self._gains),
        )
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


class Decompressor:
    """Decodes clips of a file or of a prefix of one.

    Args:
        coder: ClipCoder with the file's weights.
        file: Seekable binary file.
        size_bytes: Bytes that the file holds.
        levels: Levels to decode; by default all that are complete.
        allow_partial: Also use a level's sections where the level is not complete.
        best_effort: Treat damaged sections as missing instead of raising.
        header: The file's header if the caller has read it already.

    Attributes:
        damage: Sections that were found damaged, each once.

    Raises:
        FormatError: The file is damaged, or no level is complete.
        WeightsError: The file was made with other weights.
        ValueError: More levels than the file has.
    """

    def __init__(
        self,
        coder: ClipCoder,
        file: BinaryIO,
        size_bytes: int,
        *,
        levels: int | None = None,
        allow_partial: bool = False,
        best_effort: bool = False,
        header: Header | None = None,
    ) -> None:
        self.header = header or read_header(file)
        self.damage: dict[tuple[int, int], CorruptPacketError] = {}
        self._best_effort = best_effort
        self._coder, self._file, self._partial = coder, file, allow_partial
        require_weights(self.header, coder)
        there = availability(self.header, size_bytes)
        wanted = checked_levels(levels, self.header.levels)
        usable = there.levels + (1 if allow_partial and there.clips else 0)
        if usable == 0 or (levels is not None and wanted > usable):
            raise FormatError(_missing(self.header, there, wanted if levels else 1), offset=size_bytes)
        self.levels = min(wanted, usable)

    def symbols(self, clip: int, levels: int | None = None) -> list[Tensor]:
        """Centred symbols of one clip, for each level that is there, at most ``levels``."""
        found: list[Tensor] = []
        for level in range(self.levels if levels is None else levels):
            try:
                packet = read_section(self._file, self.header, level, clip)
                if packet is None:
                    break
                found.append(self._coder.unpack_level(level, packet, self.header, found, clip))
            except CorruptPacketError as error:
                if not self._best_effort:
                    raise
                self.damage[level, clip] = error
                break
        return found

    def frames(self, clip: int, *, source_size: bool = True) -> np.ndarray:
        """Source frames of one clip, uint8 ``[T, H, W, 3]``; none where nothing has arrived."""
        symbols = self.symbols(clip)
        if not symbols:
            return np.empty((0, self.header.video.height, self.header.video.width, 3), np.uint8)
        coded = self._coder.decode_clip(symbols, self.header, clip, source_size=source_size)
        return coded[self.header.plan(clip).kept]


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
            f"sound and subtitles take {length} bytes, the limit is 4 GiB: leave them out"
        )
    return Section(length, check)


def require_weights(header: Header, coder: ClipCoder) -> None:
    """Check that a file was made with a codec's weights.

    Raises:
        WeightsError: It was not.
        FormatError: It says so, but its geometry is not that of the weights.
    """
    if header.weights_id != coder.weights_id:
        wanted, found = header.weights_id.hex(), coder.weights_id.hex()
        raise WeightsError(
            f"the file needs the weights {wanted}, these are {found}: name the right ones with --weights",
            expected=wanted,
            found=found,
        )
    config = coder.config
    mine = (len(config.levels), config.patch_frames, config.patch_size, config.clip_frames)
    if (header.levels, header.patch_frames, header.patch_size, header.clip_frames) != mine:
        raise FormatError("the header's geometry is not that of the weights it names: the file is forged")


def _missing(header: Header, there: Availability, wanted: int) -> str:
    have = prefix_name(there.levels) if there.levels else "no level"
    share = f"{100 * there.next_share:.0f} % of level {there.levels}"
    needed = f"{prefix_name(wanted)} needs the first {header.prefix_bytes(wanted)} bytes"
    return f"the file is cut: it has {have} complete and {share}; a prefix with {needed}"


def describe(frames: np.ndarray, frame_rate: Fraction | float) -> VideoInfo:
    """Describe frames uint8 ``[T, H, W, 3]``.

    Raises:
        ValueError: They have another shape or dtype, are empty or too large, or the rate is not above zero.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise ValueError(f"frames are uint8 [T, H, W, 3], found {frames.dtype} {frames.shape}")
    count, height, width, _ = frames.shape
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"{width}x{height} is larger than {MAX_SIDE} pixels a side")
    rate = checked_rate(frame_rate)
    return VideoInfo(width, height, count, frame_rate=rate, time_base=1 / rate)


def checked_rate(frame_rate: Fraction | float) -> Fraction:
    """The nearest frame rate that a header can hold.

    Raises:
        ValueError: It is no number, not above zero, or too far from it for a header.
    """
    fits = isinstance(frame_rate, Rational | float) and 0 < frame_rate <= MAX_RATIO
    if not fits or not (rate := header_ratio(Fraction(frame_rate))):
        raise ValueError(f"frame_rate is a number above zero, to {MAX_RATIO}; found {frame_rate!r}")
    return rate


def checked_shots(frames: np.ndarray, shots: Sequence[int] | None) -> tuple[int, ...]:
    """Lengths of the shots; one shot if none are given.

    Raises:
        ValueError: They do not sum to the number of frames.
    """
    shots = (len(frames),) if shots is None else tuple(shots)
    if min(shots, default=0) < 1 or sum(shots) != len(frames):
        raise ValueError(f"shots {shots} do not add up to {len(frames)} frames")
    return shots


def checked_levels(levels: int | None, most: int) -> int:
    """The number of levels to use; all if none is given.

    Raises:
        ValueError: It is not between 1 and ``most``.
    """
    if levels is None:
        return most
    if not 1 <= levels <= most:
        raise ValueError(f"levels is 1 to {most}, found {levels}")
    return levels
