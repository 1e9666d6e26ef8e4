"""One level of a shot in a closed loop: a decoder has what the encoder has, whatever is coded."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mptvc
from mptvc.codec.loop import Base, LevelLoop
from mptvc.codec.motion_search import Luma, search
from mptvc.codec.pictures import CodedPicture
from mptvc.codec.plan import fitted_camera, planned
from mptvc.codec.tables import LevelTables
from mptvc.format.packet import PacketReader, PacketWriter
from mptvc.format.slices import CHAIN, KINDS, turns
from mptvc.model.fineness import FINEST
from mptvc.model.loop_config import LoopLevelConfig
from mptvc.model.loop_model import LoopLevel
from mptvc.model.motion import BLOCK, Reference, camera_vectors

HEIGHT, WIDTH, STEP = 64, 96, 30.0
GRID = HEIGHT // BLOCK, WIDTH // BLOCK
CONFIG = LoopLevelConfig(STEP)


def texture(height: int, width: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    total = torch.zeros(3, height, width)
    for size in (2, 4, 8, 16):
        grid = torch.randn(1, 3, height // size + 2, width // size + 2, generator=rng)
        total += F.interpolate(grid, size=(height, width), mode="bicubic")[0]
    return (128 + 28 * total).clamp(0, 255).to(torch.uint8)


def pan(count: int, dy: float, dx: float) -> list[Tensor]:
    """A texture that moves by so many pixels a picture."""
    return seen_along([(index * dy, index * dx) for index in range(count)])


def seen_along(path: list[tuple[float, float]]) -> list[Tensor]:
    """A texture from places along a path, in pixels."""
    whole = Reference(texture(160, 192, seed=1))
    pictures = []
    for place in path:
        top, left = (torch.tensor([round(4 * (32 + at))]) for at in place)
        rows = [
            torch.cat([whole.windows(top + 4 * y, left + 4 * x, BLOCK)[0] for x in range(0, WIDTH, BLOCK)], 2)
            for y in range(0, HEIGHT, BLOCK)
        ]
        pictures.append(torch.cat(rows, 1).to(torch.uint8))
    return pictures


def gray(picture: Tensor) -> Tensor:
    return torch.full_like(picture, 128)


def bases(pictures: list[Tensor], level: int) -> list[Base]:
    """What a coarser level would say: nothing, or a picture without detail."""

    def blurred(picture: Tensor) -> Tensor:
        return F.avg_pool2d(picture.float(), 9, 1, 4, count_include_pad=False).to(torch.uint8)

    return [partial(blurred if level else gray, picture) for picture in pictures]


def fineness(pictures: list[Tensor], seed: int) -> list[Tensor]:
    """Of every picture, any values."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(-FINEST, FINEST + 1, GRID, generator=rng) for _ in pictures]


Coarser = Sequence[CodedPicture | None]


def encoded(
    level: LoopLevel, pictures: list[Tensor], below: list[Base], coarser: Coarser, kind: int = CHAIN
) -> tuple[list[bytes], list[CodedPicture]]:
    """Packets of an opening key and a slice of what follows it, and the pictures."""
    loop = LevelLoop(LevelTables(level))
    writers = [PacketWriter(loop.tables.digits) for _ in range(2)]
    given = fineness(pictures, seed=0)
    first = loop.fineness(writers[0], GRID, None, coarser[0], given[0])
    made = [loop.opening(writers[0], below[0], STEP, first, coarser[0], pictures[0])]
    loop.start()
    found: dict[int, CodedPicture] = {}
    for turn in turns(kind, len(pictures) - 1):
        at, target = turn.index + 1, pictures[turn.index + 1]
        sides = (turn.near, turn.far) if turn.is_between else (turn.near,)
        near, *far = (search(Luma(pictures[1 + side]), Luma(target)).vectors for side in sides)
        known, fields = loop.known(turn, coarser[at]), [near, *far]
        camera = fitted_camera(near)
        mine = loop.fineness(writers[1], GRID, turn, coarser[at], given[at])
        steps = level.steps(STEP, mine, GRID)
        references_on = partial(loop.references, turn, coarser=coarser[at])
        plan = planned(level, target, below[at](), references_on, known, fields, camera, steps)
        found[turn.index] = loop.picture(writers[1], turn, below[at], STEP, mine, coarser[at], plan, target)
    loop.finish(kind, len(pictures) - 1)
    return [w.finish() for w in writers], [*made, *(found[i] for i in range(len(pictures) - 1))]


