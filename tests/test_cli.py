"""The command as a user runs it: results, exit codes, messages, pipes, signals, and nothing left over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest
import torch
import typer
from av.video.frame import VideoFrame
from safetensors.torch import save

from mptvc.cli.main import app, main
from mptvc.codec.codec import Codec
from mptvc.codec.weights import CONFIG_FILE, TENSORS_FILE, read_weights
from mptvc.files.transcode import encode_file
from mptvc.format.header import VideoInfo
from mptvc.format.inspect import probe
from mptvc.video.sink import OutputOptions, VideoSink
from mptvc.video.source import VideoSource

FAILED, USAGE, DAMAGED, WEIGHTS, INTERRUPTED = 1, 2, 3, 4, 130
COMMAND = [sys.executable, "-m", "mptvc"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


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


def moving(count: int, height: int, width: int) -> np.ndarray:
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    waves = [np.sin((x + t) / (9 + c)) + np.cos((y - t) / (8 - c)) for c in range(3)]
    return (127 + 55 * np.stack(waves, -1)).transpose(2, 0, 1, 3).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray) -> None:
    rate = Fraction(25)
    info = VideoInfo(frames.shape[2], frames.shape[1], len(frames), rate, 1 / rate)
    with VideoSink(path, info, OutputOptions("mkv", "ffv1")) as sink:
        sink.write(frames)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged weights with one number changed."""
    folder = tmp_path_factory.mktemp("weights")
    config, tensors = read_weights(None)
    name = next(
        name for name, tensor in tensors.items() if tensor.dtype == torch.float16 and tensor.dim() == 2
    )
    tensors[name] = tensors[name].clone()
    tensors[name][0, 0] += 1
    (folder / CONFIG_FILE).write_text(config.to_json())
    (folder / TENSORS_FILE).write_bytes(save(tensors))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_one_error(result: Result) -> bool:
    return result.out == "" and result.err.startswith("error: ") and result.err.count("\n") == 1


def commands(group: typer.Typer, *above: str) -> Iterator[list[str]]:
    for command in group.registered_commands:
        callback = command.callback
        assert callback is not None
        yield [*above, command.name or callback.__name__]
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance, *above, str(sub.name))


# Help and facts


@pytest.mark.parametrize("command", list(commands(app)), ids=" ".join)
def test_help_of_every_command_has_an_example(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Example: mptvc {' '.join(command)}" in result.out


def test_version_is_printed(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out.strip().replace(".", "").isalnum()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("compare", "mptvc[eval]"),
        ("bench", "mptvc[peers]"),
        ("encode", "[@revision]"),
        ("encode", "cuda[:N]"),
    ],
)
def test_help_shows_brackets(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, text: str) -> None:
    """They are markup to the library that prints the help."""
    monkeypatch.setenv("COLUMNS", "250")
    assert text in cli(command, "--help").out


def test_no_arguments_show_the_help(cli: Cli) -> None:
    result = cli()
    assert "encode" in result.out
    assert result.err == ""


def test_environment_is_json(cli: Cli) -> None:
    facts = json.loads(cli("env", "--json").out)
    assert facts["torch"] == torch.__version__
    assert {"mptvc", "python", "system", "av", "numpy", "constriction"} <= facts.keys()


def test_weights_count_networks_and_entropy_model_apart(cli: Cli) -> None:
    shown = json.loads(cli("weights", "show", "--json").out)
    tensors = read_weights(None)[1]
    entropy = {name: tensor for name, tensor in tensors.items() if ".entropy_model." in name}
    parameters = {name: tensor.numel() for name, tensor in tensors.items() if "frequencies" not in name}
    of_entropy = sum(count for name, count in parameters.items() if name in entropy)
    assert shown["parameters"]["entropy_model"] == of_entropy
    assert shown["parameters"]["networks"] == sum(parameters.values()) - of_entropy
    assert sum(level["entropy_model"] for level in shown["levels"]) == of_entropy
    assert len(shown["weights_id"]) == len(shown["entropy_id"]) == 64


def test_packaged_weights_pass_their_check(cli: Cli) -> None:
    result = cli("weights", "check")
    assert result.code == 0
    assert result.out.count("exact") == 3


# The whole chain


