"""Pipes and signals, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pytest
from command_line import COMMAND, DAMAGED, FAILED, INTERRUPTED, Cli, names

from mptvc.video.source import VideoSource


def piped(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=data, capture_output=True, timeout=120)


def pipe(stream: IO[Any] | None) -> IO[Any]:
    assert stream is not None
    return stream


def test_pipes_carry_files_and_video(made: Path) -> None:
    coded = piped(
        "encode", "-", "-", "--weights", "tokenizer", "--threads", 1, data=(made / "in.mkv").read_bytes()
    )
    assert coded.returncode == 0
    assert coded.stdout == (made / "in.mpt").read_bytes()
    cut = piped("truncate", "-", "-", "--levels", 2, data=coded.stdout)
    assert coded.stdout.startswith(cut.stdout)
    shown = piped("decode", "-", "-", "--format", "y4m", "--threads", 1, data=cut.stdout)
    assert shown.returncode == 0
    assert shown.stdout.startswith(b"YUV4MPEG2 W64 H48 F25:1")
    with VideoSource(BytesIO(shown.stdout)) as source:
        assert len(list(source.frames())) == 11
    assert b"error" not in coded.stderr + cut.stderr + shown.stderr


def test_files_on_standard_input_are_shown_and_checked(made: Path) -> None:
    data = (made / "in.mpt").read_bytes()
    assert b"64x48, 11 frames" in piped("info", "-", data=data).stdout
    named, given = (
        piped("verify", name, "--deep", "--threads", 1, "-q", data=data) for name in (made / "in.mpt", "-")
    )
    assert (given.returncode, given.stdout) == (0, named.stdout)
    assert given.stdout.count(b"level") == 3
    damaged = piped("verify", "-", data=data[:-1] + b"x")
    assert damaged.returncode == DAMAGED
    assert damaged.stderr.startswith(b"error: level 2, clip 0 is damaged")


#: Runs the command line and prints the most memory that the process has had, in KiB.
_PEAK = """
import re, sys
from mptvc.cli.main import main
try:
    main()
except SystemExit:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
@pytest.mark.parametrize("command", ["info", "verify"])
def test_standard_input_is_not_held_in_memory(made: Path, command: str) -> None:
    data = (made / "in.mpt").read_bytes()
    code = [sys.executable, "-c", _PEAK, command, "-"]
    peaks = [
        int(subprocess.run(code, input=data + tail, capture_output=True, check=True).stderr.split()[-1])
        for tail in (b"", bytes(2**27))
    ]
    assert peaks[1] < peaks[0] + 2**15


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


def test_an_error_after_an_interruption_is_the_interruption(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code below Python may turn Ctrl-C into an error of its own."""
    assert cli("info", "nothing.mpt").code == FAILED
    asked = threading.Event()
    asked.set()
    monkeypatch.setattr("mptvc.cli.process._interrupted", asked)
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
        started = {"done": 0, "total": 480}
        while not started["done"]:
            started = json.loads(pipe(process.stderr).readline())
        assert started["done"] < started["total"] == 480
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert out == b""
    assert b"Traceback" not in error
    assert names(work) == ([target] if existing else [])
    assert not existing or (work / target).read_text() == "mine"
    assert names(scratch) == []
