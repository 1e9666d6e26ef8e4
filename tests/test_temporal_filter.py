"""What later frames say of an opening key: less noise, and nothing that is not there."""

import pytest
import torch
from test_loop_bits import moved
from torch import Tensor

from mptvc.codec.slice_motion import Pyramid
from mptvc.codec.temporal_filter import filtered
from mptvc.train.loop_fit import default_loop_config

CONFIG = default_loop_config()


def pyramids(frames: Tensor) -> list[Pyramid]:
    return [Pyramid(frame.contiguous(), CONFIG) for frame in frames]


def scene(count: int, speed: float) -> Tensor:
    """Frames uint8 ``[T, 3, 64, 96]`` of a scene that moves."""
    return torch.from_numpy(moved(count, speed, 0.0, side=96)[:, :64]).permute(0, 3, 1, 2)


def noisy(frames: Tensor, most: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    noise = torch.randint(-most, most + 1, frames.shape, generator=rng)
    return (frames + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_noise_is_averaged_where_the_scene_stands_or_moves(speed: float) -> None:
    clean = scene(64, speed).clamp(9, 246)
    frames = noisy(clean, 3)
    result = filtered(pyramids(frames), CONFIG).pictures[-1]
    before, after = ((x.float() - clean[0]).square().mean() for x in (frames[0], result))
    assert after < 0.4 * before


def test_what_only_one_frame_shows_stays() -> None:
    frames = scene(16, 0.0)
    frames[0, :, 16:32, 16:48] = 255 - frames[0, :, 16:32, 16:48]
    result = filtered(pyramids(frames), CONFIG).pictures[-1]
    assert (result.int() - frames[0].int()).abs().max() <= 1


def test_few_frames_say_nothing_and_still_ones_the_same() -> None:
    frames = pyramids(noisy(scene(7, 0.0), 3))
    assert filtered(frames, CONFIG) is frames[0]
    still = pyramids(scene(1, 0.0).expand(40, -1, -1, -1))
    assert torch.equal(filtered(still, CONFIG).pictures[0], still[0].pictures[0])