def test_chain_from_video_to_quality(cli: Cli, made: Path, tmp_path: Path) -> None:
    coded = cli("encode", made / "in.mkv", "a.mpt", "--json", "-q")
    assert (coded.code, coded.err) == (0, "")
    sizes = json.loads(coded.out)["prefix_bytes"]
    assert (tmp_path / "a.mpt").read_bytes() == (made / "in.mpt").read_bytes()

    (shown,) = json.loads(cli("info", "a.mpt", "--json").out)
    assert (shown["width"], shown["height"], shown["frames"]) == (64, 48, 11)
    assert [level["prefix_bytes"] for level in shown["levels"]] == sizes

    for levels in (1, 2, 3):
        cut = f"{levels}.mpt"
        assert json.loads(cli("truncate", "a.mpt", cut, "--levels", levels, "--json").out)["levels"] == levels
        assert (tmp_path / cut).read_bytes() == (tmp_path / "a.mpt").read_bytes()[: sizes[levels - 1]]
        result = cli("decode", cut, f"{levels}.npy", "--json", "-q")
        assert json.loads(result.out) == {
            "output": f"{levels}.npy",
            "levels": levels,
            "frames": 11,
            "damage": [],
        }
        assert cli("decode", "a.mpt", f"full{levels}.npy", "--levels", levels).code == 0
        frames = np.load(tmp_path / f"{levels}.npy")
        assert frames.shape == (11, 48, 64, 3)
        assert np.array_equal(frames, np.load(tmp_path / f"full{levels}.npy"))

    (compared,) = json.loads(cli("compare", made / "in.mkv", "a.mpt", "--json").out)
    assert [level["size_bytes"] for level in compared["files"]["a.mpt"]] == sizes

    checked = json.loads(cli("verify", "a.mpt", "2.mpt", "--deep", "--json").out)
    assert [(file["ok"], file["complete_levels"]) for file in checked] == [(True, 3), (True, 2)]
    assert checked[0]["sha256"][:2] == checked[1]["sha256"]


def test_results_for_people_go_to_standard_output(cli: Cli, made: Path) -> None:
    shown = cli("info", made / "in.mpt")
    assert "64x48, 11 frames at 25 fps" in shown.out.replace("\n", " ")
    compared = cli("compare", made / "in.mkv", made / "in.mpt")
    assert "PSNR RGB" in compared.out
    checked = cli("verify", made / "in.mpt")
    assert checked.out == f"{made / 'in.mpt'}: ok, complete\n"
    assert shown.err == compared.err == checked.err == ""


def test_files_are_no_result_and_their_description_goes_to_standard_error(cli: Cli, made: Path) -> None:
    for arguments in (
        ("encode", made / "in.mkv", "a.mpt"),
        ("truncate", "a.mpt", "b.mpt", "--levels", 1),
        ("decode", "a.mpt", "a.mp4"),
    ):
        result = cli(*arguments)
        assert (result.code, result.out) == (0, "")
        assert result.err.startswith(f"{arguments[2]}: ")
        assert result.err.count("\n") == 1


def test_default_target_has_the_name_of_the_source(cli: Cli, made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "in.mkv", "clip.mkv")
    assert cli("encode", "clip.mkv", "-q") == Result(0, "", "")
    assert names(tmp_path) == ["clip.mkv", "clip.mpt"]


@pytest.mark.parametrize("name", ["a [x264].mpt", "a [bold].mpt", "a :ok:.mpt"])
def test_messages_show_names_as_they_are(cli: Cli, made: Path, name: str) -> None:
    shutil.copy(made / "in.mpt", "in.mpt")
    assert cli("truncate", "in.mpt", name, "--levels", 1).err.startswith(f"{name}: ")
    assert name in cli("compare", made / "in.mkv", name).out


def test_truncation_keeps_to_a_size_or_rate(cli: Cli, made: Path) -> None:
    header = probe(made / "in.mpt").header
    for option, limit in (
        ("--max-bytes", header.prefix_bytes(2)),
        ("--max-bitrate", f"{8 * header.prefix_bytes(2) / 0.44 / 1000 + 0.01:.2f}k"),
    ):
        result = cli("truncate", made / "in.mpt", "a.mpt", option, limit, "--json", "-f")
        assert json.loads(result.out)["levels"] == 2


