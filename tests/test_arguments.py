"""What callers give: other forms of the same are taken, and what is wrong is said in one sentence."""

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from patterns import moving

import mptvc
from mptvc.codec.codec import Codec, Tokens

FRAMES = moving(5, 32, 40)


def written(frames: object, codec: Codec) -> bytes:
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=codec, shot_threshold=None) as writer:
        for frame in frames:  # type: ignore[attr-defined]
            writer.add(frame)
    return out.getvalue()


@pytest.mark.parametrize("form", [torch.from_numpy, list, lambda f: [torch.from_numpy(one) for one in f]])
def test_frames_may_be_a_tensor_or_a_list(small_codec: Codec, form: Callable[[np.ndarray], object]) -> None:
    given = form(FRAMES)
    assert small_codec.compress(given) == small_codec.compress(FRAMES)  # type: ignore[arg-type]
    assert small_codec.encode(given) == small_codec.encode(FRAMES)  # type: ignore[arg-type]
    assert mptvc.detect_shots(given) == (5,)  # type: ignore[arg-type]
    assert written(given, small_codec) == written(FRAMES, small_codec)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (FRAMES / 255, r"float64 .* from 0 to 1 by \(255 \* frames\)"),
        (torch.from_numpy(FRAMES).float(), "float32"),
        (FRAMES.astype(int), "int64"),
        (FRAMES.transpose(0, 3, 1, 2), r"uint8 \(5, 3, 32, 40\)"),
        (FRAMES[:0], r"uint8 \(0, 32, 40, 3\)"),
        ([FRAMES[0], FRAMES[1, :5]], "inhomogeneous"),
        (None, "object"),
        ("in.mp4", "<U6"),
    ],
)
def test_other_frames_are_refused_in_a_sentence(small_codec: Codec, frames: object, found: str) -> None:
    for call in (small_codec.compress, small_codec.encode, mptvc.detect_shots):
        with pytest.raises(ValueError, match=rf"frames are uint8 \[T, H, W, 3\].*{found}"):
            call(frames)  # type: ignore[operator]


@pytest.fixture(scope="module")
def tokens(small_codec: Codec) -> Tokens:
    return small_codec.encode(FRAMES)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: None, "tokens are mptvc.Tokens .* found NoneType"),
        (lambda t: list(t.levels), "tokens are mptvc.Tokens .* found list"),
        (lambda t: Tokens(t.levels, None), "tokens are mptvc.Tokens with the layout"),  # type: ignore[arg-type]
        (lambda t: Tokens(tuple(x.numpy() for x in t.levels), t.layout), "level 0 is a tensor .* ndarray"),
        (
            lambda t: Tokens(tuple(x.to("meta") for x in t.levels), t.layout),
            "level 0 is a tensor .* its data",
        ),
        (lambda t: Tokens(tuple(x.long() for x in t.levels), t.layout), "level 0 is uint8 .* found int64"),
        (lambda t: Tokens(tuple(x[:1] for x in t.levels), t.layout), "level 0 is uint8"),
        (lambda t: Tokens(tuple(x * 0 + 255 for x in t.levels), t.layout), "largest value"),
        (lambda t: Tokens((), t.layout), "1 to 3 levels"),
    ],
)
def test_bad_tokens_are_refused_in_a_sentence(
    small_codec: Codec, tokens: Tokens, spoil: Callable[[Tokens], Tokens], said: str
) -> None:
    for call in (small_codec.decode, small_codec.pack):
        with pytest.raises((TypeError, ValueError), match=said):
            call(spoil(tokens))  # type: ignore[operator]


@pytest.mark.parametrize("levels", [0, 4, 1.5, "2"])
def test_levels_are_a_whole_number(small_codec: Codec, tokens: Tokens, levels: int) -> None:
    with pytest.raises(ValueError, match="levels is 1 to 3"):
        small_codec.decode(tokens, levels=levels)


def test_a_codec_travels_by_the_name_of_its_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    codec = mptvc.load(weights.name, device="cpu", dtype="float32", tile=(128, 128))
    data = pickle.dumps(codec)
    assert len(data) < 1000
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert again.coder.weights_id == codec.coder.weights_id
    assert again.compress(FRAMES) == codec.compress(FRAMES)


def test_a_codec_whose_weights_have_changed_does_not_travel(
    tmp_path: Path, weights: Path, other_weights: Path
) -> None:
    copytree(weights, tmp_path / "w")
    data = pickle.dumps(mptvc.load(tmp_path / "w", device="cpu"))
    copytree(other_weights, tmp_path / "w", dirs_exist_ok=True)
    with pytest.raises(mptvc.WeightsError, match="are now"):
        pickle.loads(data)


def test_a_codec_made_otherwise_says_that_it_stays(small_codec: Codec) -> None:
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(small_codec)
