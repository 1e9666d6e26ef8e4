"""The commands around the codec: compare, weights, env, demo."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import FAILED, Cli, is_one_error, names
from patterns import write_video

from mptvc.codec.weights import read_weights
from mptvc.errors import MptError
from mptvc.evaluate.sample import write_contact_sheet
from mptvc.format.inspect import probe
from mptvc.video.source import VideoSource


def test_lossless_pictures_have_no_number_that_json_lacks(cli: Cli, tmp_path: Path) -> None:
    write_video(tmp_path / "black.mkv", np.zeros((4, 32, 32, 3), np.uint8))
    shutil.copy(tmp_path / "black.mkv", tmp_path / "same.mkv")
    assert cli("encode", "black.mkv", "black.mpt", "-q").code == 0
    result = cli("compare", "black.mkv", "same.mkv", "black.mpt", "--against", "x264", "--json")
    assert result.code == 0
    (row,) = json.loads(result.out, parse_constant=pytest.fail)[0]["files"]["same.mkv"]
    assert row["psnr_rgb"] is None
    page = cli("compare", "black.mkv", "black.mpt", "--against", "x264", "--html", "page.html")
    assert page.code == 0, page.err


def test_tables_are_whole_where_nobody_sees_a_terminal(cli: Cli, made: Path) -> None:
    result = cli("compare", made / "in.mkv", made / "in.mpt", "--against", "x264", "--ssim")
    assert result.code == 0
    assert "…" not in result.out
    assert "MS-SSIM" in result.out


def test_environment_is_json(cli: Cli) -> None:
    facts = json.loads(cli("env", "--json").out)
    assert facts["torch"] == torch.__version__
    assert {"mptvc", "python", "system", "av", "numpy", "constriction"} <= facts.keys()


def test_weights_count_networks_and_entropy_model_apart(cli: Cli) -> None:
    shown = json.loads(cli("weights", "show", "tokenizer", "--json").out)
    tensors = read_weights("tokenizer")[1]
    entropy = {name: tensor for name, tensor in tensors.items() if ".entropy_model." in name}
    parameters = {name: tensor.numel() for name, tensor in tensors.items() if "frequencies" not in name}
    of_entropy = sum(count for name, count in parameters.items() if name in entropy)
    assert shown["parameters"]["entropy_model"] == of_entropy
    assert shown["parameters"]["networks"] == sum(parameters.values()) - of_entropy
    tables = sum(tensor.numel() for name, tensor in tensors.items() if "frequencies" in name)
    assert shown["parameters"]["tables"] == tables
    assert sum(level["entropy_model"] for level in shown["levels"]) == of_entropy
    assert len(shown["weights_id"]) == len(shown["entropy_id"]) == 64


def test_packaged_weights_pass_their_check(cli: Cli) -> None:
    for name in ("tokenizer", "codec"):
        result = cli("weights", "check", name)
        assert result.code == 0
        assert result.out.count("exact") == 3  # a network for each level


def test_demo_writes_its_files(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", "shown")
    assert (result.code, result.out) == (0, "")
    levels = ["levels_1.mpt", "levels_2.mpt", "levels_3.mpt"]
    assert names(tmp_path / "shown") == ["levels.png", *levels, "sample.mkv", "sample.mpt"]
    with VideoSource(tmp_path / "shown" / "levels.png") as sheet:
        assert (sheet.info.width, sheet.info.height) == (3 * 512, 4 * 288)
    assert probe(tmp_path / "shown" / "sample.mpt").header.shots.lengths == (28, 20)
    whole = (tmp_path / "shown" / "sample.mpt").read_bytes()
    assert all(whole.startswith((tmp_path / "shown" / name).read_bytes()) for name in levels)
    refused = cli("demo", "shown")
    assert refused.code == FAILED
    assert is_one_error(refused)


def test_contact_sheet_appears_whole_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes the part before a colon for a protocol and %d for a number."""
    monkeypatch.chdir(tmp_path)
    sheet = Path("my:demo") / "a:b%d.png"
    sheet.parent.mkdir()
    rows = [np.full((2, 4, 6, 3), shade, np.uint8) for shade in (0, 200)]
    write_contact_sheet(sheet, rows)
    whole = sheet.read_bytes()
    with VideoSource(BytesIO(whole)) as source:
        (frame,) = source.frames()
    assert np.array_equal(frame.pixels, np.concatenate([np.hstack(list(row)) for row in rows]))
    with pytest.raises(MptError, match=r"exists; force=True replaces it"):
        write_contact_sheet(sheet, rows[:1])
    assert sheet.read_bytes() == whole
    write_contact_sheet(sheet, rows[:1], force=True)
    assert sheet.read_bytes() != whole
    assert names(sheet.parent) == [sheet.name]