def test_bits_and_quality_are_chosen_and_shown(cli: Cli, made: Path) -> None:
    levels = [level["bpp"] for level in json.loads(cli("info", made / "in.mpt", "--json").out)[0]["levels"]]
    bpp = ",".join(str(0.9 * value) for value in levels)
    for name, options in (("less.mpt", ["--bpp", bpp]), ("coarse.mpt", ["--quality", "-3"])):
        assert cli("encode", made / "in.mkv", name, *options).code == 0
        found = json.loads(cli("info", name, "--json").out)[0]["levels"]
        assert found[2]["bpp"] < levels[2]
        assert found[2]["gains"][0] < 0
    assert found[0]["gains"] == [-12]
    assert "-3.0" in cli("info", "coarse.mpt").out


def test_progress_is_json_lines_up_to_the_total(cli: Cli, made: Path) -> None:
    lines = cli("encode", made / "in.mkv", "a.mpt", "--progress", "json", "-q").err.splitlines()
    assert json.loads(lines[0])["done"] == 1
    assert json.loads(lines[-1]) == {"job": "encode", "done": 11, "total": 11}


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


def test_demo_writes_its_files(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", "shown")
    assert (result.code, result.out) == (0, "")
    levels = ["levels_1.mpt", "levels_2.mpt", "levels_3.mpt"]
    assert names(tmp_path / "shown") == ["levels.png", *levels, "sample.mkv", "sample.mpt"]
    with VideoSource(tmp_path / "shown" / "levels.png") as sheet:
        assert (sheet.info.width, sheet.info.height) == (3 * 512, 4 * 288)
    assert probe(tmp_path / "shown" / "sample.mpt").header.shots == (28, 20)
    whole = (tmp_path / "shown" / "sample.mpt").read_bytes()
    assert all(whole.startswith((tmp_path / "shown" / name).read_bytes()) for name in levels)
    refused = cli("demo", "shown")
    assert refused.code == FAILED
    assert is_one_error(refused)


# Exit codes and messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{made}/in.mkv", "a.mpt", "--bogus"], "--bogus"),
        (["nonsense"], "nonsense"),
        (["encode", "{made}/in.mkv", "a.mpt", "--tile", "nonsense"], "--tile is auto or WIDTHxHEIGHT"),
        (["encode", "{made}/in.mkv", "a.mpt", "--tile", "8x8"], "at least 128 pixels"),
        (["encode", "{made}/in.mkv", "a.mpt", "--dtype", "int8"], "found int8"),
        (["encode", "{made}/in.mkv", "a.mpt", "--device", "nonsense"], "device nonsense"),
        (["encode", "{made}/in.mkv", "a.mpt", "--scene-detect", "500"], "0 to 100, found 500"),
        (["encode", "{made}/in.mkv", "a.mpt", "--scene-detect", "often"], "--scene-detect is auto"),
        (["encode", "{made}/in.mkv", "a.mpt", "--start", "-1"], "--start"),
        (["encode", "{made}/in.mkv", "a.mpt", "--duration", "0"], "duration above 0"),
        (["encode", "{made}/in.mkv", "a.mpt", "--bpp", "0.2,0.1"], "above zero that grow, found (0.2, 0.1)"),
        (["encode", "{made}/in.mkv", "a.mpt", "--bpp", "little"], "found 'little'"),
        (["encode", "{made}/in.mkv", "a.mpt", "--quality", "7"], "--quality"),
        (["encode", "-"], "name the output"),
        (["decode", "{made}/in.mpt", "a.mp4", "--levels", "9"], "levels is 1 to 3, found 9"),
        (["decode", "{made}/in.mpt", "a.mp4", "--levels", "0"], "--levels"),
        (["decode", "{made}/in.mpt", "a.xyz"], ".xyz"),
        (["decode", "{made}/in.mpt", "a.mp4", "--format", "avi"], "found avi"),
        (["decode", "{made}/in.mpt", "-"], "--format y4m or mkv"),
        (["decode", "{made}/in.mpt", "-", "--format", "mp4"], "--format y4m or mkv"),
        (["decode", "{made}/in.mpt", "a.mp4", "--start", "7"], "no frame from 7.0 s on"),
        (["truncate", "{made}/in.mpt", "a.mpt"], "give one of --levels"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--levels", "9"], "levels is 1 to 3"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "much"], "cannot read the size much"),
        (["info"], "name at least one file"),
        (["encode", "{made}/in.mkv", "a.mp4"], "ends in .mpt"),
        (["encode", "{made}/in.mkv", "folder/"], "ends in .mpt"),
        (["encode", "{made}/in.mkv", "a.mpt", "--yuv", "64x48@25"], "is no raw video"),
        (["encode", "{made}/in.mkv", "a.mpt", "--quality", "1", "--bpp", "0.1,0.2,0.3"], "not both"),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--plot", "a.jpg"], "writes a PNG"),
        (
            ["train", "{made}", "--out", "t", "--steps", "1", "1", "1", "--minutes", "1", "1", "1"],
            "give one of",
        ),
        (["train", "{made}", "--out", "t", "--settings", "{made}/in.mkv"], "in.mkv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(
    cli: Cli, made: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = cli(*(argument.replace("{made}", str(made)) for argument in arguments))
    assert result.code == USAGE
    assert is_one_error(result)
    assert message in result.err
    assert names(tmp_path) == []


def spoil(kind: str, data: bytes) -> bytes:
    if kind == "text":
        return b"no video at all\n"
    if kind == "cut header":
        return data[:100]
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "not an mpt file"),
        ("cut header", "ends inside its header"),
        ("flipped byte", "level 2, clip 0 is damaged"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["decode", "bad.mpt", "a.mp4"], ["verify", "bad.mpt"], ["compare", "{made}/in.mkv", "bad.mpt"]],
    ids=lambda command: command[0],
)
def test_damaged_files_exit_with_3(
    cli: Cli, made: Path, tmp_path: Path, kind: str, message: str, command: list[str]
) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil(kind, (made / "in.mpt").read_bytes()))
    result = cli(*(argument.replace("{made}", str(made)) for argument in command))
    assert result.code == DAMAGED
    assert is_one_error(result)
    assert message in result.err
    assert names(tmp_path) == ["bad.mpt"]