def decode(
    level: LoopLevel, packets: list[bytes], below: list[Base], coarser: Coarser, kind: int = CHAIN
) -> list[Tensor]:
    loop = LevelLoop(LevelTables(level))
    readers = [PacketReader(loop.tables.digits, packet) for packet in packets]
    fineness = loop.fineness(readers[0], GRID, None, coarser[0])
    first = loop.opening(readers[0], below[0], STEP, fineness, coarser[0]).picture
    readers[0].finish()
    loop.start()
    found = {}
    for turn in turns(kind, len(below) - 1):
        at = turn.index + 1
        mine = loop.fineness(readers[1], GRID, turn, coarser[at])
        found[turn.index] = loop.picture(readers[1], turn, below[at], STEP, mine, coarser[at]).picture
    readers[1].finish()
    return [first, *(found[i] for i in range(len(below) - 1))]


def pictures_of(coded: list[CodedPicture]) -> list[Tensor]:
    return [one.picture for one in coded]


def error(a: list[Tensor], b: list[Tensor]) -> float:
    return float(
        torch.stack([(x.float() - y.float()).square().mean() for x, y in zip(a, b, strict=True)]).mean()
    )


@pytest.mark.parametrize(("index", "patch"), [(0, 16), (1, 16), (2, 8)])
@pytest.mark.parametrize(("step", "kind"), [(3.0, 0), *((STEP, kind) for kind in range(KINDS))])
def test_a_decoder_has_the_encoders_pictures(
    index: int, patch: int, step: float, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_loop.STEP", step)
    level, pictures = LoopLevel(index, patch, CONFIG), pan(5, 0.75, -1.5)
    below, nothing = bases(pictures, index), [None] * len(pictures)
    packets, keys = encoded(level, pictures, below, nothing, kind)
    for ours, theirs in zip(decode(level, packets, below, nothing, kind), pictures_of(keys), strict=True):
        assert torch.equal(ours, theirs)
    finer = 2.27 if index == 0 else 1.0  # mean of the squared steps of any fineness, where there is one
    assert error(pictures_of(keys), pictures) < 3 * finer * step**2 / 12


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("step", [30.0, 20.0, 10.0, 4.0])
def test_white_and_black_are_coded_at_any_step(value: int, step: float) -> None:
    """The largest symbols are those of a flat picture over a gray base."""
    level = LoopLevel(0, 16, CONFIG)
    loop = LevelLoop(LevelTables(level))
    picture = torch.full((3, 32, 32), value, dtype=torch.uint8)
    writer = PacketWriter(loop.tables.digits)
    even = torch.zeros(2, 2, dtype=torch.int64)
    made = loop.opening(writer, lambda: gray(picture), step, even, None, picture).picture
    assert int((made.int() - picture).abs().max()) <= 1 + step / 16
    reader, other = PacketReader(loop.tables.digits, writer.finish()), LevelLoop(LevelTables(level))
    assert torch.equal(other.opening(reader, lambda: gray(picture), step, even, None).picture, made)
    reader.finish()


def test_choices_of_the_coarser_level_are_a_context_that_both_have() -> None:
    pictures = pan(4, 0.0, 2.0)
    nothing = [None] * len(pictures)
    coarse, fine = LoopLevel(1, 16, CONFIG), LoopLevel(2, 8, CONFIG)
    _, keys = encoded(coarse, pictures, bases(pictures, 1), nothing)
    made: list[Base] = [partial(torch.clone, picture) for picture in pictures_of(keys)]
    packets, finer = encoded(fine, pictures, made, keys)
    for ours, theirs in zip(decode(fine, packets, made, keys), pictures_of(finer), strict=True):
        assert torch.equal(ours, theirs)


def test_a_pan_costs_its_motion_and_little_more() -> None:
    level, pictures = LoopLevel(0, 16, CONFIG), pan(5, 1.0, -2.0)
    for kind in range(KINDS):
        first, rest = encoded(level, pictures, bases(pictures, 0), [None] * 5, kind)[0]
        assert len(rest) < 2 * len(first)


#: A camera that is held in hands, in pixels.
SHAKEN = [(0.0, 0.0), (2.25, -3.0), (1.0, 1.5), (-1.5, -2.75), (0.5, 3.25)]


@pytest.mark.parametrize("kind", range(KINDS))
def test_a_path_of_the_camera_says_where_both_references_lie(kind: int) -> None:
    """On straight lines one of two is missed wherever the camera turns."""
    pictures, nothing = seen_along(SHAKEN), [None] * len(SHAKEN)
    below, sizes = bases(pictures, 0), []
    for scale in (0, 1):
        level = LoopLevel(0, 16, CONFIG, camera_scale=scale)
        packets, coded = encoded(level, pictures, below, nothing, kind)
        assert all(map(torch.equal, decode(level, packets, below, nothing, kind), pictures_of(coded)))
        sizes.append(len(packets[1]))
    assert sizes[1] < (0.8 if kind == KINDS - 1 else 1.0) * sizes[0]


@pytest.mark.parametrize(("kind", "coarse_kind"), [(0, 2), (2, 0), (1, 1)])
def test_a_finer_level_knows_the_camera_whatever_it_predicts_from(kind: int, coarse_kind: int) -> None:
    pictures, nothing = seen_along(SHAKEN), [None] * len(SHAKEN)
    _, coarse = encoded(
        LoopLevel(0, 16, CONFIG, camera_scale=1), pictures, bases(pictures, 0), nothing, coarse_kind
    )
    fine, made = LoopLevel(1, 16, CONFIG, camera_scale=1), [partial(torch.clone, p.picture) for p in coarse]
    packets, finer = encoded(fine, pictures, made, coarse, kind)
    assert all(map(torch.equal, decode(fine, packets, made, coarse, kind), pictures_of(finer)))
    for turn in turns(kind, len(SHAKEN) - 1):
        here, there = SHAKEN[turn.index + 1], SHAKEN[turn.near + 1]
        side = finer[turn.index + 1].side
        assert side is not None
        moved = torch.tensor([4 * (a - b) for a, b in zip(here, there, strict=True)])
        assert (side.coefficients[:, 2] / 16 - moved).abs().max() < 0.5


def test_what_is_made_again_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples between pixels of large pictures are not kept from slice to slice."""
    frames = np.stack([picture.permute(1, 2, 0).numpy() for picture in pan(9, 1.25, -1.75)])
    kept = mptvc.load("codec").compress(frames)
    forgotten: list[Reference] = []
    monkeypatch.setattr(
        Reference, "forget", lambda self, forget=Reference.forget: forgotten.append(forget(self))
    )
    assert mptvc.load("codec").compress(frames) == kept
    assert not forgotten
    monkeypatch.setattr("mptvc.codec.loop._KEPT_PIXELS", 0)
    assert mptvc.load("codec").compress(frames) == kept
    assert forgotten


def test_a_still_scene_is_repeated() -> None:
    level = LoopLevel(0, 16, CONFIG)
    pictures = [texture(HEIGHT, WIDTH, seed=2)] * 5
    _, keys = encoded(level, pictures, bases(pictures, 0), [None] * 5)
    made = pictures_of(keys)
    assert error(made[-1:], pictures[-1:]) <= error(made[:1], pictures[:1])


def test_a_key_needs_an_opening_key() -> None:
    loop = LevelLoop(LevelTables(LoopLevel(0, 16, CONFIG)))
    turn, still = turns(CHAIN, 1)[0], torch.zeros(2, 3, dtype=torch.int64)
    for ask in (loop.start, lambda: loop.references(turn, still, None), lambda: loop.finish(CHAIN, 1)):
        with pytest.raises(ValueError, match="an opening key comes first"):
            ask()


@pytest.mark.parametrize("spoil", [lambda p: p + b"word", lambda p: bytes(4) + p[4:]])
def test_a_packet_that_does_not_fit_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    level, pictures = LoopLevel(0, 16, CONFIG), pan(2, 0.0, 1.0)
    below, nothing = bases(pictures, 0), [None] * 2
    packets, _ = encoded(level, pictures, below, nothing)
    for spoiled in ([spoil(packets[0]), packets[1]], [packets[0], spoil(packets[1])]):
        with pytest.raises(ValueError, match=r"words are left over|rows or means|zero word"):
            decode(level, spoiled, below, nothing)


def test_the_camera_is_fitted_to_what_most_blocks_do() -> None:
    coefficients = torch.tensor([[200, -40, 64], [16, 300, -160]])
    vectors = camera_vectors(coefficients, 12, 20)
    vectors[:, 3:6, 4:9] += 70  # a thing with a motion of its own
    assert (camera_vectors(fitted_camera(vectors), 12, 20) - vectors)[:, :, 10:].abs().max() <= 1
