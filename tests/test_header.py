"""Geometry that follows from a header: clips, shots, token grids, offsets, prefixes."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mptvc.format.bitstream import write_header
from mptvc.format.geometry import TileGrid
from mptvc.format.header import Availability, Header, Section, VideoInfo, availability


def make(
    shots: tuple[int, ...] = (11,),
    *,
    size: tuple[int, int] = (70, 50),
    levels: int = 3,
    patch_frames: int = 4,
    clip_frames: int = 32,
    time_steps: tuple[int, ...] = (),
    lengths: tuple[tuple[int, ...], ...] = (),
) -> Header:
    """A header of a video of ``size`` (width, height) with sections of the given lengths."""
    rate = Fraction(25)
    return Header(
        video=VideoInfo(*size, sum(shots), frame_rate=rate, time_base=1 / rate, time_steps=time_steps),
        shots=shots,
        patch_frames=patch_frames,
        patch_size=8,
        clip_frames=clip_frames,
        tiles=(TileGrid(1, 1, 0),) * levels,
        entropy_id=b"e" * 32,
        weights_id=b"w" * 32,
        index=tuple(tuple(Section(length, 0) for length in level) for level in lengths),
    )


@st.composite
def videos(draw: st.DrawFn) -> Header:
    """Headers of any shots, frames in a patch and frames in a clip."""
    patch_frames = draw(st.integers(1, 16))
    return make(
        tuple(draw(st.lists(st.integers(1, 70), min_size=1, max_size=12))),
        patch_frames=patch_frames,
        clip_frames=patch_frames * draw(st.integers(1, 256 // patch_frames)),
    )


def shot_of(header: Header, frame: int) -> int:
    """The shot of a source frame, by counting."""
    return next(i for i in range(len(header.shots)) if frame < sum(header.shots[: i + 1]))


SETTINGS = settings(deadline=None, max_examples=150)


# Clips


def test_plan_pads_each_shot_by_its_last_frame() -> None:
    header = make((6, 5), clip_frames=12)
    first, second = header.plan(0), header.plan(1)
    assert first.frames == (0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9)
    assert first.scenes == (0, 0, 1)
    assert first.kept == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert second.frames == (10, 10, 10, 10)
    assert second.scenes == (1,)
    assert second.kept == [0]
    assert (header.slices, header.clips) == (4, 2)


@given(videos())
@SETTINGS
def test_kept_frames_are_every_source_frame_once_in_order(header: Header) -> None:
    plans = [header.plan(clip) for clip in range(header.clips)]
    kept = [plan.frames[i] for plan in plans for i in plan.kept]
    assert kept == list(range(header.video.frames))


@given(videos())
@SETTINGS
def test_no_patch_mixes_shots(header: Header) -> None:
    for clip in range(header.clips):
        plan = header.plan(clip)
        for position, scene in enumerate(plan.scenes):
            patch = plan.frames[position * header.patch_frames : (position + 1) * header.patch_frames]
            assert len(patch) == header.patch_frames
            assert {shot_of(header, frame) for frame in patch} == {scene}


@given(videos())
@SETTINGS
def test_padding_repeats_the_last_frame_of_its_shot(header: Header) -> None:
    last = {sum(header.shots[: i + 1]) - 1 for i in range(len(header.shots))}
    for clip in range(header.clips):
        plan = header.plan(clip)
        padding = set(range(len(plan.frames))) - set(plan.kept)
        assert all(plan.frames[i] == plan.frames[i - 1] and plan.frames[i] in last for i in padding)


@given(videos())
@SETTINGS
def test_every_clip_but_the_last_is_full(header: Header) -> None:
    sizes = [len(header.plan(clip).frames) for clip in range(header.clips)]
    assert sizes[:-1] == [header.clip_frames] * (header.clips - 1)
    assert 0 < sizes[-1] <= header.clip_frames
    assert sum(sizes) == header.slices * header.patch_frames


@given(videos())
@SETTINGS
def test_clip_at_is_the_clip_whose_plan_has_the_frame(header: Header) -> None:
    for clip in range(header.clips):
        assert {header.clip_at(frame) for frame in header.plan(clip).frames} == {clip}


def test_clips_at_the_end_of_a_hundred_thousand_shots() -> None:
    header = make((1,) * 100_000)
    assert header.clips == 12_500
    assert header.plan(12_499).scenes == tuple(range(99_992, 100_000))
    assert header.clip_at(99_992) == 12_499


# Token grids


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((1, 1), [(1, 1), (2, 2), (4, 4)]),
        ((32, 32), [(1, 1), (2, 2), (4, 4)]),
        ((33, 32), [(1, 2), (2, 4), (4, 8)]),
        ((863, 479), [(15, 27), (30, 54), (60, 108)]),
        ((865, 481), [(16, 28), (32, 56), (64, 112)]),
        ((1080, 1920), [(60, 34), (120, 68), (240, 136)]),
        ((3840, 2160), [(68, 120), (136, 240), (272, 480)]),
    ],
)
def test_grid_covers_the_padded_picture(size: tuple[int, int], grids: list[tuple[int, int]]) -> None:
    """Sizes are (width, height), grids (height, width); three levels of 8 x 8 pixels."""
    header = make(size=size)
    assert [header.grid(level) for level in range(3)] == grids


@pytest.mark.parametrize(
    ("size", "grid"), [((1, 1), (1, 1)), ((863, 479), (60, 108)), ((865, 481), (61, 109))]
)
def test_single_level_pads_to_whole_patches(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert make(size=size, levels=1).grid(0) == grid


@given(st.integers(1, 2**16), st.integers(1, 2**16), st.integers(1, 8))
@SETTINGS
def test_each_level_has_twice_the_tokens_of_the_one_before(width: int, height: int, levels: int) -> None:
    header = make(size=(width, height), levels=levels)
    grids = [header.grid(level) for level in range(levels)]
    assert all(fine == (2 * coarse[0], 2 * coarse[1]) for coarse, fine in pairwise(grids))
    tokens_high, tokens_wide = grids[-1]
    block = 8 * 2 ** (levels - 1)
    assert 0 <= 8 * tokens_high - height < block
    assert 0 <= 8 * tokens_wide - width < block


# Sizes and offsets


@given(videos(), st.integers(1, 8), st.booleans(), st.integers(0, 2**32))
@SETTINGS
def test_size_is_that_of_the_written_header(video: Header, levels: int, stamped: bool, seed: int) -> None:
    rng = random.Random(seed)
    header = make(
        video.shots,
        levels=levels,
        patch_frames=video.patch_frames,
        clip_frames=video.clip_frames,
        time_steps=tuple(rng.getrandbits(32) for _ in range(video.video.frames)) if stamped else (),
        lengths=tuple(tuple(rng.getrandbits(32) for _ in range(video.clips)) for _ in range(levels)),
    )
    assert header.size_bytes == len(write_header(header))


LENGTHS = ((5, 3, 0, 2), (1, 0, 4, 6), (7, 8, 2, 0))


@pytest.fixture
def small() -> Header:
    """Three levels of four clips, some sections empty."""
    return make((7, 5), clip_frames=4, lengths=LENGTHS)


def test_sections_follow_each_other_level_by_level(small: Header) -> None:
    places = [(level, clip) for level in range(3) for clip in range(4)]
    at = len(write_header(small))
    for level, clip in places:
        assert small.offset(level, clip) == at
        at += LENGTHS[level][clip]
    assert [small.prefix_bytes(k) - small.size_bytes for k in range(4)] == [0, 10, 21, 38]


def test_availability_at_every_prefix_length(small: Header) -> None:
    """Compare with counting sections whose last byte is there."""
    start = small.size_bytes
    for size in range(start, start + 38 + 3):
        left, levels = size - start, 0
        while levels < 3 and sum(LENGTHS[levels]) <= left:
            left -= sum(LENGTHS[levels])
            levels += 1
        if levels == 3:
            expected = Availability(3, 0, 1.0)
        else:
            row = LENGTHS[levels]
            clips = sum(sum(row[: i + 1]) <= left for i in range(4))
            expected = Availability(levels, clips, left / sum(row))
        assert availability(small, size) == expected


@given(st.integers(1, 10**6), st.data())
def test_per_cent_of_a_level_is_rounded_down(length: int, data: st.DataObject) -> None:
    header = make(levels=2, lengths=((length,), (4,)))
    there = data.draw(st.integers(0, length - 1) | st.just(length - 1))
    assert availability(header, header.size_bytes + there).percent == 100 * there // length


def test_only_a_whole_file_is_100_per_cent(small: Header) -> None:
    sizes = range(small.size_bytes, small.prefix_bytes(3))
    assert all(availability(small, size).percent < 100 for size in sizes)
    assert availability(small, small.prefix_bytes(3)).percent == 100
    assert Availability(0, 0, 1 - 2**-53).percent == 99


def test_nothing_is_available_before_the_header_ends(small: Header) -> None:
    for size in range(small.size_bytes):
        assert availability(small, size) == Availability(0, 0, 0.0)
