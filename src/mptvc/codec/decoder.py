"""Whole videos out: clips of a file or of a prefix of one to symbols and frames.

Memory does not grow with the length of the video.
"""

from typing import BinaryIO

import numpy as np
from torch import Tensor

from mptvc.codec.patches import ClipCoder
from mptvc.errors import CorruptPacketError, FormatError, WeightsError
from mptvc.format.bitstream import read_header
from mptvc.format.header import Availability, Header, Layout, availability, prefix_name
from mptvc.format.sections import read_section

_WRONG_ROWS = (
    "the file is forged, or this machine computes the entropy model wrongly; then report `mptvc env`"
)


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
        self._coder, self._file = coder, file
        require_weights(self.header, coder)
        there = availability(self.header, size_bytes)
        wanted = checked_levels(levels, self.header.num_levels)
        usable = there.levels + (1 if allow_partial and there.clips else 0)
        if usable == 0 or (levels is not None and wanted > usable):
            raise FormatError(_missing(self.header, there, wanted if levels else 1), offset=size_bytes)
        self.levels = min(wanted, usable)

    def symbols(self, clip: int, levels: int | None = None) -> list[Tensor]:
        """Centred symbols of a clip, int8 ``[T, h, w, C]`` for each level that is there, at most ``levels``.

        Raises:
            CorruptPacketError: A section is damaged, without ``best_effort``.
        """
        found: list[Tensor] = []
        for level in range(self.levels if levels is None else levels):
            try:
                symbols = self._level(level, clip, found)
            except CorruptPacketError as error:
                if not self._best_effort:
                    raise
                self.damage[level, clip] = error
                break
            if symbols is None:
                break
            found.append(symbols)
        return found

    def _level(self, level: int, clip: int, coarser: list[Tensor]) -> Tensor | None:
        """One level of a clip, None where it has not arrived."""
        packet = read_section(self._file, self.header, level, clip)
        if packet is None:
            return None
        shots = self.header.shots.clip(clip).shots
        try:
            return self._coder.unpack_level(level, packet, coarser, self.header.geometry, shots)
        except ValueError as error:
            message = f"{error}, though its checksum is right: {_WRONG_ROWS}"
            offset = self.header.offset(level, clip)
            raise CorruptPacketError(message, level=level, clip=clip, offset=offset) from error

    def frames(self, clip: int, *, source_size: bool = True) -> np.ndarray:
        """Source frames of one clip, uint8 ``[T, H, W, 3]``; none where nothing has arrived."""
        symbols = self.symbols(clip)
        if not symbols:
            return np.empty((0, self.header.video.height, self.header.video.width, 3), np.uint8)
        return decoded_frames(self._coder, symbols, self.header, clip, source_size=source_size)


def decoded_frames(
    coder: ClipCoder, symbols: list[Tensor], layout: Layout, clip: int, *, source_size: bool = True
) -> np.ndarray:
    """Source frames of one clip, uint8 ``[T, H, W, 3]``, from centred symbols of its first levels."""
    plan, gains = layout.shots.clip(clip), layout.clip_gains(clip)
    coded = coder.decode_clip(symbols, gains, layout.geometry, plan.shots, source_size=source_size)
    return coded[plan.kept]


def require_weights(layout: Layout, coder: ClipCoder) -> None:
    """Check that tokens were made with a codec's weights.

    Raises:
        WeightsError: They were not.
        FormatError: They say so, but their geometry is not that of the weights.
    """
    if layout.weights_id != coder.weights_id:
        wanted, found = layout.weights_id.hex(), coder.weights_id.hex()
        raise WeightsError(
            f"the file needs the weights {wanted}, these are {found}: name the right ones with weights=",
            expected=wanted,
            found=found,
        )
    config, shots = coder.config, layout.shots
    mine = (len(config.levels), config.patch_size, config.patch_frames, config.clip_frames)
    found_geometry = (layout.num_levels, layout.geometry.patch_size, shots.patch_frames, shots.clip_frames)
    if found_geometry != mine:
        raise FormatError("the header's geometry is not that of the weights it names: the file is forged")


def _missing(header: Header, there: Availability, wanted: int) -> str:
    have = prefix_name(there.levels) if there.levels else "no level"
    share = f"{there.percent} % of level {there.levels}"
    needed = f"{prefix_name(wanted)} needs the first {header.prefix_bytes(wanted)} bytes"
    return f"the file is cut: it has {have} complete and {share}; a prefix with {needed}"


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
