"""What every command keeps to: help, exit codes, one line an error, nothing left over."""

import ast
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from command_line import DAMAGED, FAILED, USAGE, WEIGHTS, Cli, is_one_error, names, spoil

import mptvc
from mptvc.cli.main import app
from mptvc.cli.options import ending, target_named
from mptvc.cli.output import in_options

LIBRARY = Path(mptvc.__file__).parent
#: Arguments as the library's messages name them.
ARGUMENTS = re.compile(r'(?<![\w.,(])[a-z]\w*=(?:(?:True|False|"\w+")(?!\w)|(?=[\s,;:]|$))')


def commands(group: typer.Typer, *above: str) -> Iterator[list[str]]:
    for command in group.registered_commands:
        callback = command.callback
        assert callback is not None
        yield [*above, command.name or callback.__name__]
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance, *above, str(sub.name))


@pytest.mark.parametrize("command", list(commands(app)), ids=" ".join)
def test_help_of_every_command_has_an_example(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Example: mptvc {' '.join(command)}" in result.out


@pytest.mark.parametrize("command", list(commands(app)), ids=" ".join)
def test_usage_doubles_no_brackets_or_dots(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    (usage,) = (line for line in cli(*command, "--help").out.splitlines() if "Usage:" in line)
    assert not re.search(r"\[\[|\]\]|\.\.\.\}|\.{4}", usage)


def messages(path: Path) -> Iterator[str]:
    """Texts in a module but its docstrings, with a 0 for every value that is put in."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.value


def test_every_argument_that_a_message_names_is_an_option(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    pages = [cli(*command, "--help").out for command in commands(app)]
    options = {option for page in pages for option in re.findall(r"--[a-z][\w-]*", page)}
    paths = [path for path in LIBRARY.rglob("*.py") if path.parent.name != "cli"]
    found = [text for path in paths for text in messages(path) if ARGUMENTS.search(text)]
    assert len(found) > 5
    for text in found:
        worded = in_options(text)
        assert not ARGUMENTS.search(worded), text
        assert set(re.findall(r"--[a-z][\w-]*", worded)) <= options, text


@pytest.mark.parametrize(
    ("message", "worded"),
    [
        ("the limit is 4: raise it with max_frames=", "the limit is 4: raise it with --max-frames"),
        ("a.mpt exists; force=True replaces it", "a.mpt exists; --force replaces it"),
        ("10-bit video; force_8bit=True converts it", "10-bit video; --force-8bit converts it"),
        ('use device="cpu", or a smaller tile=', "use --device cpu, or a smaller --tile"),
        ("too long: sound=False leaves it out", "too long: --audio none leaves it out"),
        ("shot_threshold= is 0 to 100", "--scene-detect is 0 to 100"),
        ("with duration=0.480 and start=12.5", "with --duration 0.480 and --start 12.5"),
        ("crf=20.mkv: no such file", "crf=20.mkv: no such file"),
        ("https://host/a.mpt?force=True: 404", "https://host/a.mpt?force=True: 404"),
    ],
)
def test_arguments_of_the_library_are_worded_as_options(message: str, worded: str) -> None:
    assert in_options(message) == worded


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


@pytest.mark.parametrize("name", ["a [x264].mpt", "a [bold].mpt", "a :ok:.mpt"])
def test_messages_show_names_as_they_are(cli: Cli, made: Path, name: str) -> None:
    shutil.copy(made / "in.mpt", "in.mpt")
    assert cli("truncate", "in.mpt", name, "--levels", 1).err.startswith(f"{name}: ")
    assert name in cli("compare", made / "in.mkv", name).out


def test_no_file_goes_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, terminal = os.openpty()
    with os.fdopen(reader), os.fdopen(terminal, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        with pytest.raises(ValueError, match="standard output is a terminal: name a file, or pipe"):
            target_named("-")
        assert target_named("a.mpt") == "a.mpt"


def test_progress_is_json_lines_up_to_the_total(cli: Cli, made: Path) -> None:
    lines = cli("encode", made / "in.mkv", "a.mpt", "--progress", "json", "-q").err.splitlines()
    assert json.loads(lines[0])["done"] == 0  # frames are held to look ahead
    assert json.loads(lines[-1]) == {"job": "encode", "done": 11, "total": 11}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{made}/in.mkv", "a.mpt", "--bogus"], "--bogus"),
        (["nonsense"], "nonsense"),
        (["encode", "{made}/in.mkv", "a.mpt", "--tile", "nonsense"], "--tile is auto or WIDTHxHEIGHT"),
        (["encode", "{made}/in.mkv", "a.mpt", "--weights", "tokenizer", "--tile", "8x8"], "at least 128"),
        (["encode", "{made}/in.mkv", "a.mpt", "--tile", "512x512"], "--tile is for weights without"),
        (["encode", "{made}/in.mkv", "a.mpt", "--tile", "²x²"], "--tile is auto or WIDTHxHEIGHT"),
        (["bench", "--sizes", "64x64,², 9x9"], "--sizes is WIDTHxHEIGHT,..., found ²"),
        (["bench", "--frames", "4,²"], "--frames is N,..., found 4,²"),
        (["bench", "--sizes", "64x64", "--frames", "99"], "--frames is 1 to 97"),
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
        (["decode", "{made}/in.mpt", "-"], "--format y4m or --format mkv"),
        (["decode", "{made}/in.mpt", "-", "--format", "mp4"], "--format y4m or --format mkv"),
        (["decode", "{made}/in.mpt", "a.mp4", "--start", "7"], "no frame from 7.0 s on"),
        (["truncate", "{made}/in.mpt", "a.mpt"], "give one of --levels"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--levels", "9"], "levels is 1 to 3"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "much"], "cannot read the size much"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "2i"], "cannot read the size 2i"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "inf"], "above 0, found inf"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "nan"], "above 0, found nan"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "0"], "above 0, found 0"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bytes", "-2k"], "above 0, found -2k"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bitrate", "1e308G"], "above 0, found 1e308G"),
        (["truncate", "{made}/in.mpt", "a.mpt", "--max-bitrate", "-1"], "above 0, found -1"),
        (["info"], "Missing argument"),
        (["info", "--weights", "default"], "--weights"),
        (["encode", "{made}/in.mkv", "a.mp4"], "ends in .mpt"),
        (["encode", "{made}/in.mkv", "folder/"], "ends in .mpt"),
        (["encode", "{made}/in.mkv", "a.mpt", "--yuv", "64x48@25"], "is no raw video"),
        (["encode", "-", "a.mpt", "--yuv", "64x48@25"], "--yuv describes files"),
        (["encode", "-", "-", "--yuv", "64x48@25"], "--yuv describes files"),
        (["encode", "{made}", "--output-dir", "out", "--yuv", "64x48"], "--yuv is WIDTHxHEIGHT@RATE"),
        (["encode", "a.yuv", "a.mpt", "--yuv", "0x48@25"], "found 0x48@25"),
        (["encode", "a.yuv", "a.mpt", "--yuv", "64x00@25"], "found 64x00@25"),
        (["encode", "a.yuv", "a.mpt", "--yuv", "64x48@30/0"], "found 64x48@30/0"),
        (["encode", "a.yuv", "a.mpt", "--yuv", "64x48@0/30"], "found 64x48@0/30"),
        (["encode", "a.yuv", "a.mpt", "--yuv", "64x48@0.0"], "found 64x48@0.0"),
        (["compare", "a.yuv", "{made}/in.mpt", "--yuv", "64x48@30/00"], "found 64x48@30/00"),
        (["encode", "{made}/in.mkv", "a.mpt", "--quality", "1", "--bpp", "0.1,0.2,0.3"], "not both"),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--plot", "a.jpg"], "writes a PNG"),
        (["compare", "{made}/in.mkv", "missing.mpt", "--against", "x264,h267"], "h267 is not one of x264"),
        (["compare", "{made}/in.mkv", "missing.mpt", "--against", "x264,"], "an empty name is not one of"),
        (["compare", "{made}/in.mkv", "missing.mpt", "--against", ""], "an empty name is not one of"),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--csv", "a", "--html", "./a"], "a file of their own"),
        (
            ["compare", "{made}/in.mkv", "{made}/in.mpt", "{made}/long.mpt", "--html", "a.html"],
            "one source and one .mpt file, found {made}/in.mpt, {made}/long.mpt",
        ),
        (
            ["compare", "{made}", "{made}", "--html", "a.html"],
            "one source and one .mpt file, found {made}/in.mpt, {made}/long.mpt",
        ),
        (["compare", "{made}/in.mkv", "{made}/long.mkv", "--html", "a.html"], "found {made}/long.mkv"),
        (
            ["compare", "{made}", "--html", "a.html"],
            "one .mpt file, found {made}/in.mkv, {made}",
        ),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--scale", "0.5"], "--scale is for encoding REF"),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--bpp", "1,2,3"], "done where no FILE is given"),
        (["compare", "{made}/in.mkv", "{made}/in.mpt", "--quality", "1"], "--quality is for encoding REF"),
        (["compare", "{made}/in.mkv", "--quality", "1", "--bpp", "1,2,3"], "not both"),
        (["compare", "{made}/in.mkv", "--scale", "0"], "--scale is above 0 and at most 1, found 0.0"),
        (["compare", "{made}/in.mkv", "--scale", "nan"], "--scale is above 0 and at most 1, found nan"),
        (["compare", "{made}/in.mkv", "--scale", "1.01"], "--scale is above 0 and at most 1, found 1.01"),
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
    assert message.replace("{made}", str(made)) in result.err
    assert names(tmp_path) == []


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
        ["compare", "missing.mkv"],
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
    assert "there exists; --force replaces it" in result.err
    assert (tmp_path / "there").read_text() == "mine"
    assert cli(*real, "-f").code == 0
    assert (tmp_path / "there").read_bytes()[:4] != b"mine"
    assert names(tmp_path) == ["there"]


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


@pytest.mark.parametrize(
    ("version", "advice"), [(3, "install a newer mptvc"), (1, "encode the source again")]
)
def test_another_version_says_what_to_do(
    cli: Cli, made: Path, tmp_path: Path, version: int, advice: str
) -> None:
    data = bytearray((made / "in.mpt").read_bytes())
    data[8] = version
    (tmp_path / "other.mpt").write_bytes(data)
    out = cli("info", "other.mpt")
    assert out.code == DAMAGED
    assert f"version {version} is not" in out.err
    assert advice in out.err


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


@pytest.mark.parametrize("option", ["--csv", "--html"])
@pytest.mark.parametrize("name", ["sources/in.mkv", "sources/alone.mkv", "coded/in.mpt", "link"])
def test_no_input_that_is_found_in_a_folder_is_the_output(
    cli: Cli, made: Path, tmp_path: Path, option: str, name: str
) -> None:
    for path in ("sources/in.mkv", "sources/alone.mkv", "coded/in.mpt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(made / Path(path.replace("alone", "in")).name, tmp_path / path)
    (tmp_path / "link").symlink_to(tmp_path / "coded" / "in.mpt")
    before = (tmp_path / name).read_bytes()
    result = cli("compare", "sources", "coded", option, name, "-f")
    assert result.code == USAGE
    assert "same file" in result.err
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [
        ["info", "{url}"],
        ["verify", "{url}"],
        ["truncate", "{url}", "a.mpt", "--levels", "1"],
        ["decode", "{url}", "a.mkv"],
        ["tokens", "{url}", "a.safetensors"],
        ["compare", "{made}/in.mkv", "{url}"],
    ],
    ids=lambda command: command[0],
)
def test_addresses_reach_the_library_as_they_are(
    cli: Cli, made: Path, tmp_path: Path, command: list[str]
) -> None:
    """A path would lose one of the slashes."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.mpt"
    result = cli(*(part.replace("{url}", url).replace("{made}", str(made)) for part in command))
    assert result.code == FAILED
    assert is_one_error(result)
    assert f"error: {url}: " in result.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a/b.mpt", ".mpt"),
        ("B.MPT", ".mpt"),
        ("https://host/b.mpt?key=1.mkv", ".mpt"),
        ("http://host/b.mkv?key=1.mpt", ".mkv"),
        ("what?.mpt", ".mpt"),
    ],
)
def test_ending_of_an_address_is_that_of_its_path(name: str, end: str) -> None:
    assert ending(name) == end
