"""Files of weights with prediction: every length and size, prefixes, cuts, random access, damage, forgery."""

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from textwrap import dedent
from zlib import crc32

import numpy as np
import pytest
import torch
from patterns import moving, write_video
from test_forged import CLAIMS, LIMITED, forged, packets_of
from torch import Tensor

import mptvc
import mptvc.codec.loop
import mptvc.codec.slices
from mptvc.codec.codec import Codec
from mptvc.errors import CorruptPacketError
from mptvc.format.bitstream import make_header, write_header
from mptvc.format.geometry import LoopShots
from mptvc.format.header import Header, Index, Section
from mptvc.format.slices import CHAIN, KINDS, SlicePacket, joined, split
from mptvc.model.exchange import NUMBERS
from mptvc.model.loop_model import LoopLevel
from mptvc.model.motion import camera_vectors
from mptvc.model.prediction import FROM_FAR, References, any_of, predicted
from mptvc.model.side_symbols import BLENDS, CHOICES, FARTHEST, Known, Side, parent_coefficients

SIZES = [(1, 1), (1, 40), (33, 17), (64, 48)]
#: With a cut before the sixth frame and others around it; a clip has at most five frames.
SHOTS = (5, 1, 6)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return moving(sum(SHOTS), 17, 33)


@pytest.fixture(scope="module")
def file(loop_codec: Codec, video: np.ndarray) -> bytes:
    return loop_codec.compress(video, shots=SHOTS)


def slices_of(header: Header, sections: list[list[bytes]]) -> list[list[list[SlicePacket]]]:
    """The slices of each level and clip."""
    shots = header.shots
    assert isinstance(shots, LoopShots)
    return [[split(s, len(shots.slices(clip))) for clip, s in enumerate(level)] for level in sections]


# Every length and size


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_number_of_frames_comes_back(loop_codec: Codec, size: tuple[int, int]) -> None:
    width, height = size
    for count in range(1, 13):
        frames = moving(count, height, width)
        found = loop_codec.decompress(loop_codec.compress(frames))
        assert (found.frames.shape, found.levels, found.complete) == (frames.shape, 3, True)


def test_clips_of_any_length_give_every_frame(video: np.ndarray) -> None:
    for clip_frames in (1, 2, 6, 97):
        codec = mptvc.load("codec", device="cpu", clip_frames=clip_frames)
        header = mptvc.probe(data := codec.compress(video)).header
        assert (header.shots.clip_frames, header.shots.lengths) == (clip_frames, (len(video),))
        assert codec.decompress(data).frames.shape == video.shape


def test_a_file_of_any_clip_length_is_read_by_every_codec(file: bytes, loop_codec: Codec) -> None:
    expected = loop_codec.decompress(file).frames
    for codec in (mptvc.load("codec", device="cpu"), mptvc.load(device="cpu")):
        assert np.array_equal(codec.decompress(file).frames, expected)


@pytest.mark.parametrize("shots", [(1, 2, 3, 4, 5, 6), (6, 5, 1, 1)], ids=str)
def test_frames_in_any_order_are_those_of_the_whole_video(loop_codec: Codec, shots: tuple[int, ...]) -> None:
    data = loop_codec.compress(moving(sum(shots), 17, 33), shots=shots)
    assert mptvc.probe(data).header.shots.lengths == shots
    for levels in (1, 3):
        expected = loop_codec.decompress(data, levels=levels).frames
        order = 2 * list(range(len(expected)))
        random.Random(levels).shuffle(order)
        with mptvc.VideoReader(data, levels=levels, codec=loop_codec) as reader:
            for index in order:
                assert np.array_equal(reader[index], expected[index])
            assert np.array_equal(reader[:], expected)


