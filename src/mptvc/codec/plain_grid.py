"""Plain grids of tokens, which weights without prediction alone have."""

from mptvc.errors import WeightsError
from mptvc.format.geometry import PatchShots
from mptvc.format.header import Layout

#: What is said where a plain grid of tokens is asked for.
NO_GRID = (
    "with prediction a token means something else in every frame, so there is no plain grid of tokens: "
    'encode with weights="tokenizer", or take all arrays of whole files as `mptvc tokens` writes them'
)


def patch_shots(layout: Layout) -> PatchShots:
    """Slices and clips of a layout of patches.

    Raises:
        WeightsError: The layout is that of the other form, which has no plain grid of tokens.
    """
    if not isinstance(layout.shots, PatchShots):
        raise WeightsError(NO_GRID)
    return layout.shots