def test_tokens_out_and_back(cli: Cli, made: Path, tmp_path: Path) -> None:
    out = cli("tokens", made / "in.mpt", "a.safetensors", "--json")
    assert out.code == 0
    assert json.loads(out.out)["levels"] == [[3, 2, 2, 160], [3, 4, 4, 320], [3, 8, 8, 256]]
    assert cli("tokens", "a.safetensors", "back.mpt").code == 0
    assert cli("verify", "back.mpt", "--deep", "-q").code == 0
    digests = [json.loads(cli("verify", path, "--deep", "--json").out)[0]["sha256"]
               for path in (made / "in.mpt", "back.mpt")]  # fmt: skip
    assert digests[0] == digests[1]
    assert names(tmp_path) == ["a.safetensors", "back.mpt"]


@pytest.mark.parametrize(
    "arguments", [["a.mpt", "b.npy"], ["a.mpt", "b.mpt"], ["a.safetensors", "b.mpt", "--levels", "1"]]
)
def test_tokens_need_one_file_of_each_kind(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    result = cli("tokens", *arguments)
    assert result.code == USAGE
    assert is_one_error(result)
    assert names(tmp_path) == []


def test_best_effort_writes_what_is_sound_and_exits_with_3(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil("flipped byte", (made / "in.mpt").read_bytes()))
    result = cli("decode", "bad.mpt", "a.mp4", "--best-effort", "--json")
    assert result.code == DAMAGED
    assert "warning: level 2, clip 0 is damaged" in result.err
    assert len(json.loads(result.out)["damage"]) == 1
    assert names(tmp_path) == ["a.mp4", "bad.mpt"]


@pytest.mark.parametrize("kind", ["text", "cut header"])
@pytest.mark.parametrize("command", [["info", "bad.mpt"], ["truncate", "bad.mpt", "a.mpt", "--levels", "1"]])
def test_damaged_headers_exit_with_3(
    cli: Cli, made: Path, tmp_path: Path, kind: str, command: list[str]
) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil(kind, (made / "in.mpt").read_bytes()))
    result = cli(*command)
    assert result.code == DAMAGED
    assert is_one_error(result)
    assert names(tmp_path) == ["bad.mpt"]


@pytest.mark.parametrize("kind", ["text", "cut header", "flipped byte"])
@pytest.mark.parametrize("command", [["decode", "bad.mpt", "a.mp4"], ["verify", "bad.mpt"]])
def test_messages_about_damage_name_the_file(
    cli: Cli, made: Path, tmp_path: Path, kind: str, command: list[str]
) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil(kind, (made / "in.mpt").read_bytes()))
    assert "bad.mpt: " in cli(*command).err