@pytest.mark.parametrize(("width", "height", "count"), [(1, 1, 2), (33, 17, 12), (64, 48, 6)])
def test_video_files_come_back_as_from_memory(
    tmp_path: Path, loop_codec: Codec, width: int, height: int, count: int
) -> None:
    source = write_video(tmp_path / "in.mkv", moving(count, height, width))
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=loop_codec)
    for levels in (1, 2, 3):
        target = tmp_path / f"{levels}.npy"
        report = mptvc.decode_file(tmp_path / "a.mpt", target, codec=loop_codec, levels=levels)
        assert (report.video.num_frames, report.complete) == (count, levels == 3)
        expected = loop_codec.decompress((tmp_path / "a.mpt").read_bytes(), levels=levels).frames
        assert np.array_equal(np.load(target), expected)


def test_some_seconds_of_a_file_are_those_frames(tmp_path: Path, loop_codec: Codec, file: bytes) -> None:
    expected = loop_codec.decompress(file).frames
    for first, last in ((0, 1), (3, 8), (6, 12), (11, 12)):
        mptvc.decode_file(
            file, tmp_path / "out.npy", codec=loop_codec, start=first / 25, duration=(last - first) / 25,
            force=True,
        )  # fmt: skip
        assert np.array_equal(np.load(tmp_path / "out.npy"), expected[first:last])


def test_frames_that_are_written_one_by_one_make_the_same_file(
    tmp_path: Path, loop_codec: Codec, video: np.ndarray
) -> None:
    with mptvc.VideoWriter(tmp_path / "a.mpt", codec=loop_codec, shot_threshold=None) as writer:
        for frame in video:
            writer.add(frame)
    assert (tmp_path / "a.mpt").read_bytes() == loop_codec.compress(video)


# Prefixes


def test_a_prefix_gives_what_the_whole_file_gives_at_its_levels(
    tmp_path: Path, loop_codec: Codec, file: bytes
) -> None:
    for levels in (1, 2, 3):
        mptvc.truncate(file, tmp_path / "part.mpt", levels=levels, force=True)
        part = (tmp_path / "part.mpt").read_bytes()
        assert part == file[: len(part)]
        found, whole = loop_codec.decompress(part), loop_codec.decompress(file, levels=levels)
        assert found.levels == levels
        assert np.array_equal(found.frames, whole.frames)
        digests = mptvc.symbol_digests(part, codec=loop_codec)
        assert digests == mptvc.symbol_digests(file, codec=loop_codec)[:levels]


def test_clips_that_have_arrived_are_shown_with_allow_partial(
    tmp_path: Path, loop_codec: Codec, file: bytes
) -> None:
    """Of four clips two have their second level."""
    header, target = mptvc.probe(file).header, tmp_path / "out.npy"
    cut = file[: header.offset(1, 2)]
    mptvc.decode_file(cut, target, codec=loop_codec, allow_partial=True)
    coarse, fine = (loop_codec.decompress(file, levels=k).frames for k in (1, 2))
    split_at = header.shots.frames(2).start
    assert np.array_equal(np.load(target), np.concatenate([fine[:split_at], coarse[split_at:]]))


# Cuts


def test_another_shot_changes_neither_a_byte_nor_a_pixel(loop_codec: Codec, video: np.ndarray) -> None:
    rng, swapped = np.random.default_rng(1), video.copy()
    swapped[5:6] = rng.integers(0, 256, swapped[5:6].shape, dtype=np.uint8)
    one, other = (loop_codec.compress(frames, shots=SHOTS) for frames in (video, swapped))
    (header, mine), (_, theirs) = packets_of(one), packets_of(other)
    for level, clip in product(range(3), range(header.shots.num_clips)):
        assert (mine[level][clip] == theirs[level][clip]) == (header.shots.frames(clip).start != 5)
    for levels in (1, 2, 3):
        ours, found = (loop_codec.decompress(data, levels=levels).frames for data in (one, other))
        assert np.array_equal(ours[:5], found[:5])
        assert np.array_equal(ours[6:], found[6:])
        assert not np.array_equal(ours[5], found[5])


