"""Tokens in and out of files, and as training data."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patterns import make_source
from safetensors import safe_open
from safetensors import torch as torch_file
from safetensors.numpy import load_file, save_file
from torch.utils.data import DataLoader

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.tokens import Tokens
from mptvc.format.packet import PacketWriter

Use = Callable[[Codec, Tokens], Any]


@pytest.fixture
def file(tmp_path: Path, small_codec: Codec, frames: np.ndarray) -> Path:
    (tmp_path / "a.mpt").write_bytes(small_codec.compress(frames, shots=(6, 5)))
    return tmp_path / "a.mpt"


def test_tokens_go_out_and_come_back(file: Path, small_codec: Codec, frames: np.ndarray) -> None:
    out, back = file.with_suffix(".safetensors"), file.with_name("back.mpt")
    mptvc.export_tokens(file, out, codec=small_codec)
    tokens = small_codec.encode(frames, shots=(6, 5))
    stored = load_file(out)
    for level, expected in enumerate(tokens.levels):
        assert np.array_equal(stored[f"level.{level}"], expected.numpy())
    mptvc.import_tokens(out, back, codec=small_codec)
    assert mptvc.symbol_digests(back, codec=small_codec) == mptvc.symbol_digests(file, codec=small_codec)
    assert np.array_equal(
        small_codec.decompress(back.read_bytes()).frames, small_codec.decompress(file.read_bytes()).frames
    )
    mptvc.verify(back)


def test_metadata_says_how_many_values_each_channel_has(file: Path, small_codec: Codec) -> None:
    mptvc.export_tokens(file, file.with_suffix(".safetensors"), codec=small_codec)
    with safe_open(file.with_suffix(".safetensors"), "numpy") as stored:
        values = json.loads(stored.metadata()["values"])
    assert values == [list(level.values) for level in small_codec.model.config.levels]


def test_tokens_are_the_same_bytes_every_time(file: Path, small_codec: Codec) -> None:
    """The library that writes them puts the metadata in any order."""
    out = file.with_suffix(".safetensors")
    found = set()
    for _ in range(8):
        mptvc.export_tokens(file, out, codec=small_codec, force=True)
        found.add(out.read_bytes())
    assert len(found) == 1


def test_tokens_of_a_prefix_are_those_of_its_levels(file: Path, small_codec: Codec) -> None:
    data, out = file.read_bytes(), file.with_suffix(".safetensors")
    mptvc.export_tokens(data[: mptvc.probe(data).header.prefix_bytes(2)], out, codec=small_codec)
    assert sorted(load_file(out)) == ["header", "level.0", "level.1"]
    with pytest.raises(mptvc.FormatError, match=r"the tensor level\.2 is missing"):
        mptvc.import_tokens(out, file.with_name("back.mpt"), codec=small_codec)


def test_progress_comes_with_every_clip(tmp_path: Path, small_codec: Codec) -> None:
    source, out, back = (tmp_path / name for name in ("a.mpt", "a.safetensors", "b.mpt"))
    noise = np.random.default_rng(3).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    source.write_bytes(small_codec.compress(noise))
    steps: list[tuple[int, int]] = []
    mptvc.export_tokens(source, out, codec=small_codec, progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    mptvc.import_tokens(out, back, codec=small_codec, progress=lambda *step: steps.append(step))
    assert steps[3:] == steps[:3]
    assert mptvc.symbol_digests(back, codec=small_codec) == mptvc.symbol_digests(source, codec=small_codec)


@pytest.fixture(scope="module")
def tokens(small_codec: Codec, frames: np.ndarray) -> Tokens:
    return small_codec.encode(frames)


def test_changed_tokens_make_another_file(small_codec: Codec, frames: np.ndarray) -> None:
    tokens = small_codec.encode(frames)
    changed = torch.flip(tokens.levels[2], [2])
    edited = Tokens((*tokens.levels[:2], changed), tokens.layout)
    video = small_codec.decompress(small_codec.pack(edited))
    assert np.array_equal(video.frames, small_codec.decode(edited))


def test_tokens_of_bytes_are_those_that_are_encoded(small_codec: Codec, frames: np.ndarray) -> None:
    rate = mptvc.Rate(quality=1)
    data = small_codec.compress(frames, shots=(6, 5), rate=rate)
    tokens = small_codec.encode(frames, shots=(6, 5), rate=rate)
    assert small_codec.unpack(data) == tokens
    assert small_codec.unpack(data, levels=1) == Tokens(tokens.levels[:1], tokens.layout)
    with pytest.raises(ValueError, match="levels is 1 to 3, found 4"):
        small_codec.unpack(data, levels=4)


@pytest.mark.parametrize("rate", [mptvc.Rate(), mptvc.Rate(quality=2), mptvc.Rate(bpp=(0.5, 2.0, 6.0))])
def test_packets_are_made_for_tokens_only_where_bits_are_counted(
    small_codec: Codec, frames: np.ndarray, rate: mptvc.Rate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are those of the file either way."""
    expected = small_codec.unpack(small_codec.compress(frames, shots=(6, 5), rate=rate))
    made: list[bytes] = []

    class Counted(PacketWriter):
        def finish(self) -> bytes:
            made.append(super().finish())
            return made[-1]

    monkeypatch.setattr("mptvc.codec.patches.PacketWriter", Counted)
    assert small_codec.encode(frames, shots=(6, 5), rate=rate) == expected
    assert bool(made) == bool(rate.bpp)


