"""Compiled kernels against what they stand in for: the same integers, and of an encoder the same choices."""

import copy
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import moving
from test_loop_files import possible_plan
from torch import Tensor

import mptvc
import mptvc.codec.loop_encoder
import mptvc.codec.slices
from mptvc.codec.camera_path import CameraPath
from mptvc.codec.codec import Codec
from mptvc.codec.loop import LevelLoop
from mptvc.codec.loop_coder import LoopCoder, picture_tensor
from mptvc.codec.motion_search import Luma, refined, search
from mptvc.codec.plan import planned
from mptvc.codec.quantization import quantized
from mptvc.codec.slices import enlarged
from mptvc.codec.tables import LevelTables
from mptvc.evaluate.sample import sample_frames
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.format.slices import BEFORE, LONG_BEFORE, Turn
from mptvc.model.activity import LARGEST, MOST, ActivityModel, Residual
from mptvc.model.activity_bits import contexts_apart
from mptvc.model.contexts import CLASSES, Context
from mptvc.model.envelope import Envelope
from mptvc.model.fineness import FINEST
from mptvc.model.integer_network import integer_frequencies
from mptvc.model.loop_config import LoopLevelConfig
from mptvc.model.loop_model import LoopLevel
from mptvc.model.motion import BLOCK, Reference, camera_vectors, luma_of
from mptvc.model.prediction import Blend, References, predicted
from mptvc.model.pyramid import decimated, halved
from mptvc.model.restoration import Restoration
from mptvc.model.side_symbols import BLENDS, CHOICES, FARTHEST, Known, Side, Vector, parent_coefficients
from mptvc.model.smoothing import smoothed
from mptvc.native import calls, pictures
from mptvc.native.library import LIBRARY, SWITCH, library
from mptvc.native.walks import Steps

ROWS, COLUMNS = 3, 5
#: No library is wanted, or none can be built.
IS_OFF = os.environ.get(SWITCH) == "0" or shutil.which(os.environ.get("CC", "cc")) is None


def test_the_library_is_that_of_its_sources() -> None:
    """If this fails, install the package anew: its C sources have changed."""
    assert calls.is_available() != IS_OFF


pytestmark = pytest.mark.skipif(IS_OFF, reason="no compiled kernels")


