"""Bits of files with prediction: no prefix is larger than asked, and a video of some length is not far below.

Each limit stands a little above what the coarsest quantization takes, or far above it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_loop import texture

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.loop_rate import SliceRate, Work, counted
from mptvc.codec.rate import Rate
from mptvc.evaluate.scenes import scene_frames
from mptvc.format.gain import GAIN_OCTAVE
from mptvc.format.slices import MAX_SLICE_GAIN

HEIGHT, WIDTH = 48, 64


def textured(height: int = HEIGHT, width: int = WIDTH, seed: int = 1) -> np.ndarray:
    found: np.ndarray = texture(height, width, seed).permute(1, 2, 0).numpy()
    return found


def pan(count: int, seed: int = 1) -> np.ndarray:
    whole = textured(HEIGHT + count, WIDTH + 2 * count, seed)
    return np.stack([whole[i:, 2 * i :][:HEIGHT, :WIDTH] for i in range(count)])


def soft(count: int) -> np.ndarray:
    """What a camera sees: soft edges, a slow pan, a little noise."""
    whole = F.avg_pool2d(texture(160, 280, seed=3).float()[None], 5, 1)[0].permute(1, 2, 0).numpy()
    frames = np.stack([whole[i // 2 :, i:][:96, :128] for i in range(count)])
    return (frames + np.random.default_rng(1).normal(0, 1.5, frames.shape)).clip(0, 255).astype(np.uint8)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def still(count: int) -> np.ndarray:
    return textured()[None].repeat(count, 0)


def flat(count: int, value: int) -> np.ndarray:
    return np.full((count, HEIGHT, WIDTH, 3), value, np.uint8)


Video = tuple[np.ndarray, tuple[int, ...] | None]
VIDEOS: dict[str, Callable[[], Video]] = {
    "noise": lambda: (noise(6), None),
    "still": lambda: (still(21), None),
    "flat": lambda: (flat(13, 90), None),
    "black, then white": lambda: (np.concatenate([flat(5, 0), flat(9, 255)]), None),
    "one frame": lambda: (still(1), None),
    "one frame of noise": lambda: (noise(1), None),
    "two frames": lambda: (pan(2), None),
    "six frames": lambda: (pan(6), None),
    "a pan": lambda: (pan(17), None),
    "shots": lambda: (np.concatenate([pan(7, seed) for seed in range(3)]), (7, 7, 7)),
    "shots of a frame": lambda: (np.concatenate([pan(1, seed) for seed in range(5)]), (1,) * 5),
    "cuts that nobody saw": lambda: (np.concatenate([pan(9, seed) for seed in range(3)]), None),
    "a tiny picture": lambda: (pan(9)[:, :8, :8], None),
    "one pixel": lambda: (pan(9)[:, :1, :1], None),
}


@pytest.fixture(scope="module")
def long_codec() -> Codec:
    return mptvc.load("codec", device="cpu")


def taken(data: bytes) -> list[float]:
    """Bits per pixel of each prefix."""
    header = mptvc.probe(data).header
    return [header.bpp(level + 1) for level in range(header.num_levels)]


def coarsest(codec: Codec, frames: np.ndarray, shots: tuple[int, ...] | None) -> list[float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SliceRate, "gain", lambda *_, **__: -MAX_SLICE_GAIN)
        return taken(codec.compress(frames, shots=shots))


@pytest.mark.parametrize("name", VIDEOS)
def test_no_prefix_is_larger_than_asked(long_codec: Codec, name: str) -> None:
    frames, shots = VIDEOS[name]()
    least = coarsest(long_codec, frames, shots)
    for factors in ((1.25, 1.25, 1.25), (2, 3, 5)):
        bpp = tuple(factor * bits for factor, bits in zip(factors, least, strict=True))
        found = taken(long_codec.compress(frames, shots=shots, rate=Rate(bpp=bpp)))
        assert all(bits <= most for bits, most in zip(found, bpp, strict=True)), (found, bpp)


@pytest.mark.parametrize(
    "frames",
    [still(20), pan(20), noise(10), np.concatenate([flat(10, 0), flat(5, 255)])],
    ids=["still", "pan", "noise", "flat"],
)
def test_many_short_clips_keep_to_the_limit(loop_codec: Codec, frames: np.ndarray) -> None:
    """All of the same length: a short one at the end costs more a frame than those before it left."""
    least = coarsest(loop_codec, frames, None)
    bpp = tuple(1.3 * bits for bits in least)
    found = taken(loop_codec.compress(frames, rate=Rate(bpp=bpp)))
    assert all(bits <= most for bits, most in zip(found, bpp, strict=True)), (found, bpp)


@pytest.mark.parametrize("bpp", [(0.03, 0.12, 0.5), (0.06, 0.3, 1.2)])
def test_a_video_uses_what_it_may(long_codec: Codec, bpp: tuple[float, ...]) -> None:
    found = taken(long_codec.compress(soft(45), rate=Rate(bpp=bpp)))
    assert all(0.75 * most <= bits <= most for bits, most in zip(found, bpp, strict=True)), found


@pytest.mark.parametrize("has_choice", [False, True])
def test_quality_changes_the_size_of_every_level(
    long_codec: Codec, has_choice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other keys may take less for a little more quality, but not for much more."""
    if not has_choice:
        monkeypatch.setattr("mptvc.codec.clip_encoder.kinds_of", lambda _: range(1))
    sizes = []
    for quality in (-6.0, -3.0, 0.0, 3.0, 6.0) if has_choice else (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0):
        header = mptvc.probe(long_codec.compress(soft(9), rate=Rate(quality=quality))).header
        sizes.append([sum(header.index.lengths(level)) for level in range(3)])
    for level in zip(*sizes, strict=True):
        assert list(level) == sorted(set(level))


