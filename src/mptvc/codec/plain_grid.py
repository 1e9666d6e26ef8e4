"""Plain grids of tokens, which weights without prediction alone have."""

from mptvc.errors import WeightsError
from mptvc.format.geometry import PatchShots
from mptvc.format.header import Layout

#: What is said where a plain grid of tokens is asked for.
NO_GRID = 'weights with prediction have no plain grid of tokens: encode with weights="tokenizer"'


def patch_shots(layout: Layout) -> PatchShots:
    """Slices and clips of a layout of patches.

    Raises:
        WeightsError: The layout is that of the other form, which has no plain grid of tokens.
    """
    if not isinstance(layout.shots, PatchShots):
        raise WeightsError(NO_GRID)
    return layout.shots