def test_predictions_of_weights_without_any_are_refused(
    small_codec: Codec, loop_codec: Codec, frames: np.ndarray
) -> None:
    tokens = small_codec.encode(frames)
    predictions = loop_codec.encode(frames[:2, :8, :8]).predictions
    with pytest.raises(ValueError, match=r"level 0 has tokens, shapes, .*; of these weights it has tokens"):
        small_codec.pack(replace(tokens, predictions=predictions))


def test_geometry_is_that_of_an_encoded_video(small_codec: Codec, frames: np.ndarray) -> None:
    assert small_codec.layout(11, 50, 70) == small_codec.encode(frames).layout
    for bad in ((0, 50, 70), (1, 0, 70), (1, 50, -1), (1, 50, 2**17)):
        with pytest.raises(ValueError, match="found"):
            small_codec.layout(*bad)


@pytest.mark.parametrize("use", [Codec.pack, Codec.decode])
class TestForeignTokens:
    """Packing and decoding refuse the same."""

    @pytest.mark.parametrize("level", [0, 2])
    def test_a_token_out_of_range(self, use: Use, level: int, small_codec: Codec, tokens: Tokens) -> None:
        levels = [part.clone() for part in tokens.levels]
        levels[level][1, 0, 0, 5] = 15
        with pytest.raises(ValueError, match=f"level {level} has a token above"):
            use(small_codec, Tokens(tuple(levels), tokens.layout))

    def test_tokens_of_another_shape(self, use: Use, small_codec: Codec, tokens: Tokens) -> None:
        first, *others = tokens.levels
        for changed in (first[:1], first[..., :-1], first[0], first.int()):
            with pytest.raises(ValueError, match="level 0 is uint8"):
                use(small_codec, Tokens((changed, *others), tokens.layout))

    @pytest.mark.parametrize("count", [0, 4])
    def test_another_number_of_levels(self, use: Use, count: int, small_codec: Codec, tokens: Tokens) -> None:
        levels = (*tokens.levels, tokens.levels[-1])[:count]
        with pytest.raises(ValueError, match=f"1 to 3 levels, found {count}"):
            use(small_codec, Tokens(levels, tokens.layout))

    def test_tokens_of_other_weights(self, use: Use, small_codec: Codec, tokens: Tokens) -> None:
        with pytest.raises(mptvc.WeightsError, match="weights="):
            use(small_codec, Tokens(tokens.levels, replace(tokens.layout, weights_id=b"x" * 32)))


def test_a_file_needs_the_tokens_of_all_levels(small_codec: Codec, tokens: Tokens) -> None:
    with pytest.raises(ValueError, match="3 levels are needed"):
        small_codec.pack(Tokens(tokens.levels[:2], tokens.layout))


