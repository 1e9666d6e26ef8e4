"""Weights with prediction, fitted to videos by one command."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import FAILED, Cli, names
from patterns import moving, write_video

import mptvc
from mptvc.codec.stored import write_weights
from mptvc.errors import VideoError, WeightsError
from mptvc.evaluate.sample import sample_frames
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.loop_model import LoopModel
from mptvc.train.loop_fit import default_loop_config, fit_tables


def sizes(folder: Path, frames: np.ndarray) -> int:
    return len(mptvc.load(folder, device="cpu").compress(frames))


def test_one_command_makes_weights_that_take_fewer_bytes(tmp_path: Path, cli: Cli) -> None:
    write_video(tmp_path / "a.mkv", sample_frames()[:9, :96, :128])
    result = cli("weights", "fit", tmp_path / "a.mkv", "--out", tmp_path / "mine", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert names(tmp_path / "mine") == ["config.json", "model.safetensors"]
    write_weights(LoopModel(default_loop_config()), tmp_path / "even")
    frames = sample_frames()[9:18, :96, :128]
    assert sizes(tmp_path / "mine", frames) < 0.7 * sizes(tmp_path / "even", frames)
    again = cli("weights", "fit", tmp_path / "a.mkv", "--out", tmp_path / "mine", "-q")
    assert again.code == FAILED
    assert "exists" in again.err


def test_a_video_that_cannot_be_read_is_named_and_the_others_count(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", moving(5))
    (tmp_path / "b.mkv").write_bytes(b"no video at all")
    model = LoopModel(LoopConfig((LoopLevelConfig(38.0, detail=2), LoopLevelConfig(13.0))))
    (failure,) = fit_tables(model, [tmp_path / "a.mkv", tmp_path / "b.mkv"])
    assert "b.mkv" in failure
    with pytest.raises(VideoError, match=r"b\.mkv"):
        fit_tables(model, [tmp_path / "b.mkv"])


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let this process open few files at a time."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
def test_processes_change_nothing_of_the_weights(tmp_path: Path) -> None:
    for name, frames in (("a", moving(3)), ("b", sample_frames()[:3, :48, :64])):
        write_video(tmp_path / f"{name}.mkv", frames)
    (tmp_path / "d.mkv").write_bytes(b"no video at all")
    videos, made = sorted(tmp_path.glob("*.mkv")), []
    for jobs in (1, 2):
        torch.manual_seed(0)
        levels = LoopLevelConfig(38.0, detail=2), LoopLevelConfig(13.0, restoration=True)
        model = LoopModel(LoopConfig(levels))
        done: list[tuple[int, int]] = []
        (failure,) = fit_tables(model, videos, lambda *at, done=done: done.append(at), jobs=jobs)
        assert "d.mkv" in failure
        assert done == [(k + 1, 9) for k in range(9)]
        made.append(model.state_dict())
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(tensor, made[1][key]) for key, tensor in made[0].items())


def test_levels_have_pictures_of_whole_blocks() -> None:
    with pytest.raises(WeightsError, match="whole blocks of 16 pixels, found multiples of 8"):
        LoopConfig((LoopLevelConfig(38.0),))
    LoopConfig((LoopLevelConfig(38.0),), patch_size=16)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ((2, 1, 2, 1), "pictures as large as those of the coarser level, or twice, found 4"),
        ((1, 2), "detail 1 of the finest level, found 2"),
    ],
)
def test_pictures_of_levels_fit_each_other(details: tuple[int, ...], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        LoopConfig(tuple(LoopLevelConfig(38.0, detail=detail) for detail in details), patch_size=8)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"fineness": 1.5}, "fineness 0 to 1, found 1.5"),
        ({"smoothing": 0.0}, r"smoothing 0\.1 to 4, found 0\.0"),
    ],
)
def test_levels_keep_to_their_ranges(field: dict[str, float], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        LoopConfig((LoopLevelConfig(38.0, **field),), patch_size=16)  # type: ignore[arg-type]


def test_patches_are_of_8_or_16_pixels() -> None:
    with pytest.raises(WeightsError, match="patch_size 8 or 16, found 4"):
        LoopConfig((LoopLevelConfig(38.0),), patch_size=4)