def both(make: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What kernels make, and what is made without them."""
    with_kernels = make()
    with calls.off():
        return with_kernels, make()


def noise(seed: int, channels: int = 3, size: tuple[int, int] = (ROWS * BLOCK, COLUMNS * BLOCK)) -> Tensor:
    """Pixels, most of them at an end of their range."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-200, 456, (channels, *size), generator=rng).clamp_(0, 255).to(torch.uint8)


def smooth(seed: int) -> Tensor:
    """Pixels near to each other."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(100, 108, (3, ROWS * BLOCK, COLUMNS * BLOCK), generator=rng, dtype=torch.uint8)


def vectors(seed: int, most: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    field = torch.randint(-most, most + 1, (2, ROWS, COLUMNS), generator=rng)
    return torch.where(torch.rand(ROWS, COLUMNS, generator=rng) < 0.5, field, field[:, :1, :1])


@pytest.fixture(scope="module", params=[0, 2], ids=["tokens of 16", "tokens of 8"])
def level(request: pytest.FixtureRequest) -> LoopLevel:
    coder = mptvc.load("codec", device="cpu").coder
    assert isinstance(coder, LoopCoder)
    return coder.model.level(request.param)


# Pictures


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (48, 80), (16, 208)])
def test_samples_between_pixels(channels: int, size: tuple[int, int]) -> None:
    picture = noise(1, channels, size)
    for name in ("planes", "whole"):
        ours, theirs = both(lambda name=name: getattr(Reference(picture), name))
        assert torch.equal(ours, theirs)


def test_pictures_are_halved_and_become_luma() -> None:
    picture = noise(5)
    assert torch.equal(*both(lambda: halved(picture)))
    assert torch.equal(*both(lambda: luma_of(picture)))
    gray = torch.arange(256, dtype=torch.uint8).expand(3, 2, 256).contiguous()
    assert torch.equal(luma_of(gray), gray[:1])


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (32, 48)])
def test_frames_become_pictures_of_whole_tokens(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    for given in (frame, frame[::-1, ::-1]):
        ours, theirs = both(lambda given=given: picture_tensor(given, (32, 48), torch.device("cpu")))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("apart", [(1, 2), (2, -1), (3, 1)])
@pytest.mark.parametrize("most", [0, 3, 60, 10**6])
def test_predictions_of_all_blends(most: int, apart: tuple[int, int], threads: int) -> None:
    references = References(Reference(noise(6)), Reference(noise(7)), apart)
    field, blends = vectors(8, most), torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS) % len(Blend)
    with calls.sharing(threads):
        assert torch.equal(*both(lambda: predicted(references, noise(9), field, blends)))


def test_still_pictures_need_whole_pixels_alone() -> None:
    near = Reference(noise(10))
    field, blends = 4 * vectors(11, 5), torch.full((ROWS, COLUMNS), Blend.OVERLAPPED)
    predicted(References(near, None, (1, 0)), noise(12), field, blends)
    assert "planes" not in vars(near)


@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("picture", [noise(13), smooth(14)], ids=["rough", "smooth"])
def test_smoothing(picture: Tensor, patch: int) -> None:
    rng, grid = torch.Generator().manual_seed(15), (ROWS * BLOCK // patch, COLUMNS * BLOCK // patch)
    coded, steps = torch.rand(grid, generator=rng) < 0.5, 200 * torch.rand(grid, generator=rng) ** 2
    assert torch.equal(*both(lambda: smoothed(picture, coded, steps)))


def require_same_restoration(picture: Tensor, patch: int) -> None:
    """Any filters, of any 16 bits, and steps from the smallest to over all pixels."""
    rng, grid = torch.Generator().manual_seed(15), (ROWS * BLOCK // patch, COLUMNS * BLOCK // patch)
    coded = torch.rand(grid, generator=rng) < 0.7
    steps = (2.0 ** (20 * torch.rand(grid, generator=rng))).round() / 256
    for most, strength in ((99, 4), (99, 7), (2**15, 8), (999, 0)):
        restoration = Restoration()
        restoration.filters.copy_(torch.randint(-most, most, restoration.filters.shape, generator=rng))
        given = picture, noise(16), coded, steps, strength
        assert torch.equal(*both(lambda given=given, restored=restoration: restored(*given)))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("picture", [noise(13), smooth(14)], ids=["rough", "smooth"])
def test_restoration(picture: Tensor, patch: int, threads: int) -> None:
    with calls.sharing(threads):
        require_same_restoration(picture, patch)


@pytest.fixture
def plain_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels without what is written for one instruction set alone, where they have such parts."""
    source, built = Path(calls.__file__).parent / "restoration.c", tmp_path / "plain.so"
    command = [*shlex.split(os.environ.get("CC", "cc")), "-O1", "-shared", "-fPIC", "-DPLAIN"]
    subprocess.run([*command, "-o", str(built), str(source)], check=True)
    monkeypatch.setattr(calls, "library", lambda: ctypes.CDLL(str(built)))
    calls.kernel_of.cache_clear()
    yield
    calls.kernel_of.cache_clear()


@pytest.mark.usefixtures("plain_library")
@pytest.mark.parametrize("patch", [4, 8, 16])
def test_restoration_for_any_processor(patch: int) -> None:
    require_same_restoration(noise(13), patch)


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (16, 98)])
def test_decimated_pictures(size: tuple[int, int]) -> None:
    assert torch.equal(*both(lambda: decimated(noise(17, 3, size))))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 7), (33, 20)])
