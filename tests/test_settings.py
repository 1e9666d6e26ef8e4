"""Every public call does the same whatever settings of torch a process has, and leaves them as they were."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import moving, write_video

import mptvc
from mptvc.codec.settings import computing

FRAMES = moving(4, 16, 24)


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "bfloat16": lambda: default_type(torch.bfloat16),
    "float64": lambda: default_type(torch.float64),
    "meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
}


def everything(folder: Path, weights: str) -> list[object]:
    """What all public calls give for a small video."""
    folder.mkdir()
    frames = FRAMES[:2] if weights == "codec" else FRAMES
    source, coded = write_video(folder / "in.mkv", frames), folder / "a.mpt"
    codec = mptvc.load(weights, device="cpu", dtype="float32")
    data = codec.compress(frames)
    report = mptvc.encode_file(source, coded, codec=codec)
    mptvc.decode_file(coded, folder / "back.npy", codec=codec)
    mptvc.truncate(coded, folder / "part.mpt", levels=1)
    with mptvc.VideoWriter(folder / "written.mpt", codec=codec) as writer:
        for frame in frames:
            writer.add(frame)
    with mptvc.VideoReader(coded, codec=codec) as reader:
        read = [reader[-1], reader[[0, -2]], reader.frames_at([0.0, Fraction(1, 25)])]
        if weights != "codec":
            read += [reader.tokens(1), *reader.all_tokens()]
    windows = mptvc.VideoDataset([coded], frames=2, weights=weights)
    results = [
        data,
        codec.decompress(data).frames,
        codec.layout(4, 16, 24),
        report.header,
        coded.read_bytes(),
        np.load(folder / "back.npy"),
        mptvc.verify(folder / "part.mpt").available,
        mptvc.symbol_digests(coded, codec=codec),
        (folder / "written.mpt").read_bytes(),
        windows[0],
        mptvc.detect_shots(frames),
        *read,
    ]
    return results + (grids(folder, codec, weights) if weights != "codec" else [])


def grids(folder: Path, codec: mptvc.Codec, weights: str) -> list[object]:
    """What the calls give that need a plain grid of tokens."""
    tokens = codec.encode(FRAMES)
    mptvc.export_tokens(folder / "a.mpt", folder / "a.safetensors", codec=codec)
    mptvc.import_tokens(folder / "a.safetensors", folder / "again.mpt", codec=codec)
    (row,) = mptvc.Tokenizer(mptvc.TokenizerOptions(weights=weights, levels=2))(
        {"path": str(folder / "in.mkv")}
    )
    return [
        *tokens.levels,
        codec.decode(tokens, levels=2),
        codec.pack(tokens),
        codec.shape(tokens.layout, 0),
        (folder / "again.mpt").read_bytes(),
        *mptvc.ShardDecoder()("safetensors", row["data"]),
        *mptvc.VideoDataset([folder / "a.mpt"], frames=4, tokens=True, weights=weights)[0],
    ]


@pytest.fixture(scope="module", params=["patches", "codec"])
def wanted(
    request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[object]]:
    """Weights of each form, and what all calls give without any settings."""
    name = str(weights) if request.param == "patches" else "codec"
    return name, everything(tmp_path_factory.mktemp("plain") / "a", name)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_call_does_the_same_under_settings_of_the_process(
    tmp_path: Path, wanted: tuple[str, list[object]], name: str
) -> None:
    weights, plain = wanted
    with SETTINGS[name]():
        found = everything(tmp_path / "a", weights)
    assert_same(found, plain)


def assert_same(found: list[object], plain: list[object]) -> None:
    assert len(found) == len(plain)
    for one, other in zip(found, plain, strict=True):
        assert type(one) is type(other)
        assert (
            bool(np.array_equal(one, other)) if isinstance(one, np.ndarray | torch.Tensor) else one == other
        )


def test_the_last_of_several_threads_gives_the_type_back() -> None:
    with default_type(torch.float64):
        first, second = computing(), computing()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64


FORK = """
import multiprocessing, sys
import numpy as np, torch, mptvc

torch.set_num_threads(2)
codec = mptvc.load("tokenizer", device="cpu")
frames = np.random.default_rng(0).integers(0, 255, (4, 96, 128, 3), np.uint8)
data = codec.compress(frames)
wanted = codec.decompress(data).frames

def work():
    same = np.array_equal(codec.decompress(data).frames, wanted) and codec.compress(frames) == data
    sys.exit(0 if same else 3)

process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join(60)
alive = process.is_alive()
process.kill()
sys.exit("it hangs" if alive else process.exitcode)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_process_forked_after_decoding_decodes() -> None:
    """The library of threads waits for ever for threads that are not there after a fork."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=120)
