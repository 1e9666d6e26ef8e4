"""The commands on files with prediction, as who has just installed the package uses them."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import COMMAND, USAGE, Cli, is_one_error
from patterns import make_source, moving, write_video

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.geometry import LoopShots
from mptvc.format.inspect import SLICES
from mptvc.format.slices import FRONT_BYTES, split


@pytest.fixture
def made(tmp_path: Path, loop_codec: Codec) -> np.ndarray:
    """Frames; beside them stand their video and its file, of three clips."""
    frames = moving(11)
    write_video(tmp_path / "in.mkv", frames)
    mptvc.encode_file(tmp_path / "in.mkv", tmp_path / "a.mpt", codec=loop_codec)
    return frames


def test_from_video_to_pictures_and_back(cli: Cli, made: np.ndarray, tmp_path: Path) -> None:
    coded = cli("encode", "in.mkv", "b.mpt", "--weights", "codec", "--clip-frames", 5, "-q")
    assert (coded.code, coded.err) == (0, "")
    assert (tmp_path / "b.mpt").read_bytes() == (tmp_path / "a.mpt").read_bytes()
    for levels in (1, 2, 3):
        assert cli("truncate", "a.mpt", "part.mpt", "--levels", levels, "-f").code == 0
        assert cli("decode", "part.mpt", "part.npy", "-f").code == 0
        assert cli("decode", "a.mpt", "whole.npy", "--levels", levels, "-f").code == 0
        part = np.load(tmp_path / "part.npy")
        assert part.shape == made.shape
        assert np.array_equal(part, np.load(tmp_path / "whole.npy"))
    deep = json.loads(cli("verify", "a.mpt", "part.mpt", "--deep", "--json").out)
    assert deep[0]["sha256"] == deep[1]["sha256"] == mptvc.symbol_digests(tmp_path / "a.mpt")


def test_nothing_is_said_of_gains_that_slices_have_of_their_own(cli: Cli, made: np.ndarray) -> None:
    shown = cli("info", "a.mpt")
    assert "3 clips" in shown.out
    assert "quality" not in shown.out
    (facts,) = json.loads(cli("info", "a.mpt", "--json").out)
    assert [level["gains"] for level in facts["levels"]] == [None] * 3


def test_shares_of_slices_are_their_bytes(cli: Cli, made: np.ndarray, tmp_path: Path) -> None:
    (facts,) = json.loads(cli("info", "a.mpt", "--json").out)
    header = mptvc.probe(tmp_path / "a.mpt").header
    assert isinstance(header.shots, LoopShots)
    for level, told in enumerate(facts["levels"]):
        taken = dict.fromkeys(SLICES, 0)
        for clip in range(header.shots.num_clips):
            at, length = header.offset(level, clip), header.index.section(level, clip).length
            section = (tmp_path / "a.mpt").read_bytes()[at : at + length]
            for number, part in enumerate(split(section, len(header.shots.slices(clip)))):
                taken[SLICES[part.kind + 1 if number else 0]] += FRONT_BYTES + len(part.packet)
        assert told["slice_bytes"] == taken
        assert sum(taken.values()) == told["bytes"]
    shown = cli("info", "a.mpt").out
    assert "three between" in shown
    assert f"{100 * taken['opening'] / sum(taken.values()):.0f} %" in shown


def test_shares_of_slices_are_left_out_where_they_are_not_known(
    cli: Cli, made: np.ndarray, tmp_path: Path
) -> None:
    """A level that has not arrived, and one whose slices lie about their length."""
    data = bytearray((tmp_path / "a.mpt").read_bytes())
    header = mptvc.probe(bytes(data)).header
    data[header.offset(1, 2) + 5] = 255
    (tmp_path / "b.mpt").write_bytes(data[: header.prefix_bytes(3) - 1])
    (facts,) = json.loads(cli("info", "b.mpt", "--json").out)
    told = [level["slice_bytes"] for level in facts["levels"]]
    assert [found is None for found in told] == [False, True, True]
    assert cli("info", "b.mpt").code == 0


def test_quality_is_shown_where_it_is_known(cli: Cli, path: Path) -> None:
    assert "quality, dB" in cli("info", path).out
    (facts,) = json.loads(cli("info", path, "--json").out)
    assert [level["gains"] for level in facts["levels"]] == [[0]] * 3


def test_files_are_compared(cli: Cli, made: np.ndarray, tmp_path: Path) -> None:
    (compared,) = json.loads(cli("compare", "in.mkv", "a.mpt", "--json", "--html", "page.html").out)
    levels = compared["files"]["a.mpt"]
    header = mptvc.probe(tmp_path / "a.mpt").header
    assert [level["size_bytes"] for level in levels] == [header.prefix_bytes(k + 1) for k in range(3)]
    psnr = [level["psnr_rgb"] for level in levels]
    assert psnr == sorted(psnr)
    opening = [i for i, kind in enumerate(levels[2]["kinds"]) if kind == "opening key"]
    assert opening == [header.shots.frames(clip).start for clip in range(3)]
    assert all(len(level["kinds"]) == len(level["frames_rgb"]) == len(made) for level in levels)
    assert "<html" in (tmp_path / "page.html").read_text()


def test_sound_stays_with_the_video(cli: Cli, tmp_path: Path) -> None:
    make_source(tmp_path / "sound.mp4", frames=10)
    assert cli("encode", "sound.mp4", "a.mpt", "--weights", "codec").code == 0
    assert mptvc.probe(tmp_path / "a.mpt").header.side_bytes > 0
    decoded = cli("decode", "a.mpt", "out.mkv", "--levels", 1)
    assert decoded.code == 0
    assert b"A_AAC" in (tmp_path / "out.mkv").read_bytes()


def test_pipes_carry_files(made: np.ndarray, tmp_path: Path) -> None:
    source = (tmp_path / "in.mkv").read_bytes()
    options = ["--weights", "codec", "--clip-frames", "5", "-q", "--threads", "1"]
    encode = [*COMMAND, "encode", "-", "-", *options]
    coded = subprocess.run(encode, input=source, capture_output=True, check=True)
    assert coded.stdout == (tmp_path / "a.mpt").read_bytes()
    shown = subprocess.run([*COMMAND, "verify", "-"], input=coded.stdout, capture_output=True, check=True)
    assert shown.stdout.decode().strip() == "-: ok, complete"
    decode = [*COMMAND, "decode", "-", "-", "--format", "y4m", "--levels", "2", "-q", "--threads", "1"]
    decoded = subprocess.run(decode, input=coded.stdout, capture_output=True, check=True)
    assert decoded.stdout.startswith(b"YUV4MPEG2 W64 H48")
    assert decoded.stdout.count(b"FRAME") == len(made)
    target = io.BytesIO()
    mptvc.truncate(io.BytesIO(coded.stdout), target, levels=1)
    assert coded.stdout.startswith(target.getvalue())


def test_weights_are_shown_and_checked(cli: Cli) -> None:
    shown = json.loads(cli("weights", "show", "codec", "--json").out)
    assert shown["config"]["prediction"] == "loop"
    assert shown["parameters"]["networks"] == 0
    assert "exact" in cli("weights", "check", "codec").out


def test_clip_frames_of_weights_without_prediction_is_refused(cli: Cli, made: np.ndarray) -> None:
    refused = cli("encode", "in.mkv", "b.mpt", "--weights", "tokenizer", "--clip-frames", 5)
    assert refused.code == USAGE
    assert is_one_error(refused)
    assert "--clip-frames is for weights with prediction: --weights codec" in refused.err


def test_help_names_the_weights_of_the_package(cli: Cli) -> None:
    assert "tokenizer, codec" in " ".join(cli("encode", "--help").out.split())
