"""Whatever stops a command: the target is absent, as it was, or whole, and nothing else is left."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import pytest
from patterns import moving, write_video

import mptvc
from mptvc.codec.codec import Codec

COMMAND = [sys.executable, "-m", "mptvc"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, codec: Codec) -> Path:
    """A video of 256 frames of 32 x 32, and its file."""
    folder = tmp_path_factory.mktemp("made")
    write_video(folder / "in.mkv", moving(256, 32, 32))
    mptvc.encode_file(folder / "in.mkv", folder / "in.mpt", codec=codec)
    return folder


#: Weights that code small pictures fast.
FAST = ("--weights", "tokenizer")


def start(work: Path, arguments: list[str], **options: object) -> "subprocess.Popen[bytes]":
    (work / "tmp").mkdir(parents=True)
    return subprocess.Popen(
        [*COMMAND, *arguments, "--threads", "1"]
        if arguments[0] in ("encode", "decode")
        else [*COMMAND, *arguments],
        cwd=work,
        env={**os.environ, "TMPDIR": str(work / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_whole(target: Path) -> bool:
    """Whether a target is what an undisturbed command makes."""
    if target.suffix == ".mpt":
        return mptvc.verify(target).available.levels == 3
    if target.is_dir():
        return len(names(target)) == 256
    with av.open(str(target)) as file:
        return sum(1 for _ in file.decode(video=0)) == 256


JOBS = {
    "encode": (["encode", "{made}/in.mkv", "out.mpt", *FAST, "-f"], "out.mpt"),
    "decode": (["decode", "{made}/in.mpt", "out.mkv", "-f"], "out.mkv"),
    "pictures": (["decode", "{made}/in.mpt", "out", "--format", "png"], "out"),
    "array": (["decode", "{made}/in.mpt", "out.npy"], "out.npy"),
}


def interrupt(made: Path, work: Path, job: str, number: signal.Signals, after: float, existing: bool) -> str:
    """Send a signal some seconds after the start; returns what became of the target."""
    arguments, target = JOBS[job]
    work.mkdir()
    if existing:
        (work / target).write_text("mine")
    with start(work, [a.replace("{made}", str(made)) for a in arguments]) as process:
        time.sleep(after)
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    assert out == b""
    assert names(work / "tmp") == []
    # before our first line and after our last, the system's own handling ends the process
    assert process.returncode in (0, 130, -number, -signal.SIGINT), error
    assert b"Traceback" not in error or after < 1
    left = [name for name in names(work) if name != "tmp"]
    if existing and process.returncode and (work / target).read_bytes() == b"mine":
        assert left == [target]
        return "as it was"
    if left or process.returncode == 0:  # it came while the process was leaving, if not too late
        assert left == [target]
        assert is_whole(work / target)
        return "whole"
    return "absent"


def seconds_of(made: Path, work: Path, job: str) -> float:
    """How long an undisturbed command takes here and now."""
    work.mkdir()
    begin = time.monotonic()
    with start(work, [a.replace("{made}", str(made)) for a in JOBS[job][0]]) as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    return time.monotonic() - begin


def test_a_signal_at_any_moment_leaves_all_or_nothing(made: Path, tmp_path: Path) -> None:
    length = seconds_of(made, tmp_path / "whole", "pictures")
    outcomes = [
        interrupt(made, tmp_path / str(share), "pictures", number, share * length, existing=False)
        for share, number in ((0.3, signal.SIGTERM), (0.75, signal.SIGINT), (0.95, signal.SIGTERM))
    ]
    assert "absent" in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("job", ["encode", "decode"])
def test_fifty_signals_at_random_moments_leave_all_or_nothing(
    made: Path, tmp_path: Path, job: str, number: signal.Signals
) -> None:
    rng = random.Random(number)
    length = seconds_of(made, tmp_path / "whole", job)
    outcomes = Counter(
        interrupt(made, tmp_path / str(i), job, number, rng.uniform(0.3, 1.1) * length, existing=i % 2 == 0)
        for i in range(50)
    )
    print(f"{job}, {number.name}: {dict(outcomes)}")
    assert outcomes["as it was"] > 5
    assert outcomes["absent"] > 5


def test_a_killed_command_leaves_no_target(made: Path, tmp_path: Path) -> None:
    """Nobody can clean up after SIGKILL; what is left shows by its name what it is."""
    length = seconds_of(made, tmp_path / "whole", "decode")
    (tmp_path / "work").mkdir()
    with start(tmp_path / "work", ["decode", str(made / "in.mpt"), "out.mkv"]) as process:
        time.sleep(0.8 * length)
        process.kill()
        process.communicate(timeout=60)
    left = [name for name in names(tmp_path / "work") if name != "tmp"]
    assert left in (["out.mkv"], []) or all(n.startswith(".out.mkv.") and n.endswith(".part") for n in left)
    assert "out.mkv" not in left or is_whole(tmp_path / "work" / "out.mkv")


def run_without_room(work: Path, arguments: list[str]) -> None:
    """Run a command whose files may not grow beyond a few bytes, as on a disk without room."""

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    with start(work, arguments, preexec_fn=no_room) as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert error.startswith(b"error: cannot write ")
    assert error.count(b"\n") == 1
    assert names(work / "tmp") == []


@pytest.mark.parametrize("job", JOBS)
def test_a_full_disk_is_an_error_that_leaves_nothing(made: Path, tmp_path: Path, job: str) -> None:
    arguments = [a.replace("{made}", str(made)) for a in JOBS[job][0] if a != "-f"]
    run_without_room(tmp_path / "work", arguments)
    assert names(tmp_path / "work") == ["tmp"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "{made}/in.mkv", "out", *FAST],
        ["decode", "{made}/in.mpt", "out", "--format", "mkv"],
        ["truncate", "{made}/in.mpt", "out", "--levels", "3"],
        ["tokens", "{made}/in.mpt", "out.safetensors"],
    ],
    ids=["encode", "decode", "truncate", "tokens"],
)
def test_a_full_disk_keeps_what_was_there(made: Path, tmp_path: Path, arguments: list[str]) -> None:
    target = tmp_path / "work" / arguments[2]
    target.parent.mkdir()
    target.write_text("mine")
    run_without_room(tmp_path / "work", [*(a.replace("{made}", str(made)) for a in arguments), "-f"])
    assert names(tmp_path / "work") == [target.name, "tmp"]
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "{made}/in.mkv", "-", *FAST],
        ["truncate", "{made}/in.mpt", "-", "--levels", "1"],
        ["decode", "{made}/in.mpt", "-", "--format", "y4m"],
    ],
    ids=["encode", "truncate", "decode"],
)
def test_a_full_device_behind_standard_output_is_an_error(
    made: Path, tmp_path: Path, arguments: list[str]
) -> None:
    real = [a.replace("{made}", str(made)) for a in arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *real], stdout=full, stderr=subprocess.PIPE, timeout=120, cwd=tmp_path, check=False
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"error: " in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs to become another user")
def test_a_read_only_folder_is_an_error(made: Path, tmp_path: Path) -> None:
    (tmp_path / "in.mpt").write_bytes((made / "in.mpt").read_bytes())
    above = [folder for folder in tmp_path.parents if folder.name.startswith(("pytest-", "popen-"))]
    for folder in (tmp_path, *above):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "in.mpt").chmod(0o644)
    code = (
        "import os, mptvc, mptvc.format.inspect\n"
        "os.setuid(65534)  # whom file permissions hold for\n"
        "try:\n mptvc.truncate('in.mpt', 'out.mpt', levels=1)\n"
        "except mptvc.MptError as error:\n print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot write into" in done.stdout, done.stderr
    assert names(tmp_path) == ["in.mpt"]


@pytest.mark.parametrize("force", [False, True])
def test_two_writers_leave_one_whole_file(made: Path, tmp_path: Path, force: bool) -> None:
    (tmp_path / "a").mkdir()
    commands = [
        ["encode", str(made / "in.mkv"), "../out.mpt", *FAST, "--scene-detect", d, *(["-f"] if force else [])]
        for d in ("off", "auto")
    ]
    with start(tmp_path / "a" / "one", commands[0]) as one, start(tmp_path / "a" / "two", commands[1]) as two:
        errors = [process.communicate(timeout=120)[1] for process in (one, two)]
    codes = (one.returncode, two.returncode)
    assert sorted(codes) == ([0, 0] if force else [0, 1])
    assert all(code == 0 or b"exists" in error for code, error in zip(codes, errors, strict=True))
    assert names(tmp_path / "a") == ["one", "out.mpt", "two"]
    assert is_whole(tmp_path / "a" / "out.mpt")


def test_an_interrupted_folder_holds_whole_files_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for index in range(4):
        (tmp_path / "videos" / f"{index}.mkv").hardlink_to(made / "in.mkv")
    work = tmp_path / "work"
    with start(work, ["encode", "../videos", *FAST, "--output-dir", "coded", "--jobs", "2"]) as process:
        while not (work / "coded").exists() or not any(n.endswith(".mpt") for n in names(work / "coded")):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode in (0, 130), error
    assert names(work / "tmp") == []
    assert all(name.endswith(".mpt") for name in names(work / "coded"))
    assert all(is_whole(path) for path in (work / "coded").iterdir())


def test_a_source_is_never_written_over(made: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    source.write_bytes((made / "in.mkv").read_bytes())
    (tmp_path / "symbolic.mpt").symlink_to(source)
    os.link(source, tmp_path / "hard.mpt")
    for name in ("symbolic.mpt", "hard.mpt"):
        with pytest.raises(ValueError, match="the same file"):
            mptvc.encode_file(source, tmp_path / name, force=True)
    assert source.read_bytes() == (made / "in.mkv").read_bytes()
