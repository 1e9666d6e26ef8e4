"""Tokens with prediction: out of files and back to the same bytes, changed ones, and what does not fit."""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import DAMAGED, Cli, is_one_error
from patterns import moving
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file
from test_loop_files import possible_plan
from torch import Tensor

import mptvc
import mptvc.codec.clip_encoder
import mptvc.codec.slices
from mptvc import Prediction, Tokens
from mptvc.codec.codec import Codec
from mptvc.codec.loop_coder import SIDE_TYPES
from mptvc.codec.tokens import PREDICTION
from mptvc.files.tensor_file import TensorFile
from mptvc.format.slices import CHAIN, KINDS
from mptvc.model.activity import LARGEST
from mptvc.model.side_symbols import BASE_CHOICE, Side

#: Clips of at most six frames: an opening key alone, with a whole slice and one frame, and with three.
SHOTS = (6, 1, 4)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return mptvc.load("codec", device="cpu", clip_frames=6)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return moving(sum(SHOTS), 17, 33)


@pytest.fixture(scope="module")
def data(codec: Codec, video: np.ndarray) -> bytes:
    return codec.compress(video, shots=SHOTS)


@pytest.fixture(scope="module")
def tokens(codec: Codec, data: bytes) -> Tokens:
    return codec.unpack(data)


# There and back


def test_tokens_are_what_files_hold_and_make_the_same_bytes(
    codec: Codec, video: np.ndarray, data: bytes, tokens: Tokens
) -> None:
    assert codec.pack(tokens) == data
    assert codec.encode(video, shots=SHOTS) == tokens
    for levels in (1, 2, 3):
        part = codec.unpack(data[: mptvc.probe(data).header.prefix_bytes(levels)])
        assert part == Tokens(tokens.levels[:levels], tokens.layout, tokens.predictions[:levels])
        expected = codec.decompress(data, levels=levels).frames
        assert np.array_equal(codec.decode(tokens, levels=levels), expected)
    assert codec.unpack(data, levels=2) == codec.unpack(data[: mptvc.probe(data).header.prefix_bytes(2)])