def test_pictures_twice_and_four_times_as_large(size: tuple[int, int]) -> None:
    for ratio in (2, 4):
        assert torch.equal(*both(lambda ratio=ratio: enlarged(noise(16, 3, size), ratio)))


# Entropy model


def test_packets_are_the_same_words() -> None:
    rng = np.random.default_rng(17)
    shares = rng.random((40, 33)) ** 8 + 1e-9
    counts = np.floor(shares / shares.sum(1, keepdims=True) * (2**24 - 33)).astype(np.int64) + 1
    counts[np.arange(40), counts.argmax(1)] += 2**24 - counts.sum(1)
    tables = Tables(counts)
    for sizes in ([], [0], [1], [1, 0, 3], [1000, 7, 4000]):
        steps = [(rng.integers(0, 40, n, np.uint8), rng.integers(-16, 17, n, np.int16)) for n in sizes]
        packets = []
        for take in range(2):
            with calls.off() if take else nullcontext():
                writer = PacketWriter(tables)
                for rows, symbols in steps:
                    writer(rows, symbols)
                packets.append(writer.finish())
        assert packets[0] == packets[1]
        for take in range(2):
            with calls.off() if take else nullcontext():
                reader = PacketReader(tables, packets[0])
                assert all(np.array_equal(reader(rows), symbols) for rows, symbols in steps)
                reader.finish()


def test_walks_outside_their_tables_are_refused() -> None:
    """As of symbols that someone made, of the second of two tables."""
    tables = [
        Tables(integer_frequencies(np.ones((rows, 2 * reach + 1))).numpy())
        for rows, reach in ((9, 3), (2, 1))
    ]
    counts = np.array([[0, 2], [1, 3]], np.int64)
    rows, symbols = np.array([8, 0, 1, 1, 0], np.uint8), np.array([3, -3, 1, -1, 0], np.int16)
    writer = PacketWriter(tables[0])
    assert writer.walk(tables, lambda _: (Steps(rows, symbols, counts), "found")) == "found"
    for index, row, symbol in ((0, 9, 0), (0, 0, 4), (1, 0, -4), (4, 2, 0), (2, 1, 2), (3, 0, -2)):
        others = rows.copy(), symbols.copy()
        others[0][index], others[1][index] = row, symbol
        with pytest.raises(ValueError, match="outside the table"):
            writer.walk(tables, lambda _, others=others: (Steps(*others, counts), "found"))


