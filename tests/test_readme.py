"""The README's Python runs as it stands there, and its commands and the files it points to exist."""

import gc
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from patterns import moving, write_video

from mptvc.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning"
)  # of webdataset and datasets
def test_python_blocks_run_one_after_the_other_in_one_folder(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "sample.mkv", moving(32, 32, 48)).rename(tmp_path / "in.mp4")
    for block in BLOCKS:
        if "shards" in block:
            (tmp_path / "videos").mkdir()
            shutil.copy("in.mp4", "videos/in.mp4")
            for command in re.findall(r"^mptvc (tokenize videos .*)$", README, re.MULTILINE):
                assert cli(*command.split(), "--threads", 1).code == 0
        frames = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), dtype=np.uint8)
        exec(block, {"frames": frames})
    gc.collect()  # what those libraries have left open


def test_there_are_python_blocks():
    assert BLOCKS


def test_commands_of_the_readme_exist():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    used = set(re.findall(r"^\s*mptvc (\w+)", README, re.MULTILINE))
    assert used
    assert used <= names


def test_files_that_the_readme_points_to_exist():
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []
