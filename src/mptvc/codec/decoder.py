"""Whole videos out: clips of a file or of a prefix of one to symbols and frames.

Memory does not grow with the length of the video.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from torch import Tensor

from mptvc.codec.coder import ClipCoder, Damaged, Piece
from mptvc.codec.patch_tokens import grid_coder
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
            WeightsError: The weights have no plain grid of tokens.
        """
        coder = grid_coder(self._coder)
        sections = self._sections(clip, self.levels if levels is None else levels)
        return coder.symbols(sections, self.header, clip, self._reporter(clip))

    def pieces(self, clip: int) -> Iterator[Piece]:
        """A clip, piece by piece, with all levels that are there; none where nothing has arrived.

        Raises:
            CorruptPacketError: A section is damaged, without ``best_effort``.
        """
        sections = self._sections(clip, self.levels)
        return self._coder.pieces(sections, self.header, clip, self._reporter(clip))

    def frames(self, clip: int, *, source_size: bool = True) -> Iterator[np.ndarray]:
        """Source frames of one clip, some at a time, uint8 ``[T, H, W, 3]``; errors as for ``pieces``."""

        def shown(piece: Piece) -> np.ndarray:
            return piece.frames(piece.num_levels, source_size=source_size)

        return map(shown, self.pieces(clip))  # which keeps no piece while the next one is decoded

    def _sections(self, clip: int, levels: int) -> list[bytes]:
        """Sections of a clip's first levels, up to one that has not arrived or is damaged."""
        found: list[bytes] = []
        for level in range(levels):
            try:
                section = read_section(self._file, self.header, level, clip)
            except CorruptPacketError as error:
                self._report(error, level, clip)
                break
            if section is None:
                break
            found.append(section)
        return found

    def _reporter(self, clip: int) -> Damaged:
        """What is told of packets of a clip that do not fit."""

        def damaged(level: int, error: ValueError) -> None:
            message, offset = (
                f"{error}, though its checksum is right: {_WRONG_ROWS}",
                self.header.offset(level, clip),
            )
            self._report(CorruptPacketError(message, level=level, clip=clip, offset=offset), level, clip)

        return damaged

    def _report(self, error: CorruptPacketError, level: int, clip: int) -> None:
        if not self._best_effort:
            raise error
        self.damage[level, clip] = error


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
    coder.require_layout(layout)


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
    if not isinstance(levels, int) or not 1 <= levels <= most:
        raise ValueError(f"levels is 1 to {most}, found {levels}")
    return levels