def test_levels_that_are_cut_off_exit_with_3(cli: Cli, made: Path, tmp_path: Path) -> None:
    size = probe(made / "in.mpt").header.prefix_bytes(1)
    (tmp_path / "cut.mpt").write_bytes((made / "in.mpt").read_bytes()[:size])
    result = cli("decode", "cut.mpt", "a.mp4", "--levels", "2")
    assert result.code == DAMAGED
    assert is_one_error(result)
    assert names(tmp_path) == ["cut.mpt"]


def test_one_damaged_file_of_several_is_named(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil("flipped byte", (made / "in.mpt").read_bytes()))
    result = cli("verify", "bad.mpt", made / "in.mpt")
    assert result.code == DAMAGED
    assert result.err.startswith("error: bad.mpt: level 2, clip 0")
    assert result.out == f"{made / 'in.mpt'}: ok, complete\n"
    listed = json.loads(cli("verify", "bad.mpt", made / "in.mpt", "--json").out)
    assert [file["ok"] for file in listed] == [False, True]


def test_wrong_weights_exit_with_4(cli: Cli, made: Path, other_weights: Path, tmp_path: Path) -> None:
    for command in (["decode", made / "in.mpt", "a.mp4"], ["verify", made / "in.mpt", "--deep"]):
        result = cli(*command, "--weights", other_weights)
        assert result.code == WEIGHTS
        assert is_one_error(result)
        assert "--weights" in result.err
    assert names(tmp_path) == []


def test_other_weights_decode_their_own_files(
    cli: Cli, made: Path, other_weights: Path, tmp_path: Path
) -> None:
    assert cli("encode", made / "in.mkv", "a.mpt", "--weights", other_weights).code == 0
    assert cli("decode", "a.mpt", "a.mp4", "--weights", other_weights).code == 0
    assert cli("decode", "a.mpt", "b.mp4").code == WEIGHTS
    assert names(tmp_path) == ["a.mp4", "a.mpt"]