def test_noise_is_decoded_to_the_same_symbols() -> None:
    rng = np.random.default_rng(18)
    tables, packet = (
        Tables(np.full((3, 64 + 1), 2**24 // 65) + np.eye(1, 65, 0, dtype=np.int64)),
        rng.bytes(400),
    )
    rows = rng.integers(0, 3, 900, np.uint8)
    found = []
    for take in range(2):
        with calls.off() if take else nullcontext():
            reader = PacketReader(tables, packet)
            found.append(reader(rows))
            with pytest.raises(ValueError, match=r"not the encoder's|left over"):
                reader.finish()
    assert np.array_equal(*found)


@pytest.mark.parametrize("step", [2.0, 40.0, 700.0])
def test_envelopes(level: LoopLevel, step: float) -> None:
    envelope, rng = some_envelope(level, step), torch.Generator().manual_seed(19)
    tokens = torch.randperm(envelope.steps.numel(), generator=rng)
    quartered = torch.rand(len(tokens), generator=rng) < 0.5
    assert torch.equal(*both(lambda: envelope.sums_below(tokens, quartered)))


def some_envelope(level: LoopLevel, step: float) -> Envelope:
    patch, rng = level.envelope.patch, torch.Generator().manual_seed(20)
    grid = ROWS * BLOCK // patch, COLUMNS * BLOCK // patch
    steps = (step * (0.5 + torch.rand(grid, generator=rng)) * 256).round() / 256
    luma = torch.cat(
        [noise(21, 1)[0, :, : COLUMNS * BLOCK // 2], smooth(22)[0, :, : -(COLUMNS * BLOCK // 2)]], 1
    )
    return Envelope(level.envelope, luma.contiguous(), steps)


@pytest.mark.parametrize("grid", [(3, 5), (100, 90)], ids=["few tokens", "more than are dealt with at once"])
@pytest.mark.parametrize("largest", [1, 40, LARGEST])
def test_walks_through_what_is_left(level: LoopLevel, grid: tuple[int, int], largest: int) -> None:
    """Symbols as an encoder would hardly choose them, under contexts that no picture had."""
    kind, rng = level.key, np.random.default_rng(largest)
    scale = largest ** rng.random((*grid, 1)) * rng.random((*grid, kind.channels)) ** 6
    symbols = torch.from_numpy(np.rint(rng.choice([-1, 1], scale.shape) * scale).astype(np.int16))
    symbols[torch.from_numpy(rng.random(grid) < 0.5)] = 0
    quartered = torch.from_numpy(rng.random(grid) < 0.4) & symbols.any(-1)
    past = torch.from_numpy(rng.integers(0, MOST + 1, (*grid, kind.entropy_model.num_groups), np.uint8))
    luma = torch.from_numpy(rng.integers(0, 256, [n * kind.patch for n in grid], np.uint8))
    envelope = Envelope(level.envelope, luma, torch.full(grid, 20.0))
    context = Context(past, torch.from_numpy(rng.integers(0, CLASSES, grid)), envelope)
    loop, packets = LevelLoop(LevelTables(level)), []

    def code(given: Residual | None) -> list[Tensor]:
        digits = loop.tables.digits
        coder = PacketWriter(digits) if given else PacketReader(digits, packets[0])
        found = loop._left(coder, kind, context, given)
        packets.append(coder.finish())
        return [part.long() for part in found]

    ours = code(Residual(symbols, quartered))
    with calls.off():
        theirs = code(Residual(symbols, quartered))
        read = code(None)
    assert packets[0] == packets[1]
    for others in (theirs, read, code(None)):
        assert all(map(torch.equal, ours, others))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("shape_frequencies", "a token has no shape"),
        ("splitting.rest_frequencies", "a sum is larger than its activity says"),
        ("splitting.share_frequencies", "a part of a group is larger than the group"),
    ],
)
def test_walks_that_do_not_fit_are_refused_alike(level: LoopLevel, table: str, reason: str) -> None:
    """Under one even table, in which what does not fit is as likely as what does."""
    level, rng = copy.deepcopy(level), np.random.default_rng(28)
    kind = level.key
    even = kind.entropy_model.get_buffer(table)
    even.copy_(integer_frequencies(np.ones(tuple(even.shape))))
    envelope, loop = some_envelope(level, 20.0), LevelLoop(LevelTables(level))
    past = torch.full((*envelope.steps.shape, kind.entropy_model.num_groups), 3, dtype=torch.uint8)
    context = Context(past, torch.zeros_like(past[..., 0]).long(), envelope)

    def ended(packet: bytes) -> str:
        reader = PacketReader(loop.tables.digits, packet)
        try:
            loop._left(reader, kind, context, None)
            reader.finish()
        except ValueError as error:
            return str(error)
        return ""

    reasons = []
    for size in (40, 400, 4000) * 20:
        packet = rng.bytes(4 * (size // 4))
        reasons.append(ended(packet))
        with calls.off():
            assert ended(packet) == reasons[-1]
    assert reason in reasons


def some_side(
    rng: np.random.Generator, grid: tuple[int, int], coefficients: Tensor, line: Tensor | None
) -> Side:
    """Choices of all kinds, and vectors as they may be."""
    camera = camera_vectors(coefficients, *grid)
    choices = torch.from_numpy(rng.integers(0, CHOICES, grid))
    own = camera + torch.from_numpy(rng.integers(-FARTHEST, FARTHEST + 1, (2, *grid)))
    vector, still = choices // BLENDS, torch.zeros_like(camera)
    from_parent = camera if line is None else line
    others = torch.where(
        vector == Vector.STILL, still, torch.where(vector == Vector.PARENT, from_parent, camera)
    )
    return Side(choices, torch.where(vector == Vector.OWN, own, others), coefficients)


def test_rows_that_do_not_exist_are_refused(level: LoopLevel) -> None:
    """As weights that someone made may name them."""
    for name in ("row_of", "splitting.row_of"):
        broken = copy.deepcopy(level)
        broken.key.entropy_model.get_buffer(name).view(-1)[-1] = 250
        with pytest.raises(ValueError, match="outside the table"):
            LevelTables(broken).residual(broken.key.entropy_model)
    broken = copy.deepcopy(level)
    broken.key.side.scale_of[1, 2] = 250
    with pytest.raises(ValueError, match="outside the table"):
        LevelTables(broken).side(broken.key.side)


@pytest.mark.parametrize("turn", [Turn(1, -1, 3, 1, 3), Turn(0, BEFORE, LONG_BEFORE)])
def test_cameras_bend_lines_alike(turn: Turn) -> None:
    rng = torch.Generator().manual_seed(33)
    here, there, far = (torch.randint(-900, 900, (2, 3), generator=rng) for _ in range(3))
    path, near = CameraPath(2, far, torch.device("cpu")), Reference(noise(6))
    path.add(turn.far, there)
    references = References(near, near, (turn.apart, turn.index - turn.far))
    bends = both(lambda: path.bent(references, turn, here, here + there).bend)
    assert torch.equal(*bends)
    assert bends[0].any()
    still = torch.zeros(2, 3, dtype=torch.int64)
    path.add(turn.far, still)
    assert both(lambda: path.bent(references, turn, still, still).bend) == (None, None)


@pytest.mark.parametrize("camera", ["straight", "given", "near likely ones", "near none"])
@pytest.mark.parametrize("has_parent", [False, True])
@pytest.mark.parametrize("has_past", [False, True])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1), (4, 6)])
def test_walks_through_side_symbols(
    grid: tuple[int, int], has_past: bool, has_parent: bool, camera: str
) -> None:
    """With cameras on straight lines, and on paths that coarser levels give or that are coded."""
    level = LoopLevel(0, 16, LoopLevelConfig(40.0), camera_scale=0 if camera == "straight" else 1)
    rng, loop = np.random.default_rng(29), LevelLoop(LevelTables(level))
    motion = torch.from_numpy(rng.integers(-3000, 3000, (2, 3)))
    small = tuple((n + 1) // 2 for n in grid)
    parent = some_side(rng, (small[0], small[1]), motion, None) if has_parent else None
    past = some_side(rng, grid, motion, None) if has_past else None
    likely = {"near likely ones": motion + 77, "near none": 0 * motion}.get(camera)
    known, packets = Known(past, parent, likely, has_path=camera != "straight"), []
    coefficients = parent_coefficients(parent, grid)
    if coefficients is None or likely is not None:
        coefficients = motion
    line = known.line_on(camera_vectors(coefficients, *grid))
    given = some_side(rng, grid, coefficients, line)

    def code(side: Side | None) -> list[Tensor]:
        digits = loop.tables.digits
        coder = PacketWriter(digits) if side else PacketReader(digits, packets[0])
        found = loop._side(coder, level.key, grid, known, side)
        packets.append(coder.finish())
        return [found.choices, found.vectors, found.coefficients]

    ours = code(given)
    with calls.off():
        theirs, read = code(given), code(None)
    assert packets[0] == packets[1]
    for others in (theirs, read, code(None), [given.choices, given.vectors, given.coefficients]):
        assert all(map(torch.equal, ours, others))


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1), (7, 12)])
def test_walks_through_fineness(grid: tuple[int, int]) -> None:
    """Of the opening key, and of two keys after it, of which one is a turn's."""
    level, rng = LoopLevel(0, 16, LoopLevelConfig(40.0)), np.random.default_rng(31)
    given = [torch.from_numpy(rng.integers(-FINEST, FINEST + 1, grid)) for _ in range(2)]
    tables, packets = LevelTables(level), []

    def code(wanted: list[Tensor] | None) -> list[Tensor]:
        coder = PacketWriter(tables.digits) if wanted else PacketReader(tables.digits, packets[0])
        loop = LevelLoop(tables)
        found = [loop.fineness(coder, grid, None, None, wanted[n] if wanted else None) for n in range(2)]
        loop._last_fineness = found[0]
        turn = Turn(0, BEFORE, LONG_BEFORE)
        found.append(loop.fineness(coder, grid, turn, None, wanted[1] if wanted else None))
        packets.append(coder.finish())
        return found

    ours = code(given)
    with calls.off():
        theirs, read = code(given), code(None)
    assert packets[0] == packets[1]
    for others in (theirs, read, code(None), [*given, given[1]]):
        assert all(map(torch.equal, ours, others))


