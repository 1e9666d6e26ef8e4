"""The encoder's motion search on pictures whose motion is known."""

import pytest
import torch
import torch.nn.functional as F
from moving import moved_picture
from torch import Tensor

from mptvc.codec.motion_search import Luma, search
from mptvc.model.motion import BLOCK, Reference


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth noise of many sizes, as pictures have it, uint8 ``[3, H, W]``."""
    rng = torch.Generator().manual_seed(seed)
    total = torch.zeros(3, height, width)
    for size in (4, 8, 16, 32):
        grid = torch.randn(1, 3, height // size + 2, width // size + 2, generator=rng)
        total += F.interpolate(grid, size=(height, width), mode="bicubic")[0]
    return (128 + 30 * total).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("motion", [(0, 0), (3, -5), (-17, 9), (24, 31), (-30, -30)])
def test_a_pan_is_found_in_every_block_that_stays_in_sight(motion: tuple[int, int]) -> None:
    whole, (dy, dx) = texture(256, 320), motion
    reference, target = whole[:, 32:224, 32:288], whole[:, 32 + dy : 224 + dy, 32 + dx : 288 + dx]
    vectors = search(Luma(reference), Luma(target)).vectors
    inside = vectors[:, 2:-2, 2:-2]
    assert bool((inside[0] == 4 * dy).all())
    assert bool((inside[1] == 4 * dx).all())


def test_quarters_of_a_pixel_are_found() -> None:
    """The target is what the reference shows a quarter and three quarters of a pixel further."""
    reference = texture(128, 160)
    shifted = torch.tensor([5, -7])[:, None, None].expand(2, 8, 10)
    target = moved_picture(Reference(reference), shifted).to(torch.uint8)
    found = search(Luma(reference), Luma(target)).vectors[:, 1:-1, 1:-1]
    assert (found - shifted[:, 1:-1, 1:-1]).abs().float().mean() < 0.1


def test_an_object_has_a_motion_of_its_own() -> None:
    ground, thing = texture(128, 160, seed=1), texture(48, 48, seed=2)
    reference, target = ground.clone(), ground.clone()
    reference[:, 32:80, 48:96], target[:, 32:80, 64:112] = thing, thing
    vectors = search(Luma(reference), Luma(target)).vectors
    assert bool((vectors[1, 2:5, 4:7] == -16 * 4).all())
    assert not vectors[:, :, 8:].any()


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (48, 32)])
def test_small_pictures_have_a_vector_for_every_block(size: tuple[int, int]) -> None:
    picture = texture(*size)
    vectors = search(Luma(picture), Luma(picture)).vectors
    assert vectors.shape == (2, size[0] // BLOCK, size[1] // BLOCK)
    assert not vectors.any()
