"""Sections of slices, and how a closed loop divides a video: by the specification, and what breaks it."""

import struct

import pytest

from mptvc.format.geometry import LoopShots
from mptvc.format.slices import FRONT_BYTES, MAX_SLICE_GAIN, SlicePacket, joined, split

SLICES = [SlicePacket(b"first packet", 0), SlicePacket(b"", -MAX_SLICE_GAIN), SlicePacket(b"3", 5)]


def test_slices_stand_in_the_file_as_specified() -> None:
    section = joined(SLICES)
    fronts = [b"\x00" + struct.pack("<bI", s.gain, len(s.packet)) for s in SLICES]
    assert section == b"".join(front + s.packet for front, s in zip(fronts, SLICES, strict=True))
    assert all(len(front) == FRONT_BYTES for front in fronts)
    assert split(section, len(SLICES)) == SLICES


@pytest.mark.parametrize("kind", [1, 2, 255])
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
