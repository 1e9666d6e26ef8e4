"""The command that encodes: names, options, warnings."""

import json
import shutil
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame
from command_line import FAILED, USAGE, Cli, Result, is_one_error, names
from patterns import moving, write_video


def test_default_target_has_the_name_of_the_source(cli: Cli, made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "in.mkv", "clip.mkv")
    assert cli("encode", "clip.mkv", "-q") == Result(0, "", "")
    assert names(tmp_path) == ["clip.mkv", "clip.mpt"]


def test_bits_and_quality_are_chosen_and_shown(cli: Cli, made: Path) -> None:
    levels = [level["bpp"] for level in json.loads(cli("info", made / "in.mpt", "--json").out)[0]["levels"]]
    bpp = ",".join(str(0.9 * value) for value in levels)
    for name, options in (("less.mpt", ["--bpp", bpp]), ("coarse.mpt", ["--quality", "-3"])):
        assert cli("encode", made / "in.mkv", name, *options, "--weights", "tokenizer").code == 0
        found = json.loads(cli("info", name, "--json").out)[0]["levels"]
        assert found[2]["bpp"] < levels[2]
        assert found[2]["gains"][0] < 0
    assert found[0]["gains"] == [-12]
    assert "-3.0" in cli("info", "coarse.mpt").out


def test_warnings_go_to_standard_error(cli: Cli, tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv", moving(60, 16, 24))
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    result = cli("encode", "cut.mkv", "a.mpt", "-q")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("warning: the source promises 2.40 s")
    result = cli("encode", "cut.mkv", "b.mpt", "--strict")
    assert result.code == FAILED
    assert is_one_error(result)
    assert names(tmp_path) == ["a.mpt", "cut.mkv", "whole.mkv"]


def test_input_that_is_no_video_exits_with_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no video\n")
    result = cli("encode", "a.txt")
    assert result.code == FAILED
    assert is_one_error(result)
    assert "a.txt: cannot be read as video" in result.err
    assert names(tmp_path) == ["a.txt"]


def test_deep_video_is_rounded_on_request(cli: Cli, tmp_path: Path) -> None:
    with av.open("deep.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        for pixels in moving(3, 48, 64):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p10le")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    refused = cli("encode", "deep.mkv", "a.mpt")
    assert refused.code == 1
    assert "--force-8bit" in refused.err
    assert names(tmp_path) == ["deep.mkv"]
    assert cli("encode", "deep.mkv", "a.mpt", "--force-8bit").code == 0


@pytest.mark.parametrize("text", ["x", "", "0.1;0.2", "nan,1,2", "0.1", "3,2,1"])
def test_bits_that_say_nothing_are_refused(cli: Cli, made: Path, tmp_path: Path, text: str) -> None:
    out = cli("encode", made / "in.mkv", "a.mpt", "--bpp", text)
    assert out.code == USAGE
    assert "bits per pixel" in out.err or "--bpp" in out.err
    assert names(tmp_path) == []


def test_bits_that_cannot_be_kept_are_a_warning(cli: Cli, made: Path, tmp_path: Path) -> None:
    out = cli("encode", made / "in.mkv", "a.mpt", "--bpp", "0.001,0.002,50")
    assert out.code == 0
    assert out.err.count("warning: ") == 2
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "in.mkv").write_bytes((made / "in.mkv").read_bytes())
    folder = cli("encode", "videos", "--output-dir", "coded", "--bpp", "0.001,0.002,50", "--json")
    assert folder.code == 0
    assert folder.err.count("warning: ") == 2
    assert len(json.loads(folder.out)["warnings"]["videos/in.mkv"]) == 2
    options = ("--output-dir", "other", "--bpp", "0.001,0.002,50", "--strict", "--json")
    strict = cli("encode", "videos", *options)
    assert strict.code == FAILED
    assert "; --strict refuses that" in strict.err
    assert json.loads(strict.out)["failed"]["videos/in.mkv"].endswith("; --strict refuses that")
