"""Output that appears whole or not at all."""

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

import mptvc.format.target
from mptvc.errors import MptError
from mptvc.format.inspect import truncate
from mptvc.format.target import atomic_output, move_into_place, part_path, remove


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_output_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_output(target, force=False) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


def write_half(target: Path, *, force: bool) -> None:
    """Write some bytes and fail."""
    with atomic_output(target, force=force) as file:
        file.write(b"half")
        raise KeyError


def write_late(target: Path) -> None:
    """Write while another program makes the target."""
    with atomic_output(target, force=False) as file:
        file.write(b"mine")
        target.write_bytes(b"theirs")


def test_error_leaves_no_output(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_half(tmp_path / "out", force=False)
    assert names(tmp_path) == []


def test_interrupt_leaves_no_output(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_output(tmp_path / "out", force=False):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_error_keeps_the_old_output(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(KeyError):
        write_half(target, force=True)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_output_that_appears_in_the_meantime_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(MptError, match="exists"):
        write_late(target)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_output_that_appears_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last look at it and before the new name."""
    target = tmp_path / "out"
    monkeypatch.setattr(mptvc.format.target, "refuse_existing", lambda *_, **__: None)
    with pytest.raises(MptError, match="exists"):
        write_late(target)
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_folder_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Interrupted before the first renaming, between the two, or after both."""
    target, part = tmp_path / "out", tmp_path / "part"
    for folder in (target, part):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    renamed, replace = [], os.replace

    def interrupted(source: object, to: object) -> None:
        if len(renamed) == moment:
            renamed.append(None)
            raise KeyboardInterrupt
        replace(source, to)  # type: ignore[arg-type]
        renamed.append(to)
        if len(renamed) == moment == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(mptvc.format.target.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move_into_place(part, target, force=True)
    assert (target / "name").read_text() == ("part" if moment == 2 else "out")
    assert set(names(tmp_path)) <= {"out", "part"}


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """No file grows beyond this size, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_zeros(target: Path, size_bytes: int) -> None:
    with atomic_output(target, force=False) as file:
        for start in range(0, size_bytes, 1000):
            file.write(bytes(min(1000, size_bytes - start)))


@pytest.mark.parametrize("size_bytes", [2**21, 2**20 + 1], ids=["at once", "at the end"])
def test_failed_write_is_an_error_of_the_package(tmp_path: Path, size_bytes: int) -> None:
    """A few bytes wait in memory until the file is closed."""
    target = tmp_path / "out"
    with disk_of(2**20), pytest.raises(MptError, match=f"^cannot write {target}: File too large") as caught:
        write_zeros(target, size_bytes)
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == []


class WornOut(BytesIO):
    """A file of the caller whose start can be read once."""

    worn = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == 0 and self.worn:
            raise OSError(5, "Input/output error")
        self.worn = True
        return super().read(size)


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_target(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^.Errno 5. Input/output error$"):
        truncate(WornOut(data), tmp_path / "out", levels=3)
    assert names(tmp_path) == []


def test_errors_of_the_block_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_output(tmp_path / "out", force=False):
        (tmp_path / "absent").read_bytes()
    assert caught.value.filename == str(tmp_path / "absent")
    assert names(tmp_path) == []


def test_errors_of_the_target_are_not_blamed_on_the_source(path: Path) -> None:
    target = path.with_name("short.mpt")
    target.write_bytes(b"precious")
    with pytest.raises(MptError) as caught:
        truncate(path, target, levels=1)
    assert str(caught.value) == f"{target} exists; force=True replaces it"
    with pytest.raises(MptError, match=f"^cannot write {path.parent}/x+: File name too long$"):
        truncate(path, path.with_name("x" * 300), levels=1)
    with disk_of(100), pytest.raises(MptError, match=f"^cannot write {target}: "):
        truncate(path, target, levels=1, force=True)


def test_missing_output_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MptError, match="absent is not a folder"),
        atomic_output(tmp_path / "absent" / "out", force=False),
    ):
        pass
    assert names(tmp_path) == []


def test_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(MptError, match="out"), atomic_output(target, force=True) as file:
        file.write(b"new")
    assert target.is_dir()
    assert names(tmp_path) == ["out"]


def test_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MptError, match="pipe"), atomic_output(tmp_path / "pipe", force=True):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_longest_name_that_the_system_takes(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 125 + ".mpt")
    with atomic_output(target, force=False) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_output_has_the_rights_of_an_ordinary_file(tmp_path: Path, mask: int) -> None:
    ordinary, target = tmp_path / "ordinary", tmp_path / "out"
    before = os.umask(mask)
    try:
        for folder in (False, True):
            part = part_path(target, folder=folder)
            if folder:
                ordinary.mkdir()
            else:
                ordinary.write_bytes(b"")
            move_into_place(part, target, force=False)
            assert target.stat().st_mode == ordinary.stat().st_mode
            remove(target)
            remove(ordinary)
    finally:
        os.umask(before)


def test_files_of_other_threads_keep_their_rights(tmp_path: Path) -> None:
    """The mask of new files' rights belongs to the whole process."""
    before, stop, modes = os.umask(0o077), threading.Event(), set()

    def make_files() -> None:
        while not stop.is_set():
            (tmp_path / "mine").touch()
            modes.add((tmp_path / "mine").stat().st_mode & 0o777)
            (tmp_path / "mine").unlink()

    def let_others_go_on(_frame: object, event: str, _argument: object) -> None:
        if event == "c_return":
            time.sleep(1e-4)

    thread = threading.Thread(target=make_files)
    try:
        thread.start()
        sys.setprofile(let_others_go_on)
        for folder in (False, True) * 5:
            part = part_path(tmp_path / "out", folder=folder)
            move_into_place(part, tmp_path / "out", force=True)
            remove(tmp_path / "out")
    finally:
        sys.setprofile(None)
        stop.set()
        thread.join()
        os.umask(before)
    assert modes == {0o600}