@pytest.mark.parametrize("grid", [(1, 1), (5, 8)])
def test_camera_vectors(grid: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(32)
    for most in (1, 40, 8000):
        coefficients = torch.randint(-most, most + 1, (2, 3), generator=rng)
        assert torch.equal(*both(lambda found=coefficients: camera_vectors(found, *grid)))


# Files


@pytest.fixture(scope="module")
def codec() -> Codec:
    return mptvc.load("codec", device="cpu", clip_frames=6)


@pytest.mark.parametrize("size", [(17, 33), (48, 64)])
def test_tokens_make_the_same_bytes_and_pixels(
    codec: Codec, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans as wild as packets can hold, and what is left of them."""
    shots = (6, 1, 4)
    monkeypatch.setattr(mptvc.codec.slices, "planned", possible_plan(seed=27))
    data = codec.compress(moving(sum(shots), *size), shots=shots, rate=mptvc.Rate(quality=6))
    frames, tokens = codec.decompress(data).frames, codec.unpack(data)
    with calls.off():
        assert codec.unpack(data) == tokens
        assert np.array_equal(codec.decompress(data).frames, frames)
        assert codec.pack(tokens) == data
    assert codec.pack(tokens) == data


def test_the_largest_symbols_make_the_same_pixels(level: LoopLevel) -> None:
    kind, rng = level.key, torch.Generator().manual_seed(24)
    grid = ROWS * BLOCK // kind.patch, COLUMNS * BLOCK // kind.patch
    coded = torch.rand(grid, generator=rng) < 0.7
    values = torch.randint(-3, 4, (int(coded.sum()), kind.channels), generator=rng).to(torch.int16)
    values[::3] = torch.randint(-LARGEST, LARGEST + 1, values[::3].shape, generator=rng).to(torch.int16)
    quartered = coded & (torch.rand(grid, generator=rng) < 0.5)
    steps = (300 * torch.rand(grid, generator=rng) * 256).round().clamp(min=1) / 256
    make = mptvc.codec.residuals.synthesised
    assert torch.equal(*both(lambda: make(kind, coded, values, quartered, noise(25), steps, 1.0)))


# An encoder's choices, for which floating point is good enough


@pytest.mark.parametrize("size", [(128, 192), (64, 16), (32, 80)])
def test_motion_search_finds_the_same(size: tuple[int, int]) -> None:
    """In small pictures a block is larger than the smallest of them."""
    frames = torch.from_numpy(moving(2, *size)).permute(0, 3, 1, 2).contiguous()
    one, two = Luma(frames[0], 1), Luma(frames[1], 1)
    coarse = search(one, two, 1)
    assert torch.equal(*both(lambda: refined(one, two, 0, coarse.vectors).vectors))
    for index in range(2):
        assert torch.equal(*both(lambda index=index: tuple(vars(search(one, two, 1)).values())[index]))


@pytest.mark.parametrize("kind", ["keys", "keys with one before", "between"])
def test_blocks_are_predicted_alike(level: LoopLevel, kind: str) -> None:
    """Found where search finds them or elsewhere, beside a base that is too smooth."""
    frames = torch.from_numpy(sample_frames()[:9:4, :128, :192]).permute(0, 3, 1, 2).contiguous()
    near, far = Reference(frames[0]), None if kind == "keys with one before" else Reference(frames[2])
    bend = torch.randint(-3, 4, (2, *near.grid), generator=torch.Generator().manual_seed(32))
    references = References(near, far, (1, -1) if kind == "between" else (2, 3), bend)
    picture, base = frames[1], enlarged(frames[1][:, ::2, ::2].contiguous(), 2)
    found = search(Luma(frames[0]), Luma(picture)).vectors
    elsewhere = found + torch.randint(-9, 10, found.shape, generator=torch.Generator().manual_seed(31))
    fields, steps = [found, elsewhere], torch.full(found.shape[1:], 6.0)
    known, camera = Known(None, None), torch.tensor([[5, -9, 20], [2, 4, -30]])

    def plan() -> Side:
        return planned(level, picture, base, lambda _: references, known, fields, camera, steps)

    ours = plan()
    with calls.off():
        theirs = plan()
    assert len(theirs.choices.unique()) > 2
    assert torch.equal(ours.choices, theirs.choices)
    assert torch.equal(ours.vectors, theirs.vectors)


@pytest.mark.parametrize("has_flags", [False, True])
def test_contexts_of_tokens_whose_neighbours_are_not_known(level: LoopLevel, *, has_flags: bool) -> None:
    generator, grid, usual = torch.Generator().manual_seed(33), (ROWS, COLUMNS), level.key.entropy_model
    model = ActivityModel(usual.group_of, usual.splitting.order, has_flags=has_flags)
    past = torch.randint(0, MOST, (*grid, model.num_groups), generator=generator).to(torch.uint8)
    past[:, 3:] = 0
    classes = torch.randint(0, CLASSES, grid, generator=generator)
    context = Context(past, classes, some_envelope(level, 12.0))
    ours, theirs = both(lambda: contexts_apart(model, context))
    assert len(theirs[..., -1].unique()) > (5 if has_flags else 0)
    assert torch.equal(ours, theirs)


def test_quantization_makes_nearly_the_same_symbols(level: LoopLevel) -> None:
    kind, envelope = level.key, some_envelope(level, 12.0)
    left = torch.randn(3, ROWS * BLOCK, COLUMNS * BLOCK, generator=torch.Generator().manual_seed(26)) * 9
    outer = torch.zeros(envelope.steps.numel(), kind.entropy_model.num_groups + 1, dtype=torch.int64)
    ours, theirs = both(lambda: quantized(kind, left, outer, envelope).symbols)
    assert theirs.any(1).float().mean() > 0.5
    assert (ours == theirs).float().mean() > 0.999


# The library


@pytest.mark.parametrize("change", ["other sources", "no library at all", "switched off"])
def test_without_a_library_that_fits_tensors_do_the_work(change: str, tmp_path: Path) -> None:
    package = tmp_path / "mptvc"
    shutil.copytree(Path(mptvc.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    if change == "other sources":
        with (package / "native" / "rans.c").open("a") as source:
            source.write("\n")
    elif change == "no library at all":
        (package / "native" / LIBRARY).write_bytes(b"of another machine")
    code = "import mptvc; from mptvc.native import calls; print(calls.is_available(), mptvc.__file__)"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        SWITCH: "0" if change == "switched off" else "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", str(package / "__init__.py")]


def test_wrong_arrays_are_refused() -> None:
    assert library() is not None
    with pytest.raises(TypeError, match="contiguous uint8"):
        pictures.interpolated(np.zeros((3, 16, 16), np.int16), 4)
    with pytest.raises(TypeError, match="contiguous uint8"):
        pictures.interpolated(np.zeros((3, 16, 32), np.uint8)[:, :, ::2], 4)
