"""Training by the command line: from videos to weights that encode and decode."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from command_line import FAILED, Cli
from patterns import moving, write_video

from mptvc.cli.train import _held_out, _line
from mptvc.codec.weights import read_weights
from mptvc.evaluate.plots import plot_training
from mptvc.train.config import CropShape, TrainConfig

TINY = replace(
    TrainConfig(steps=(2, 2, 2)),
    crops=(CropShape(1, 8, 64),) * 3,
    klt_batches=2,
    table_batches=2,
    validations=1,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 16 frames of 64 x 64."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "one.mkv", moving(16, 64, 64))
    write_video(folder / "two.mkv", moving(16, 64, 64)[:, :, ::-1])
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mptvc", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def trained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    settings = out.with_name("settings.json")
    settings.write_text(TINY.to_json())
    options = ("--settings", settings, "--held-out", "two", "--progress", "json")
    stopped = run("train", videos, "--out", out, *options, "--stop-after", "0")
    assert stopped.returncode == 0, stopped.stderr
    assert not (out / "model.safetensors").exists()
    finished = run("train", videos, "--out", out, *options)
    assert finished.returncode == 0, finished.stderr
    return out


def test_run_leaves_weights_settings_log_picture_and_card(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "train.json",
        "log.jsonl",
        "training.png",
        "README.md",
    }
    assert TrainConfig.from_json((trained / "train.json").read_text()) == TINY
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert {record["level"] for record in records if "loss" in record} == {0, 1, 2}
    assert len(records[-1]["held_out"]) == 3
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")
    assert "one.mkv" in (trained / "README.md").read_text()


def test_a_picture_that_cannot_be_drawn_costs_no_weights(trained: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out)  # goes on after the last step
    for name in ("config.json", "model.safetensors", "README.md", "training.png"):
        (out / name).unlink()
    (out / "training.png").mkdir()
    result = run("train", videos, "--out", out, "--settings", out / "train.json", "--held-out", "two")
    assert result.returncode == FAILED
    assert "training.png is a folder" in result.stderr
    assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in out.iterdir()}
    read_weights(str(out))


def test_picture_leaves_out_lines_of_the_log_that_are_cut(trained: Path) -> None:
    log = (trained / "log.jsonl").read_text()
    first = log.splitlines()[0]
    pictures = []
    for text in (log, f"{first[:9]}\n{log}{first[:20]}", f"{log}{first[:20]}{first}\n", first[:9], ""):
        out = BytesIO()
        plot_training(text, out)
        pictures.append(out.getvalue())
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] == pictures[1] == pictures[2] != pictures[3] == pictures[4]


def test_weights_of_a_run_encode_and_decode(trained: Path, videos: Path, tmp_path: Path) -> None:
    encoded = run("encode", videos / "one.mkv", tmp_path / "a.mpt", "--weights", trained)
    assert encoded.returncode == 0, encoded.stderr
    compared = run("compare", videos / "one.mkv", tmp_path / "a.mpt", "--weights", trained, "--json")
    assert compared.returncode == 0, compared.stderr
    (ladder,) = json.loads(compared.stdout)[0]["files"].values()
    assert ladder[2]["psnr_rgb"] > ladder[0]["psnr_rgb"] > 15
    assert run("decode", tmp_path / "a.mpt", tmp_path / "a.mp4").returncode == 4


def test_run_goes_on_with_its_own_settings_alone(trained: Path, videos: Path) -> None:
    other = run("train", videos, "--out", trained, "--steps", "3", "3", "3", "--held-out", "two")
    assert other.returncode == 2
    assert "holds a run with other settings" in other.stderr


def test_every_shard_of_a_held_out_video_is_held_out() -> None:
    shots = ["a.b.00", "a.b.01", "a.00", "c.00"]
    assert _held_out(shots, "a.b, c") == {"a.b.00", "a.b.01", "c.00"}
    with pytest.raises(ValueError, match="names b, which"):
        _held_out(shots, "b")


def test_a_level_that_goes_on_is_not_100_per_cent() -> None:
    assert _line({"level": 0, "progress": 0.9999, "step": 7}) == "level 0  99 %, step 7"
    assert _line({"level": 0, "progress": 1.0, "step": 8}) == "level 0 100 %, step 8"


def test_a_folder_that_no_run_has_made_is_left_alone(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    result = run("train", videos, "--out", tmp_path, "--steps", "1", "1", "1")
    assert result.returncode == 1
    assert "README.md, which would be replaced" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_unknown_held_out_name_is_a_usage_error(videos: Path, tmp_path: Path) -> None:
    result = run("train", videos, "--out", tmp_path / "out", "--held-out", "three", "--steps", "1", "1", "1")
    assert result.returncode == 2
    assert "--held-out names three" in result.stderr


def test_training_names_a_folder_that_is_missing(cli: Cli, made: Path, tmp_path: Path) -> None:
    result = cli("train", made, "nowhere", "--out", "t", "--steps", "1", "1", "1")
    assert result.code == FAILED
    assert "nowhere: no such file or folder" in result.err


@pytest.mark.parametrize("amount", [("--minutes", 0, 0, 0), ("--minutes", 1, 0, 1), ("--steps", 0, 0, 0)])
def test_a_run_that_would_end_without_weights_is_refused_first(
    cli: Cli, videos: Path, amount: tuple[object, ...]
) -> None:
    result = cli("train", videos, "--out", "out", *amount)
    assert result.code == 2
    assert "without --init each level needs some" in result.err
    assert not Path("out").exists()