def test_tokens_are_equal_where_all_of_them_and_their_layout_are(small_codec: Codec, tokens: Tokens) -> None:
    changed = tokens.levels[2].clone()
    changed[0, 0, 0, 0] ^= 1
    assert tokens == Tokens(tuple(level.clone() for level in tokens.levels), tokens.layout)
    assert tokens != Tokens((*tokens.levels[:2], changed), tokens.layout)
    assert tokens != Tokens(tokens.levels[:2], tokens.layout)
    assert tokens != Tokens(tokens.levels, replace(tokens.layout, gains=((1,), (0,), (0,))))
    assert tokens != tokens.levels


def test_the_frame_rate_goes_through_tokens_into_a_file(small_codec: Codec, frames: np.ndarray) -> None:
    rate = Fraction(30000, 1001)
    tokens = small_codec.encode(frames, frame_rate=rate)
    assert tokens.layout.video.frame_rate == rate
    assert small_codec.decompress(small_codec.pack(tokens)).frame_rate == rate


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Changes a tensor of a file."""

    def spoil(path: Path) -> None:
        tensors = load_file(path)
        tensors[name] = change(tensors[name])
        save_file(tensors, path)

    return spoil


def without(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        save_file({other: tensor for other, tensor in load_file(path).items() if other != name}, path)

    return spoil


def put(at: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Changes a byte of a tensor."""

    def change(tensor: np.ndarray) -> np.ndarray:
        tensor.reshape(-1)[at] = value
        return tensor

    return change


def as_bfloat16(path: Path) -> None:
    torch_file.save_file({"header": torch.zeros(3, dtype=torch.bfloat16)}, path)


