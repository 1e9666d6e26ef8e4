"""Geometry that follows from a header: clips, shots, token grids, offsets, prefixes."""

import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mptvc.format.bitstream import header_share, make_header, write_header
from mptvc.format.geometry import Geometry, PatchShots, TileGrid
from mptvc.format.header import Availability, Header, Index, Layout, Section, VideoInfo, availability


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
    layout = Layout(
        video=VideoInfo(*size, sum(shots), frame_rate=rate, time_base=1 / rate, time_steps=time_steps),
        geometry=Geometry(*size, patch_size=8, tiles=(TileGrid(1, 1, 0),) * levels),
        shots=PatchShots(shots, clip_frames, patch_frames),
        entropy_id=b"e" * 32,
        weights_id=b"w" * 32,
    )
    lengths = lengths or ((0,) * layout.shots.num_clips,) * levels
    return make_header(layout, Index.of([[Section(length, 0) for length in level] for level in lengths]))


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
    return next(i for i in range(len(header.shots.lengths)) if frame < sum(header.shots.lengths[: i + 1]))


SETTINGS = settings(deadline=None, max_examples=150)


# Clips


def test_plan_pads_each_shot_by_its_last_frame() -> None:
    header = make((6, 5), clip_frames=12)
    first, second = header.shots.clip(0), header.shots.clip(1)
    assert first.frames == (0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9)
    assert first.shots == (0, 0, 1)
    assert first.kept == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert second.frames == (10, 10, 10, 10)
    assert second.shots == (1,)
    assert second.kept == [0]
    assert (header.shots.num_slices, header.shots.num_clips) == (4, 2)


@given(videos())
@SETTINGS
def test_kept_frames_are_every_source_frame_once_in_order(header: Header) -> None:
    plans = [header.shots.clip(clip) for clip in range(header.shots.num_clips)]
    kept = [[plan.frames[i] for i in plan.kept] for plan in plans]
    assert [frame for frames in kept for frame in frames] == list(range(header.video.num_frames))
    assert [list(header.shots.frames(clip)) for clip in range(len(plans))] == kept


@given(videos())
@SETTINGS
def test_no_patch_mixes_shots(header: Header) -> None:
    for clip in range(header.shots.num_clips):
        plan = header.shots.clip(clip)
        for position, shot in enumerate(plan.shots):
            patch = plan.frames[
                position * header.shots.patch_frames : (position + 1) * header.shots.patch_frames
            ]
            assert len(patch) == header.shots.patch_frames
            assert {shot_of(header, frame) for frame in patch} == {shot}


@given(videos())
@SETTINGS
def test_padding_repeats_the_last_frame_of_its_shot(header: Header) -> None:
    last = {sum(header.shots.lengths[: i + 1]) - 1 for i in range(len(header.shots.lengths))}
    for clip in range(header.shots.num_clips):
        plan = header.shots.clip(clip)
        padding = set(range(len(plan.frames))) - set(plan.kept)
        assert all(plan.frames[i] == plan.frames[i - 1] and plan.frames[i] in last for i in padding)


@given(videos())
@SETTINGS
def test_every_clip_but_the_last_is_full(header: Header) -> None:
    sizes = [len(header.shots.clip(clip).frames) for clip in range(header.shots.num_clips)]
    assert sizes[:-1] == [header.shots.clip_frames] * (header.shots.num_clips - 1)
    assert 0 < sizes[-1] <= header.shots.clip_frames
    assert sum(sizes) == header.shots.num_slices * header.shots.patch_frames


@given(videos())
@SETTINGS
def test_clip_at_is_the_clip_whose_plan_has_the_frame(header: Header) -> None:
    for clip in range(header.shots.num_clips):
        assert {header.shots.clip_at(frame) for frame in header.shots.clip(clip).frames} == {clip}


def test_clips_at_the_end_of_a_hundred_thousand_shots() -> None:
    header = make((1,) * 100_000)
    assert header.shots.num_clips == 12_500
    assert header.shots.clip(12_499).shots == tuple(range(99_992, 100_000))
    assert header.shots.clip_at(99_992) == 12_499


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
    assert [header.geometry.grid(level) for level in range(3)] == grids


@pytest.mark.parametrize(
    ("size", "grid"), [((1, 1), (1, 1)), ((863, 479), (60, 108)), ((865, 481), (61, 109))]
)
def test_single_level_pads_to_whole_patches(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert make(size=size, levels=1).geometry.grid(0) == grid


@given(st.integers(1, 2**16), st.integers(1, 2**16), st.integers(1, 8))
@SETTINGS
def test_each_level_has_twice_the_tokens_of_the_one_before(width: int, height: int, levels: int) -> None:
    header = make(size=(width, height), levels=levels)
    grids = [header.geometry.grid(level) for level in range(levels)]
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
        video.shots.lengths,
        levels=levels,
        patch_frames=video.shots.patch_frames,
        clip_frames=video.shots.clip_frames,
        time_steps=(0, *(rng.getrandbits(32) for _ in range(video.video.num_frames - 1))) if stamped else (),
        lengths=tuple(
            tuple(rng.getrandbits(32) for _ in range(video.shots.num_clips)) for _ in range(levels)
        ),
    )
    assert header.size_bytes == len(write_header(header))


@given(videos(), st.integers(1, 8))
@SETTINGS
def test_shares_of_the_clips_make_up_the_written_header(video: Header, levels: int) -> None:
    """What rate control is told of the header, clip by clip, is what the writer writes."""
    header = make(
        video.shots.lengths,
        levels=levels,
        patch_frames=video.shots.patch_frames,
        clip_frames=video.shots.clip_frames,
    )
    header = replace(header, gains=((1,) * header.shots.num_clips,) * levels)
    shots = [video.shots.clip(clip).shots for clip in range(video.shots.num_clips)]
    new = [after[-1] - before[-1] for before, after in pairwise([(-1,), *shots])]
    shares = [header_share(levels, count, is_first=clip == 0) for clip, count in enumerate(new)]
    assert sum(shares) == len(write_header(header))


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