def test_missing_weights_exit_with_4(cli: Cli, made: Path, tmp_path: Path) -> None:
    result = cli("encode", made / "in.mkv", "a.mpt", "--weights", "nowhere")
    assert result.code == WEIGHTS
    assert is_one_error(result)
    assert "nowhere" in result.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "missing.mkv", "a.mpt"],
        ["decode", "missing.mpt", "a.mp4"],
        ["truncate", "missing.mpt", "a.mpt", "--levels", "1"],
        ["info", "missing.mpt"],
        ["verify", "missing.mpt"],
        ["compare", "missing.mkv", "{made}/in.mpt"],
        ["compare", "{made}/in.mkv", "missing.mpt"],
    ],
    ids=" ".join,
)
def test_missing_input_exits_with_1_and_is_named(
    cli: Cli, made: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = cli(*(argument.replace("{made}", str(made)) for argument in arguments))
    assert result.code == FAILED
    assert is_one_error(result)
    assert "missing.mp" in result.err or "missing.mkv" in result.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "{made}/in.mkv", "there"],
        ["decode", "{made}/in.mpt", "there", "--format", "mp4"],
        ["truncate", "{made}/in.mpt", "there", "--levels", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_existing_output_exits_with_1_and_is_kept(
    cli: Cli, made: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "there").write_text("mine")
    real = [argument.replace("{made}", str(made)) for argument in arguments]
    result = cli(*real)
    assert result.code == FAILED
    assert is_one_error(result)
    assert "there exists; -f (force=True) replaces it" in result.err
    assert (tmp_path / "there").read_text() == "mine"
    assert cli(*real, "-f").code == 0
    assert (tmp_path / "there").read_bytes()[:4] != b"mine"
    assert names(tmp_path) == ["there"]


def test_input_that_is_no_video_exits_with_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no video\n")
    result = cli("encode", "a.txt")
    assert result.code == FAILED
    assert is_one_error(result)
    assert "a.txt: cannot be read as video" in result.err
    assert names(tmp_path) == ["a.txt"]


def test_unknown_codec_exits_with_1_and_leaves_nothing(cli: Cli, made: Path, tmp_path: Path) -> None:
    result = cli("decode", made / "in.mpt", "a.mp4", "--codec", "nonsense")
    assert result.code == FAILED
    assert is_one_error(result)
    assert names(tmp_path) == []


# Pipes and signals, in processes of their own


def piped(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=data, capture_output=True, timeout=120)


def test_pipes_carry_files_and_video(made: Path) -> None:
    coded = piped("encode", "-", "-", "--threads", 1, data=(made / "in.mkv").read_bytes())
    assert coded.returncode == 0
    assert coded.stdout == (made / "in.mpt").read_bytes()
    cut = piped("truncate", "-", "-", "--levels", 2, data=coded.stdout)
    assert coded.stdout.startswith(cut.stdout)
    video = piped("decode", "-", "-", "--format", "y4m", "--threads", 1, data=cut.stdout)
    assert video.returncode == 0
    assert video.stdout.startswith(b"YUV4MPEG2 W64 H48 F25:1")
    with VideoSource(BytesIO(video.stdout)) as source:
        assert len(list(source.frames())) == 11
    assert b"error" not in coded.stderr + cut.stderr + video.stderr


def test_a_reader_that_leaves_is_no_traceback(made: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "decode", str(made / "long.mpt"), "-", "--format", "y4m", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert pipe(process.stdout).read(10) == b"YUV4MPEG2 "
        pipe(process.stdout).close()
        error = pipe(process.stderr).read().decode()
        assert process.wait(60) == FAILED
    assert "Traceback" not in error
    assert error.count("\n") <= 1


@pytest.mark.parametrize(
    "arguments",
    [["encode", "in.mkv", "-"], ["truncate", "in.mpt", "-", "--levels", "1"]],
    ids=["encode", "truncate"],
)
def test_a_reader_that_is_gone_fails_in_silence(made: Path, arguments: list[str]) -> None:
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        pipe(process.stdout).close()
        error = pipe(process.stderr).read().decode()
        assert process.wait(60) == FAILED
    assert error == "", "a reader that leaves knows it"


def pipe(stream: IO[Any] | None) -> IO[Any]:
    assert stream is not None
    return stream


def test_an_error_after_an_interruption_is_the_interruption(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code below Python may turn Ctrl-C into an error of its own."""
    assert cli("info", "nothing.mpt").code == FAILED
    asked = threading.Event()
    asked.set()
    monkeypatch.setattr("mptvc.cli.output._interrupted", asked)
    result = cli("info", "nothing.mpt")
    assert (result.code, result.err) == (INTERRUPTED, "error: interrupted\n")


@pytest.mark.parametrize(
    ("number", "arguments", "target"),
    [
        (signal.SIGINT, ["encode", "{made}/long.mkv", "a.mpt"], "a.mpt"),
        (signal.SIGTERM, ["encode", "{made}/long.mkv", "a.mpt", "-f"], "a.mpt"),
        (signal.SIGTERM, ["decode", "{made}/long.mpt", "a.mp4"], "a.mp4"),
    ],
    ids=["encode INT", "encode TERM", "decode TERM"],
)
def test_signal_in_the_middle_leaves_no_trace(
    made: Path, tmp_path: Path, number: signal.Signals, arguments: list[str], target: str
) -> None:
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    existing = "-f" in arguments
    if existing:
        (work / target).write_text("mine")
    real = [argument.replace("{made}", str(made)) for argument in arguments]
    with subprocess.Popen(
        [*COMMAND, *real, "--progress", "json", "--threads", "1"],
        cwd=work,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        started = json.loads(pipe(process.stderr).readline())
        assert 0 < started["done"] < started["total"] == 480
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert out == b""
    assert b"Traceback" not in error
    assert names(work) == ([target] if existing else [])
    assert not existing or (work / target).read_text() == "mine"
    assert names(scratch) == []


# Options that a library function does the work of


@pytest.mark.parametrize("command", ["info", "verify", "truncate", "decode", "tokens", "compare"])
@pytest.mark.parametrize("limit", ["--max-pixels", "--max-frames"])
def test_limits_reach_every_command_that_reads(cli: Cli, made: Path, command: str, limit: str) -> None:
    arguments: dict[str, list[object]] = {
        "info": [made / "in.mpt"],
        "verify": [made / "in.mpt"],
        "truncate": [made / "in.mpt", "out.mpt", "--levels", "1"],
        "decode": [made / "in.mpt", "out.mkv"],
        "tokens": [made / "in.mpt", "out.safetensors"],
        "compare": [made / "in.mkv", made / "in.mpt"],
    }
    out = cli(command, *arguments[command], limit, "10")
    assert out.code in (1, DAMAGED)
    assert limit in out.err


def test_partial_level_is_decoded_on_request(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "long.mpt").read_bytes()
    header = probe(data).header
    (tmp_path / "cut.mpt").write_bytes(data[: header.offset(1, 1)])
    outputs = []
    for name, options in (("a.npy", []), ("b.npy", ["--allow-partial"])):
        assert cli("decode", "cut.mpt", name, *options).code == 0
        outputs.append(np.load(name))
    assert not np.array_equal(outputs[0][:32], outputs[1][:32])
    assert np.array_equal(outputs[0][32:], outputs[1][32:])


def test_info_says_how_far_a_cut_file_goes(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "in.mpt").read_bytes()
    header = probe(data).header
    start, end = header.prefix_bytes(2), header.prefix_bytes(3)
    (tmp_path / "cut.mpt").write_bytes(data[: start + 37 * (end - start) // 100])
    text = cli("info", "cut.mpt")
    assert "a prefix: 2 of 3 levels, 37 % of level 2" in " ".join((text.out + text.err).split())
    facts = json.loads(cli("info", "cut.mpt", "--json").out)
    facts = facts[0] if isinstance(facts, list) else facts
    assert facts["complete_levels"] == 2
    assert facts["next_level_share"] == pytest.approx(0.37, abs=0.01)


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


def test_a_newer_version_says_what_to_do(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "in.mpt").read_bytes())
    data[8] = 2
    (tmp_path / "new.mpt").write_bytes(data)
    out = cli("info", "new.mpt")
    assert out.code == DAMAGED
    assert "version 2" in out.err
    assert "newer mptvc" in out.err


def test_frames_replace_frames_and_nothing_else(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    assert cli("decode", made / "in.mpt", "frames", "-q").code == 0
    assert len(names(tmp_path / "frames")) == 11
    assert cli("decode", made / "in.mpt", "frames", "-q").code == FAILED
    assert cli("decode", made / "in.mpt", "frames", "-f", "--duration", "0.2", "-q").code == 0
    assert len(names(tmp_path / "frames")) == 5
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    result = cli("decode", made / "in.mpt", "frames", "-f")
    assert result.code == FAILED
    assert "holds notes.txt, which would be lost" in result.err
    assert len(names(tmp_path / "frames")) == 6


def test_verify_tells_a_prefix_from_a_file_without_a_level(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "in.mpt").read_bytes()
    header = probe(data).header
    (tmp_path / "one.mpt").write_bytes(data[: header.prefix_bytes(1) + 3])
    (tmp_path / "none.mpt").write_bytes(data[: header.prefix_bytes(1) - 3])
    one, none = cli("verify", "one.mpt"), cli("verify", "none.mpt")
    assert one.code == 0
    assert "ok, a prefix: 1 of 3 levels" in one.out
    assert none.code == DAMAGED
    assert "no level is complete" in none.err
    (state,) = json.loads(cli("verify", "one.mpt", "--json").out)
    assert (state["complete_levels"], state["levels"]) == (1, 3)


def test_input_is_never_the_output(cli: Cli, made: Path, tmp_path: Path) -> None:
    for name in ("in.mkv", "in.mpt"):
        shutil.copy(made / name, tmp_path / name)
    for arguments in (
        ("decode", "in.mpt", "in.mpt", "--format", "mkv", "-f"),
        ("compare", "in.mkv", "in.mpt", "--csv", "in.mkv", "-f"),
        ("compare", "in.mkv", "in.mpt", "--html", "./in.mpt", "-f"),
    ):
        result = cli(*arguments)
        assert result.code == USAGE
        assert "same file" in result.err
    for name in ("in.mkv", "in.mpt"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


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


def test_info_goes_on_after_a_file_that_is_missing(cli: Cli, made: Path) -> None:
    result = cli("info", "nowhere.mpt", made / "in.mpt")
    assert result.code == FAILED
    assert "nowhere.mpt" in result.err
    assert "11 frames" in result.out


def test_tables_are_whole_where_nobody_sees_a_terminal(cli: Cli, made: Path) -> None:
    result = cli("compare", made / "in.mkv", made / "in.mpt", "--against", "x264", "--ssim")
    assert result.code == 0
    assert "…" not in result.out
    assert "MS-SSIM" in result.out


def test_training_names_a_folder_that_is_missing(cli: Cli, made: Path, tmp_path: Path) -> None:
    result = cli("train", made, "nowhere", "--out", "t", "--steps", "1", "1", "1")
    assert result.code == FAILED
    assert "nowhere: no such file or folder" in result.err