@pytest.mark.parametrize("kind", range(KINDS))
def test_slices_of_every_kind_and_length_come_back(
    codec: Codec, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kinds_of", "CHAIN"):
        value = (lambda count: [kind]) if name == "kinds_of" else kind
        monkeypatch.setattr(mptvc.codec.clip_encoder, name, value)
    shots = (5, 2, 3, 4)
    data = codec.compress(moving(sum(shots), 24, 40), shots=shots)
    tokens = codec.unpack(data)
    for prediction in tokens.predictions:
        assert set(prediction.kinds.tolist()) == {kind}
    assert codec.pack(tokens) == data


@pytest.mark.parametrize(("width", "height", "count"), [(1, 1, 3), (1, 40, 2), (67, 35, 7)])
def test_pictures_of_every_size_come_back(codec: Codec, width: int, height: int, count: int) -> None:
    data = codec.compress(moving(count, height, width), rate=mptvc.Rate(quality=-3))
    tokens = codec.unpack(data)
    assert [int(prediction.gains[0]) for prediction in tokens.predictions] == [-12] * 3
    assert codec.pack(tokens) == data
    assert np.array_equal(codec.decode(tokens), codec.decompress(data).frames)


def test_motion_as_wild_as_packets_can_say_comes_back(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mptvc.codec.slices, "planned", possible_plan(seed=7))
    data = codec.compress(moving(6, 40, 56))
    tokens = codec.unpack(data)
    assert max(int(prediction.vectors.abs().max()) for prediction in tokens.predictions) > 1500
    assert codec.pack(tokens) == data


def test_every_array_is_of_its_type_and_shape(codec: Codec, tokens: Tokens) -> None:
    frames, slices = sum(SHOTS), sum(1 + -(-(n - 1) // 4) for n in SHOTS)
    shapes = [tuple(level.shape) for level in tokens.levels]
    assert shapes == [(frames, 1, 2, 768), (frames, 2, 4, 768), (frames, 4, 8, 192)]
    assert shapes == [codec.shape(tokens.layout, k) for k in range(3)]
    grids = zip(tokens.predictions, shapes, [(1, 2), (2, 4), (2, 4)], strict=True)
    for prediction, (_, *token_grid, _), grid in grids:
        found = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
        assert {name: (str(array.dtype), tuple(array.shape)) for name, array in found.items()} == {
            "shapes": ("torch.uint8", (frames, *token_grid)),
            "choices": ("torch.uint8", (frames, *grid)),
            "vectors": ("torch.int32", (frames, 2, *grid)),
            "coefficients": ("torch.int32", (frames, 2, 3)),
            "fineness": ("torch.int8", (frames, 1, 2)),
            "strengths": ("torch.uint8", (frames,)),
            "kinds": ("torch.uint8", (slices,)),
            "gains": ("torch.int8", (slices,)),
        }


def test_tokens_hold_all_side_symbols_that_there_are() -> None:
    assert list(SIDE_TYPES) == [field.name for field in fields(Side)]
    names = [field.name for field in fields(Prediction)]
    assert names == ["shapes", *SIDE_TYPES, "fineness", "strengths", "kinds", "gains"]


def corners() -> np.ndarray:
    """One corner of each block is noise and the rest gray, but at the left lies one smooth ramp."""
    rng, frames = np.random.default_rng(0), np.full((2, 64, 64, 3), 128, np.uint8)
    for y, x in product(range(8, 64, 16), range(32, 64, 16)):
        frames[:, y : y + 8, x : x + 8] = rng.integers(60, 200, (8, 8, 1))
    frames[:, :, :32] = np.arange(90, 154, 2, dtype=np.uint8)[:, None]
    return frames


def test_tokens_that_hold_something_are_whole_or_quartered(codec: Codec) -> None:
    tokens, both = codec.encode(corners()), set[int]()
    for level, prediction in zip(tokens.levels, tokens.predictions, strict=True):
        holds = level.any(-1)
        assert not prediction.shapes[~holds].any()
        both |= set(prediction.shapes[holds].unique().tolist())
    assert both == {0, 1}


def test_opening_keys_are_predicted_from_nothing_else(tokens: Tokens) -> None:
    opening = np.cumsum([0, *SHOTS[:-1]])
    for prediction in tokens.predictions:
        assert (prediction.choices[opening] == BASE_CHOICE).all()
        assert not prediction.vectors[opening].any()
        assert not prediction.coefficients[opening].any()


# Other tokens


def changed(video: Tokens, level: int, **arrays: Callable[[Tensor], Tensor]) -> Tokens:
    """The tokens with some of a level's arrays changed; ``tokens`` names those themselves."""
    mine, theirs = list(video.levels), list(video.predictions)
    for name, change in arrays.items():
        if name == "tokens":
            mine[level] = change(mine[level].clone())
        else:
            value = change(getattr(theirs[level], name).clone())
            theirs[level] = replace(theirs[level], **{name: value})
    return Tokens(tuple(mine), video.layout, tuple(theirs))


def put(place: Sequence[object], value: int) -> Callable[[Tensor], Tensor]:
    def change(array: Tensor) -> Tensor:
        array[tuple(place)] = value
        return array

    return change


def test_changed_tokens_make_another_file(codec: Codec, tokens: Tokens) -> None:
    everything = (Ellipsis,)
    holds = tokens.levels[1].any(-1)
    for edited in (
        changed(tokens, 1, shapes=lambda array: holds.to(torch.uint8) - array),
        changed(tokens, 2, tokens=lambda array: -array),
        changed(tokens, 0, tokens=put((3, 0, 1, 5), LARGEST)),
        changed(tokens, 2, gains=put(everything, 96)),
        changed(tokens, 1, strengths=put((0,), 8)),
        changed(
            tokens, 1, tokens=put(everything, 0), shapes=put(everything, 0), strengths=put(everything, 4)
        ),
    ):
        assert edited != tokens
        packed = codec.pack(edited)
        assert codec.unpack(packed) == edited
        assert np.array_equal(codec.decompress(packed).frames, codec.decode(edited))


SPOILT: dict[str, tuple[Callable[[Tokens], Tokens], str]] = {
    "symbol": (lambda t: changed(t, 1, tokens=put((2, 0, 0, 3), -(2**15))), "tokens of -16[0-9]+ to"),
    "shape that is none": (
        lambda t: changed(t, 2, shapes=put((3, 1, 0), 2)),
        "level 2: shapes of 0 to 1, found 2",
    ),
    "shape of nothing": (
        lambda t: changed(t, 1, tokens=put((8, 0, 3), 0), shapes=put((8, 0, 3), 1)),
        "level 1, frames 8 to 10: a token without symbols has a shape of 0",
    ),
    "choice": (lambda t: changed(t, 2, choices=put((3, 0, 0), 29)), "level 2: choices of 0 to 28, found 29"),
    "kind": (lambda t: changed(t, 0, kinds=put((1,), 3)), "level 0: kinds of 0 to 2, found 3"),
    "gain": (lambda t: changed(t, 0, gains=put((1,), -97)), "level 0: gains of -96 to 96, found -97"),
    "strength": (
        lambda t: changed(t, 1, strengths=put((2,), 9)),
        "level 1: strengths of 0 to 8, found 9",
    ),
    "strength of nothing": (
        lambda t: changed(
            t, 1, tokens=put((slice(1, 5),), 0), shapes=put((slice(1, 5),), 0), strengths=put((2,), 3)
        ),
        "level 1, frames 1 to 4: a picture that is not restored has a strength of 4",
    ),
    "coefficient": (
        lambda t: changed(t, 0, coefficients=put((1, 0, 2), 8192)),
        "level 0: coefficients of -8192 to 8191, found 8192",
    ),
    "fineness": (
        lambda t: changed(t, 0, fineness=put((0, 0, 0), 4)),
        "level 0: fineness of -3 to 3, found 4",
    ),
    "fineness of the finer level": (
        lambda t: changed(t, 1, fineness=put((0, 0, 1), 3)),
        "level 1, frames 0 to 0: fineness is that of the coarser level, and 0 between keys",
    ),
    "fineness between keys": (
        lambda t: changed(t, 0, kinds=put((1,), KINDS - 1), fineness=put((1, 0, 0), 3)),
        "level 0, frames 1 to 4: ",
    ),
    "coefficient of the finer level": (
        lambda t: changed(t, 1, coefficients=put((1, 0, 2), 77)),
        "level 1, frames 1 to 4: vectors or coefficients are not those that choices and coarser levels say",
    ),
    "vector without a choice": (
        lambda t: changed(t, 1, choices=put((1, 0, 0), 7), vectors=put((1, 1, 0, 0), 4)),
        "level 1, frames 1 to 4: vectors or coefficients are not those",
    ),
    "vector far away": (
        lambda t: changed(t, 1, choices=put((1, 0, 0), 14), vectors=put((1, 1, 0, 0), 2**30)),
        "level 1, frames 1 to 4: a vector is more than 127 quarter pixels from the camera's",
    ),
    "no second reference": (
        lambda t: changed(t, 0, kinds=put((1,), CHAIN), choices=put((1, 0, 0), 4)),
        "level 0, frames 1 to 4: a block is predicted from two pictures, and there is one",
    ),
    "opening key with a choice": (
        lambda t: changed(t, 2, choices=put((6, 0, 0), 0)),
        "level 2, frames 6 to 6: an opening key has choices of 28 and else 0",
    ),
    "form of vectors": (
        lambda t: changed(t, 1, vectors=lambda array: array[:, :1]),
        r"vectors of level 1 is int32 \(11, 2, 2, 4\), found int32 \(11, 1, 2, 4\)",
    ),
    "slices": (
        lambda t: changed(t, 1, kinds=lambda array: array[1:]),
        r"kinds of level 1 is uint8 \(6,\), found uint8 \(5,\)",
    ),
    "type": (
        lambda t: changed(t, 2, tokens=lambda array: array.int()),
        r"level 2 is int16 \(11, 4, 8, 192\), found int32",
    ),
    "no prediction": (
        lambda t: replace(t, predictions=t.predictions[:2]),
        "level 2 has tokens; of these weights it has tokens, shapes, choices, ",
    ),
    "no level": (lambda t: Tokens((), t.layout), "tokens have 1 to 3 levels, found 0"),
}


@pytest.mark.parametrize("use", [Codec.pack, Codec.decode])
@pytest.mark.parametrize("what", SPOILT)
def test_what_does_not_fit_is_named(
    codec: Codec, tokens: Tokens, what: str, use: Callable[..., object]
) -> None:
    spoil, message = SPOILT[what]
    with pytest.raises(ValueError, match=message):
        use(codec, spoil(tokens))


def test_any_tokens_are_decoded_or_refused(codec: Codec, tokens: Tokens) -> None:
    rng = np.random.default_rng(5)
    done = 0
    for _ in range(24):
        level, name = int(rng.integers(3)), str(rng.choice(["tokens", *PREDICTION]))
        array = tokens.arrays(level)[name]
        place = tuple(int(rng.integers(side)) for side in array.shape)
        limits = torch.iinfo(array.dtype)
        value = int(rng.choice([limits.min, limits.max, 0, 1, rng.integers(0, 30)]))
        with suppress(ValueError):
            codec.decode(changed(tokens, level, **{name: put(place, value)}), levels=level + 1)
            done += 1
    assert 4 < done < 20


# Files


def test_files_come_back_byte_for_byte(tmp_path: Path, codec: Codec, data: bytes, tokens: Tokens) -> None:
    out, back = tmp_path / "a.safetensors", tmp_path / "b.mpt"
    steps: list[tuple[int, int]] = []
    mptvc.export_tokens(data, out, codec=codec, progress=lambda *step: steps.append(step))
    stored = load_file(out)
    for level in range(3):
        for name, array in tokens.arrays(level).items():
            place = f"level.{level}" if name == "tokens" else f"level.{level}.{name}"
            assert np.array_equal(stored[place], array.numpy())
    assert len(stored) == 1 + 3 * 9
    with safe_open(out, "numpy") as opened:
        assert json.loads(opened.metadata()["config"])["prediction"] == "loop"
    mptvc.import_tokens(out, back, codec=codec, progress=lambda *step: steps.append(step))
    assert back.read_bytes() == data
    assert steps == 2 * [(k, 3) for k in range(1, 4)]


def test_tokens_of_a_prefix_are_those_of_its_levels(tmp_path: Path, codec: Codec, data: bytes) -> None:
    out = tmp_path / "a.safetensors"
    mptvc.export_tokens(data[: mptvc.probe(data).header.prefix_bytes(1)], out, codec=codec)
    assert {name.rpartition(".")[0] for name in load_file(out)} == {"", "level", "level.0"}
    with pytest.raises(mptvc.FormatError, match=r"the tensor level\.1 is missing"):
        mptvc.import_tokens(out, tmp_path / "b.mpt", codec=codec)


def test_a_file_that_does_not_fit_is_named(tmp_path: Path, codec: Codec, data: bytes) -> None:
    good, bad, back = (tmp_path / name for name in ("a.safetensors", "bad.safetensors", "b.mpt"))
    mptvc.export_tokens(data, good, codec=codec)
    for name, value, message in (
        ("level.1.choices", lambda array: array + 29, "level 1: choices of 0 to 28"),
        ("level.2.shapes", lambda array: array + 2, "level 2: shapes of 0 to 1, found"),
        ("level.2.shapes", lambda array: array | 1, "a token without symbols has a shape of 0"),
        ("level.1.vectors", lambda array: array.astype(np.int64), "vectors is int32, found int64"),
        ("level.2", lambda array: array[1:], "level 2 is int16"),
        ("level.0.choices", lambda array: array * 0, "opening key has choices of 28"),
    ):
        tensors = load_file(good)
        save_file(tensors | {name: value(tensors[name])}, bad)
        with pytest.raises(mptvc.FormatError, match=f"bad.safetensors: .*{message}"):
            mptvc.import_tokens(bad, back, codec=codec)
        assert not back.exists()


def test_the_command_goes_both_ways(cli: Cli, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mpt").write_bytes(data)
    there = cli("tokens", "a.mpt", "a.safetensors")
    assert there.code == 0
    assert "tokens 11x1x2x768, 11x2x4x768, 11x4x8x192" in there.err
    assert cli("tokens", "a.safetensors", "b.mpt", "-q").code == 0
    assert (tmp_path / "b.mpt").read_bytes() == data
    tensors = load_file(tmp_path / "a.safetensors")
    save_file(tensors | {"level.0.kinds": tensors["level.0.kinds"] + 9}, tmp_path / "c.safetensors")
    refused = cli("tokens", "c.safetensors", "c.mpt")
    assert refused.code == DAMAGED
    assert is_one_error(refused)


def test_files_of_tensors_are_as_the_library_writes_them() -> None:
    """But for metadata, which stands in any order there, and in alphabetical order here."""
    rng = np.random.default_rng(1)
    tensors = {
        "b": rng.integers(0, 99, (5, 3), dtype=np.uint8),
        "a": rng.integers(0, 99, (3,), dtype=np.int8),
        "c": rng.integers(0, 99, (2, 3), dtype=np.int16),
        "d": rng.integers(0, 99, (3, 1), dtype=np.int32),
        "e": np.zeros((0, 4), np.uint8),
    }
    out = io.BytesIO()
    file = TensorFile(out, {name: (array.dtype, array.shape) for name, array in tensors.items()}, {"x": "y"})
    for rows in (slice(0, 1), slice(1, 3), slice(3, 9)):
        for name, array in reversed(tensors.items()):
            file.append(name, array[rows])
    assert out.getvalue() == save(tensors, {"x": "y"})


# Training data


def test_windows_of_such_tokens_are_refused(tmp_path: Path, codec: Codec, data: bytes) -> None:
    (tmp_path / "a.mpt").write_bytes(data)
    mptvc.export_tokens(data, tmp_path / "b.safetensors", codec=codec)
    asks: list[Callable[[], object]] = [
        lambda: mptvc.VideoDataset([tmp_path / "a.mpt"], frames=4, tokens=True),
        lambda: mptvc.VideoDataset([tmp_path / "b.safetensors"], frames=4, tokens=True),
        lambda: mptvc.ShardDecoder()(".safetensors", (tmp_path / "b.safetensors").read_bytes()),
        lambda: mptvc.VideoReader(data, codec=codec).tokens(0),
        lambda: mptvc.VideoReader(data, codec=codec).all_tokens(),
        lambda: codec.model,
    ]
    for ask in asks:
        with pytest.raises(mptvc.WeightsError, match=r'something else in every frame.*weights="tokenizer"'):
            ask()