#: What is done to a file of tokens, the error, and what it says after the file's name.
SPOILT: dict[str, tuple[Callable[[Path], Any], type[mptvc.MptError], str]] = {
    "absent": (Path.unlink, mptvc.MptError, "No such file or directory"),
    "text": (lambda path: path.write_text("none"), mptvc.FormatError, "not a safetensors file: "),
    "no header": (without("header"), mptvc.FormatError, "the tensor header is missing; "),
    "no level": (without("level.2"), mptvc.FormatError, "the tensor level.2 is missing; "),
    "bfloat16": (as_bfloat16, mptvc.FormatError, "the tensor header is uint8, found bfloat16"),
    "header of floats": (
        changed("header", lambda tensor: tensor.astype(np.float32)),
        mptvc.FormatError,
        "the tensor header is uint8, found float32",
    ),
    "header that ends early": (
        changed("header", lambda tensor: tensor[:-1]),
        mptvc.FormatError,
        "the tensor header is no header of an .mpt file: the file ends inside its header",
    ),
    "damaged header": (
        changed("header", put(-1, 77)),
        mptvc.FormatError,
        "the tensor header is no header of an .mpt file: the header is damaged",
    ),
    "text as header": (
        changed("header", put(0, 77)),
        mptvc.FormatError,
        "the tensor header is no header of an .mpt file: not an mpt file",
    ),
    "newer version": (
        changed("header", put(8, 77)),
        mptvc.UnsupportedVersionError,
        "format version 77 is not supported",
    ),
    "level of floats": (
        changed("level.1", lambda tensor: tensor.astype(np.float16)),
        mptvc.FormatError,
        "the tensor level.1 is uint8, found float16",
    ),
    "level of another shape": (
        changed("level.1", lambda tensor: tensor[1:]),
        mptvc.FormatError,
        "level 1 is uint8 (",
    ),
    "token out of range": (
        changed("level.2", put(0, 200)),
        mptvc.FormatError,
        "level 2 has a token above its channel's largest value",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_file_that_holds_no_tokens_is_named_and_so_is_the_reason(
    file: Path, small_codec: Codec, kind: str
) -> None:
    out = file.with_suffix(".safetensors")
    mptvc.export_tokens(file, out, codec=small_codec)
    spoil, error, message = SPOILT[kind]
    spoil(out)
    with pytest.raises(error, match=re.escape(f"{out}: {message}")) as raised:
        mptvc.import_tokens(out, file.with_name("back.mpt"), codec=small_codec)
    assert type(raised.value) is error
    assert str(raised.value).count(str(out)) == 1
    assert not file.with_name("back.mpt").exists()


def test_tokens_of_other_weights_or_above_a_limit_are_named(
    file: Path, small_codec: Codec, codec: Codec
) -> None:
    out, back = file.with_suffix(".safetensors"), file.with_name("back.mpt")
    mptvc.export_tokens(file, out, codec=small_codec)
    named = re.escape(f"{out}: ")
    with pytest.raises(mptvc.WeightsError, match=f"{named}the file needs the weights"):
        mptvc.import_tokens(out, back, codec=codec)
    with pytest.raises(mptvc.LimitExceededError, match=f"{named}.*max_pixels="):
        mptvc.import_tokens(out, back, codec=small_codec, limits=mptvc.Limits(max_pixels=10))
    back.write_text("there")
    with pytest.raises(mptvc.MptError, match=f"^{re.escape(str(back))} exists"):
        mptvc.import_tokens(out, back, codec=small_codec)


def test_sound_of_floats_is_refused(tmp_path: Path, small_codec: Codec) -> None:
    out = tmp_path / "a.safetensors"
    mptvc.encode_file(make_source(tmp_path / "in.mkv"), tmp_path / "a.mpt", codec=small_codec)
    mptvc.export_tokens(tmp_path / "a.mpt", out, codec=small_codec)
    changed("side", lambda tensor: tensor.astype(np.float32))(out)
    with pytest.raises(mptvc.FormatError, match="the tensor side is uint8, found float32"):
        mptvc.import_tokens(out, tmp_path / "back.mpt", codec=small_codec)


# Datasets, with the packaged weights, which workers load by themselves


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> list[Path]:
    """Two files of 70 and 33 frames."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(3)
    for name, count in (("a", 70), ("b", 33)):
        small = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        (folder / f"{name}.mpt").write_bytes(codec.compress(small.repeat(8, 1).repeat(8, 2)))
    return [folder / "a.mpt", folder / "b.mpt"]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_frames_of_every_window(corpus: list[Path], codec: Codec, workers: int) -> None:
    windows = mptvc.VideoDataset(corpus, frames=16, stride=16)
    assert len(windows) == 4 + 2
    batches = list(DataLoader(windows, batch_size=2, num_workers=workers))
    whole = [codec.decompress(path.read_bytes()).frames for path in corpus]
    expected = [whole[0][i : i + 16] for i in (0, 16, 32, 48)] + [whole[1][i : i + 16] for i in (0, 16)]
    assert np.array_equal(torch.cat(batches), np.stack(expected))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_tokens_of_every_window(corpus: list[Path], codec: Codec, workers: int) -> None:
    windows = mptvc.VideoDataset(corpus, frames=32, stride=16, tokens=True, levels=2)
    assert len(windows) == 3 + 1
    loaded = list(DataLoader(windows, batch_size=2, num_workers=workers))
    with mptvc.VideoReader(corpus[0], codec=codec) as reader:
        expected = [reader.tokens(level) for level in range(2)]
    assert [tuple(level.shape) for level in loaded[0]] == [(2, 8, *part.shape[1:]) for part in expected]
    for level in range(2):
        assert torch.equal(loaded[0][level], torch.stack([expected[level][:8], expected[level][4:12]]))


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path, codec: Codec) -> None:
    for value in (0, 200):
        data = codec.compress(np.full((16 + value, 32, 32, 3), value, np.uint8))
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").rename(tmp_path / "a.mpt")
        windows = mptvc.VideoDataset([tmp_path / "a.mpt"], frames=16)
        assert abs(windows[len(windows) - 1].float().mean() - value) < 3  # type: ignore[union-attr]


def test_windows_that_make_no_sense_are_refused(corpus: list[Path]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        mptvc.VideoDataset(corpus, frames=0)
    with pytest.raises(ValueError, match="multiples of 4"):
        mptvc.VideoDataset(corpus, frames=10, tokens=True)


def test_an_error_of_the_callers_progress_is_the_callers(made: Path, codec: Codec, tmp_path: Path) -> None:
    def fail(_done: int, _total: int) -> None:
        raise ValueError("mine")

    mptvc.export_tokens(made / "in.mpt", tmp_path / "a.safetensors", codec=codec)
    with pytest.raises(ValueError, match="mine"):
        mptvc.import_tokens(tmp_path / "a.safetensors", tmp_path / "a.mpt", codec=codec, progress=fail)
    assert not (tmp_path / "a.mpt").exists()
