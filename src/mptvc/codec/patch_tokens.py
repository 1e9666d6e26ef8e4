"""Tokens without prediction: a plain grid for each level."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mptvc.codec.coder import ClipCoder, Piece
from mptvc.codec.patches import PatchCoder, Patches
from mptvc.codec.plain_grid import NO_GRID, patch_shots
from mptvc.codec.settings import computing
from mptvc.codec.tokens import TOKENS, Specification, Tokens
from mptvc.errors import WeightsError
from mptvc.format.header import Layout


class PatchTokens:
    """What weights without prediction do with tokens; as `TokenForm`.

    Args:
        coder: The weights.
    """

    def __init__(self, coder: PatchCoder) -> None:
        self._coder = coder

    def specification(self, layout: Layout, level: int) -> Specification:
        """The arrays that a level of a video has."""
        channels = self._coder.config.levels[level].channels
        shape = layout.shots.num_slices, *layout.geometry.grid(level), channels
        return {TOKENS: (torch.uint8, shape)}

    def check(self, level: int, arrays: Mapping[str, Tensor]) -> None:
        """Check that each token is one of its channel's values; as ``TokenForm.check``."""
        values = torch.tensor(self._coder.config.levels[level].values)
        if bool((arrays[TOKENS].cpu() >= values).any()):
            raise ValueError(f"level {level} has a token above its channel's largest value")

    def pieces(self, tokens: Tokens, levels: int, clip: int) -> Iterator[Piece]:
        """A clip in one piece; as ``TokenForm.pieces``."""
        yield Patches(self._coder, self._symbols(tokens, clip)[:levels], tokens.layout, clip)

    def sections(self, tokens: Tokens, clip: int) -> list[bytes]:
        """The sections of a clip; as ``TokenForm.sections``."""
        symbols, plan = self._symbols(tokens, clip), patch_shots(tokens.layout).clip(clip).shots
        return [self._coder.pack_level(k, s, symbols[:k], plan) for k, s in enumerate(symbols)]

    @computing()
    def _symbols(self, tokens: Tokens, clip: int) -> list[Tensor]:
        """Centred symbols of every level of one clip."""
        slices = patch_shots(tokens.layout).slices(clip)
        return [
            self._coder.model.level(k).fsq.from_symbols(
                level[slices.start : slices.stop].to(self._coder.device)
            )
            for k, level in enumerate(tokens.levels)
        ]


def grid_coder(coder: ClipCoder) -> PatchCoder:
    """A coder of weights without prediction, which have a plain grid of tokens.

    Raises:
        WeightsError: The weights are of the other form.
    """
    if not isinstance(coder, PatchCoder):
        raise WeightsError(NO_GRID)
    return coder