# Damage and forgery


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("slice_", [0, 1])
def test_what_does_not_fit_falls_back_to_what_does(
    tmp_path: Path, loop_codec: Codec, file: bytes, level: int, slice_: int
) -> None:
    """A packet of the third clip, which has two slices, is another one; its checksum is right."""
    header, sections = packets_of(file)
    slices = slices_of(header, sections)
    clip = slices[level][2]
    clip[slice_] = replace(clip[slice_], packet=bytes(range(1, 9)))
    sections[level][2] = joined(clip)
    data, target = forged(header, sections), tmp_path / "out.npy"
    with pytest.raises(CorruptPacketError, match=f"level {level}, clip 2"):
        loop_codec.decompress(data)
    report = mptvc.decode_file(data, target, codec=loop_codec, best_effort=True)
    assert not report.complete
    assert [(d.level, d.clip) for d in report.damage if isinstance(d, CorruptPacketError)] == [(level, 2)]
    expected = loop_codec.decompress(file).frames
    bad = slice(header.shots.frames(2).start + slice_, header.shots.frames(2).stop)
    if level:
        expected[bad] = loop_codec.decompress(file, levels=level).frames[bad]
    else:
        expected[bad] = expected[bad.start - 1]
    assert np.array_equal(np.load(target), expected)


def test_a_section_that_is_damaged_is_left_out(tmp_path: Path, loop_codec: Codec, file: bytes) -> None:
    header, target = mptvc.probe(file).header, tmp_path / "out.npy"
    damaged = bytearray(file)
    damaged[header.offset(2, 1) + 3] ^= 4
    report = mptvc.decode_file(bytes(damaged), target, codec=loop_codec, best_effort=True)
    assert len(report.damage) == 1
    expected, bad = loop_codec.decompress(file).frames, header.shots.frames(1)
    expected[bad.start : bad.stop] = loop_codec.decompress(file, levels=2).frames[bad.start : bad.stop]
    assert np.array_equal(np.load(target), expected)


def outcome(codec: Codec, data: bytes) -> np.ndarray | None:
    """Frames, None for a refusal; anything else fails the test."""
    try:
        return codec.decompress(data).frames
    except mptvc.FormatError:
        return None