def work(frames: int, difference: float) -> Work:
    change = frames * counted(torch.full((6, 8), difference))[None]
    return Work(change, np.zeros_like(change), frames, frames // 4)


def test_what_is_taken_at_any_gain_is_kept_for_those_that_follow() -> None:
    rate = SliceRate(Rate(bpp=(1.0,)), [100.0])
    rate.arrive(8 * 400)
    first, rest = work(4, 3.0), work(16, 3.0)
    rate.note(0, 0, [100], [first])
    most = rate.most(0, [first], rate.left(rest))
    assert first.fixed(0) < most <= 400 - 3 * first.fixed(0)
    assert rate.most(0, [rest], rate.left(rest)) == 400


def test_what_takes_much_at_any_gain_may_take_half_of_what_others_need() -> None:
    """Coarser still, it would be ruined and bits be left over."""
    rate = SliceRate(Rate(bpp=(1.0,)), [100.0])
    rate.arrive(8 * 4000)
    first, rest = work(4, 3.0), work(80, 3.0)
    rate.note(0, 0, [100], [first])
    asked = [rate.most(0, [first], rate.left(rest), fallen) for fallen in (0, 8, 24)]
    free = 4000 - rest.fixed(0)
    assert asked[0] == asked[1] < 0.2 * free < 0.5 * free < asked[2] < 0.6 * free


def test_a_slice_that_takes_more_than_others_says_nothing_of_how_bits_grow_with_gains() -> None:
    rate, dear, left = SliceRate(Rate(bpp=(1.0,)), [100.0]), [work(4, 3.0)], work(16, 3.0)
    for _ in range(3):
        usual = work(4, 3.0)
        rate.note(0, 0, [usual.fixed(0) + 400], [usual])
    for gain, size in ((0, 1600), (-4, 1400)):
        rate.note(0, gain, [dear[0].fixed(0) + size], dear)
    rate.arrive(8 * (left.fixed(0) + 800))
    assert rate.gain(0, rate.left(left), again=True) in range(-50, -20)


def test_calm_and_busy_shots_share_bits_at_one_gain() -> None:
    """What is learned of one shot says what another takes, whose frames differ more."""
    sizes = {difference: SliceRate(Rate(bpp=(1.0,)), [100.0]) for difference in (10.0, 60.0)}
    for difference, rate in sizes.items():
        rate.arrive(8 * 1000)
        mine = work(4, difference)
        rate.note(0, 0, [mine.fixed(0) + 400], [mine])
        assert rate.gain(0, rate.left(mine + mine)) == pytest.approx(0, abs=6)
        harder, easier = (rate.gain(0, rate.left(mine + work(4, other * difference))) for other in (2.0, 0.5))
        assert harder < rate.gain(0, rate.left(mine + mine)) < easier


def test_a_start_in_which_nothing_moves_does_not_take_what_moves_later() -> None:
    """It says nothing of what motion takes; an opening key does."""
    rate, moving = SliceRate(Rate(bpp=(1.0,)), [100.0]), work(16, 30.0)
    opening = Work(np.zeros_like(moving.change), counted(torch.full((6, 8), 8.0))[None], 0, 1)
    start = [opening, work(4, 1.0)]
    rate.note(0, 0, [opening.fixed(0) + 1000, start[1].fixed(0) + 1], start)
    rate.arrive(8 * (moving.fixed(0) + 4000))
    assert rate.gain(0, rate.left(moving), again=True) in range(-20, 20)


@pytest.mark.parametrize("scene", ["slow", "fast"])
@pytest.mark.parametrize("bpp", [(0.03, 0.12, 0.5), (0.06, 0.3, 1.2)])
def test_the_first_gains_are_near_those_that_fit(
    long_codec: Codec, bpp: tuple[float, ...], scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What openings usually take says them before anything was coded: every other try takes as long."""
    tried: dict[int, list[int]] = {0: [], 1: [], 2: []}
    note = SliceRate.note

    def noted(self: SliceRate, level: int, gain: int, sizes: Sequence[int], works: Sequence[Work]) -> None:
        if works[0].texture.any():
            tried[level].append(gain)
        note(self, level, gain, sizes, works)

    monkeypatch.setattr(SliceRate, "note", noted)
    long_codec.compress(scene_frames(scene, 17, 96, 160), rate=Rate(bpp=bpp))
    for gains in tried.values():
        assert len(gains) <= 3
        assert abs(gains[0] - gains[-1]) <= GAIN_OCTAVE


def test_bits_for_another_number_of_levels_are_refused(long_codec: Codec) -> None:
    with pytest.raises(ValueError, match="bits per pixel are 3 numbers"):
        long_codec.compress(still(1), rate=Rate(bpp=(0.1, 0.2)))
