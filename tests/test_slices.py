"""Sections of slices, and how a closed loop divides a video: by the specification, and what breaks it."""

import struct

import pytest

from mptvc.format.geometry import LoopShots
from mptvc.format.slices import (
    BEFORE,
    CHAIN,
    FRONT_BYTES,
    KINDS,
    LONG_BEFORE,
    MAX_SLICE_GAIN,
    SlicePacket,
    Turn,
    joined,
    keys_of,
    kinds_of,
    split,
    turns,
)

SLICES = [
    SlicePacket(b"first packet", 0, 0),
    SlicePacket(b"", -MAX_SLICE_GAIN, 1),
    SlicePacket(b"3", 5, 2),
]


def test_slices_stand_in_the_file_as_specified() -> None:
    section = joined(SLICES)
    fronts = [struct.pack("<BbI", s.kind, s.gain, len(s.packet)) for s in SLICES]
    assert section == b"".join(front + s.packet for front, s in zip(fronts, SLICES, strict=True))
    assert all(len(front) == FRONT_BYTES for front in fronts)
    assert split(section, len(SLICES)) == SLICES


@pytest.mark.parametrize("kind", [3, 4, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="malformed"):
        split(bytes([kind]) + joined(SLICES)[1:], len(SLICES))


@pytest.mark.parametrize("gain", [MAX_SLICE_GAIN + 1, -MAX_SLICE_GAIN - 1, 127, -128])
def test_a_gain_out_of_range_is_refused(gain: int) -> None:
    section = bytearray(joined(SLICES))
    struct.pack_into("<b", section, 1, gain)
    with pytest.raises(ValueError, match="malformed"):
        split(bytes(section), len(SLICES))


@pytest.mark.parametrize("length", [11, 13, 2**31, 2**32 - 1])
def test_a_length_that_lies_is_refused(length: int) -> None:
    section = bytearray(joined(SLICES))
    struct.pack_into("<I", section, 2, length)
    with pytest.raises(ValueError, match=r"malformed|missing|left over"):
        split(bytes(section), len(SLICES))


def test_every_cut_and_every_other_number_of_slices_is_refused() -> None:
    section = joined(SLICES)
    for size in range(len(section)):
        with pytest.raises(ValueError, match=r"malformed|missing"):
            split(section[:size], len(SLICES))
    for count, message in ((2, "left over"), (4, "missing")):
        with pytest.raises(ValueError, match=message):
            split(section, count)
    with pytest.raises(ValueError, match="left over"):
        split(section + b"\x00", len(SLICES))


@pytest.mark.parametrize("clip_frames", [1, 2, 4, 5, 6, 9, 97])
@pytest.mark.parametrize("lengths", [(1,), (5,), (6,), (97,), (98,), (1, 2, 3, 4, 5, 6), (12, 1, 194)])
def test_every_frame_is_in_one_slice_of_one_clip(lengths: tuple[int, ...], clip_frames: int) -> None:
    shots = LoopShots(lengths, clip_frames)
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    frame = slices = 0
    for clip in range(shots.num_clips):
        frames = shots.frames(clip)
        assert frames.start == frame
        assert 1 <= len(frames) <= clip_frames
        assert not any(frames.start < start < frames.stop for start in starts)
        assert all(shots.clip_at(index) == clip for index in frames)
        sizes = [len(part) for part in shots.slices(clip)]
        assert sum(sizes) == len(frames)
        assert sizes[0] == 1
        assert all(size == 4 for size in sizes[1:-1])
        assert all(1 <= size <= 4 for size in sizes[1:])
        frame, slices = frames.stop, slices + len(sizes)
    assert (frame, slices) == (sum(lengths), shots.num_slices)


def test_turns_are_as_specified() -> None:
    assert turns(CHAIN, 3) == [Turn(0, BEFORE, LONG_BEFORE), Turn(1, 0, BEFORE), Turn(2, 1, 0)]
    assert turns(2, 4) == [
        Turn(3, BEFORE, LONG_BEFORE),
        Turn(1, BEFORE, 3, 1, 3),
        Turn(0, BEFORE, 1, 0, 1),
        Turn(2, 1, 3, 0, 1),
    ]
    assert turns(1, 4) == [
        Turn(1, BEFORE, LONG_BEFORE),
        Turn(0, BEFORE, 1, 0, 1),
        Turn(3, 1, BEFORE),
        Turn(2, 1, 3, 0, 3),
    ]


@pytest.mark.parametrize("kind", range(KINDS))
@pytest.mark.parametrize("count", range(1, 10))
def test_every_frame_has_one_turn_after_those_it_needs(kind: int, count: int) -> None:
    known = {BEFORE, LONG_BEFORE}
    for turn in turns(kind, count):
        assert {turn.near, turn.far} <= known
        assert turn.near < turn.index
        assert turn.is_between == (turn.index not in keys_of(kind, count)) == (turn.far > turn.index)
        assert turn.whole is None or turn.whole in known
        assert turn.apart > 0
        known.add(turn.index)
    assert known == set(range(LONG_BEFORE, count))


def test_slices_are_of_kinds_that_differ() -> None:
    for count in range(1, 10):
        different = {tuple(turns(kind, count)) for kind in range(KINDS)}
        assert different == {tuple(turns(kind, count)) for kind in kinds_of(count)}
        assert len(different) == len(kinds_of(count))