def test_flipped_bits_with_right_checksums_are_refused_or_shown(loop_codec: Codec) -> None:
    frames = moving(2, 8, 8)
    header, sections = packets_of(loop_codec.compress(frames))
    for level in range(3):
        section = sections[level][0]
        for bit in range(level, 8 * len(section), 3):
            flipped = bytearray(section)
            flipped[bit // 8] ^= 1 << bit % 8
            changed = [[bytes(flipped)] if k == level else sections[k] for k in range(3)]
            found = outcome(loop_codec, forged(header, changed))
            assert found is None or found.shape == frames.shape


def test_random_packets_are_refused_or_shown(loop_codec: Codec) -> None:
    rng, frames = np.random.default_rng(2), moving(6, 16, 24)
    header, sections = packets_of(loop_codec.compress(frames))
    for _ in range(80):
        slices = slices_of(header, sections)
        for level, clip in zip(rng.integers(3, size=2), rng.integers(2, size=2), strict=True):
            place = slices[level][clip]
            words = rng.integers(0, 256, 4 * int(rng.integers(0, 50)), dtype=np.uint8).tobytes()
            place[int(rng.integers(len(place)))] = SlicePacket(
                words, int(rng.integers(-96, 97)), int(rng.integers(KINDS))
            )
        changed = [[joined(clip) for clip in level] for level in slices]
        found = outcome(loop_codec, forged(header, changed))
        assert found is None or found.shape == frames.shape


@pytest.mark.parametrize("gain", [-96, 96])
def test_pictures_of_any_gain_are_pictures(loop_codec: Codec, file: bytes, gain: int) -> None:
    """Symbols of another step than the encoder's are as many pixels above 255 or below 0."""
    tokens = loop_codec.unpack(file)
    predictions = tuple(replace(p, gains=torch.full_like(p.gains, gain)) for p in tokens.predictions)
    packed = loop_codec.pack(replace(tokens, predictions=predictions))
    assert {s.gain for level in slices_of(*packets_of(packed)) for clip in level for s in clip} == {gain}
    found = outcome(loop_codec, packed)
    assert found is not None
    assert len(found) == sum(SHOTS)


@pytest.mark.parametrize("gain", [-96, 96])
def test_a_gain_that_is_not_the_encoders_is_refused(loop_codec: Codec, file: bytes, gain: int) -> None:
    """Pixels and steps say under which rows symbols are, so these are others."""
    header, sections = packets_of(file)
    slices = slices_of(header, sections)
    lied = [[joined([replace(s, gain=gain) for s in clip]) for clip in level] for level in slices]
    assert outcome(loop_codec, forged(header, lied)) is None


def wild_plan(seed: int) -> Callable[..., Side]:
    """Plans of an encoder that points as far away as packets can say, and predicts in every way."""
    rng = torch.Generator().manual_seed(seed)

    def planned(
        level: LoopLevel,
        picture: Tensor,
        base: Tensor,
        references_on: Callable[[Tensor], References],
        known: Known,
        vectors: Sequence[Tensor],
        camera: Tensor,
        steps: Tensor,
    ) -> Side:
        ends = torch.tensor([-NUMBERS // 2, NUMBERS // 2 - 1, 0])
        grid = steps.shape[0], steps.shape[1]
        coefficients = parent_coefficients(known.parent, grid)
        if coefficients is None or known.likely is not None:
            coefficients = ends[torch.randint(3, (2, 3), generator=rng)]
        moved = camera_vectors(coefficients, *grid)
        choices = torch.randint(CHOICES, grid, generator=rng)
        own = moved + FARTHEST * (2 * torch.randint(2, (2, *grid), generator=rng) - 1)
        still, parent = torch.zeros_like(moved), known.line_on(moved)
        fields = torch.stack([moved, still, own, parent, moved])
        found = fields.gather(0, (choices // BLENDS).expand(1, 2, *grid))[0]
        return Side(choices, found, coefficients)

    return planned


def possible_plan(seed: int) -> Callable[..., Side]:
    """The same, of a decoder that has one picture only where there is one."""
    wild = wild_plan(seed)

    def planned(*given: object) -> Side:
        side, references_on = wild(*given), given[3]
        assert callable(references_on)
        if references_on(side.coefficients).far is None:  # what lies beyond is asked of none
            lost = any_of(side.blends, FROM_FAR)
            side = replace(side, choices=torch.where(lost, side.choices // BLENDS * BLENDS, side.choices))
        return side

    return planned


def lenient(references: References, *others: Tensor) -> Tensor:
    if references.far is None:
        references = replace(references, far=references.near)
    return predicted(references, *others)


@pytest.mark.parametrize("seed", range(4))
def test_vectors_that_point_far_outside_are_followed(
    loop_codec: Codec, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second frame has one picture before it: there a prediction from two is refused."""
    frames = moving(5, 40, 56)
    monkeypatch.setattr(mptvc.codec.slices, "planned", wild_plan(seed))
    monkeypatch.setattr(mptvc.codec.loop, "predicted", lenient)
    data = loop_codec.compress(frames)
    expected = loop_codec.decompress(data).frames
    assert expected.shape == frames.shape
    assert np.abs(expected.astype(int) - frames).mean() < 20
    monkeypatch.undo()
    with pytest.raises(CorruptPacketError, match="two pictures, and there is one"):
        loop_codec.decompress(data)


def test_a_small_file_with_a_large_claim_takes_bounded_memory(tmp_path: Path) -> None:
    codec = mptvc.load("codec", device="cpu")
    video = CLAIMS["a long strip"]
    layout = codec.coder.layout(video, (video.num_frames,))
    section = joined([SlicePacket(b"\x01\x02\x03\x04" * 8, 96, CHAIN)] * 2)
    rest = [Section(0, 0)] * (layout.shots.num_clips - 1)
    index = Index.of([[Section(len(section), crc32(section)), *rest]] * 3)
    (tmp_path / "a.mpt").write_bytes(write_header(make_header(layout, index)) + 3 * section)
    command = [sys.executable, "-c", dedent(LIMITED), tmp_path / "a.mpt", "codec"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, kilobytes = done.stdout.split()
    assert name == "CorruptPacketError"
    assert int(kilobytes) < 3 * 2**20
