"""Shared fixtures: a small model with random weights, the packaged weights, the command line."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Cli, Result
from patterns import moving, waves, write_video
from range_server import RangeServer
from safetensors.torch import save
from small_models import stirred

import mptvc
from mptvc.cli.main import main
from mptvc.codec.codec import Codec
from mptvc.codec.patches import PatchCoder
from mptvc.codec.stored import CONFIG_FILE, TENSORS_FILE, write_weights
from mptvc.codec.weights import read_weights
from mptvc.files.transcode import encode_file
from mptvc.format.header import Header
from mptvc.model.config import LevelConfig, ModelConfig
from mptvc.model.model import Model

torch.set_num_threads(1)

CLIPS = Path(__file__).parents[2] / "shared" / "clips"


def build_small_config(
    details: tuple[int, ...] = (2, 2, 1), linear: tuple[int, ...] = (0, 4, 4)
) -> ModelConfig:
    """Three levels with few channels; by default the real geometry."""
    first = LevelConfig((63,) * 4 + (15,) * 8, dim=16, blocks=2, groups=(4, 8), hidden=16)
    levels = tuple(replace(first, detail=d, linear=n) for d, n in zip(details, linear, strict=True))
    return ModelConfig(levels=levels, hyper_channels=4, heads=1, head_dim=8)


def build_small_model(small_config: ModelConfig) -> Model:
    """A model whose blocks and integer networks all do something."""
    model = stirred(small_config, seed=5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".entropy_model." in name and ".hyper_analysis." not in name:
                parameter.copy_(parameter.round())
    return model


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    return build_small_config()


@pytest.fixture(scope="session")
def small_model(small_config: ModelConfig) -> Model:
    return build_small_model(small_config)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, small_model: Model) -> Path:
    """The small model as a folder."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(small_model, folder)
    return folder


@pytest.fixture(scope="session")
def small_codec(small_model: Model) -> Codec:
    return Codec(PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32))


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The packaged weights."""
    return mptvc.load("tokenizer", device="cpu")


@pytest.fixture(scope="session")
def loop_codec() -> Codec:
    """The packaged weights with prediction; a clip has a slice of one frame and one of four."""
    return mptvc.load("codec", device="cpu", clip_frames=5)


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """11 frames of 50 x 70 pixels with a cut after the sixth."""
    video = waves(11, 50, 70, across=5, down=7, speed=2, amplitude=60)
    video[6:] = 255 - 0.7 * video[6:]
    return video.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data(small_codec: Codec, frames: np.ndarray) -> bytes:
    """The frames as a file of three levels in one clip."""
    return small_codec.compress(frames, shots=(6, 5))


@pytest.fixture(scope="session")
def header(data: bytes) -> Header:
    return mptvc.probe(data).header


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    """The file in an empty folder."""
    path = tmp_path / "video.mpt"
    path.write_bytes(data)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    """Serves the files of a test's folder."""
    with RangeServer.running(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real video beside the checkout."""
    if not CLIPS.is_dir():
        pytest.skip("no real video beside the checkout")
    return CLIPS


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """Runs a command in this process, inside an empty folder."""
    monkeypatch.chdir(tmp_path)
    terminate, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mptvc", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, out, err)

    yield run
    signal.signal(signal.SIGTERM, terminate)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> Path:
    """Folder with a video of 11 frames of 64 x 48, a longer one, and their files."""
    folder = tmp_path_factory.mktemp("made")
    write_video(folder / "in.mkv", moving(11, 48, 64))
    write_video(folder / "long.mkv", moving(480, 16, 16))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encode_file(folder / "in.mkv", folder / "in.mpt", codec=codec)
    encode_file(folder / "long.mkv", folder / "long.mpt", codec=codec)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged weights with one number changed."""
    folder = tmp_path_factory.mktemp("weights")
    config, tensors = read_weights("tokenizer")
    name = next(
        name for name, tensor in tensors.items() if tensor.dtype == torch.float16 and tensor.dim() == 2
    )
    tensors[name] = tensors[name].clone()
    tensors[name][0, 0] += 1
    (folder / CONFIG_FILE).write_text(config.to_json())
    (folder / TENSORS_FILE).write_bytes(save(tensors))
    return folder
