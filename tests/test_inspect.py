"""Look inside, check and truncate files, from wherever they come."""

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from mptvc.errors import CorruptPacketError, FormatError, LimitExceededError, MptError, NotMptError
from mptvc.format.bitstream import write_header
from mptvc.format.header import Header, Index, Section
from mptvc.format.inspect import FileReport, probe, truncate, verify
from mptvc.format.limits import Limits
from mptvc.format.source import Source, open_source


@pytest.fixture
def piped(data: bytes) -> Iterator[BinaryIO]:
    """The reading end of a pipe, which cannot seek."""
    reading, writing = os.pipe()

    def fill() -> None:
        with open(writing, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=fill)
    thread.start()
    with open(reading, "rb") as file:
        yield file
        file.read()
    thread.join()


@pytest.fixture(params=["str", "Path", "bytes", "file", "file not at its start", "pipe"])
def source(request: pytest.FixtureRequest, data: bytes, path: Path) -> Iterator[Source]:
    """The same file in every form that is accepted."""
    if request.param == "pipe":
        yield request.getfixturevalue("piped")
    elif request.param.startswith("file"):
        with open(path, "rb") as file:
            file.seek(len(data) // 2 if "not" in request.param else 0)
            yield file
    else:
        yield {"str": str(path), "Path": path, "bytes": data}[request.param]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# Reading


def test_probe_reads_any_source(source: Source, data: bytes) -> None:
    report = probe(source)
    assert report.header.shots.lengths == (6, 5)
    assert report.size_bytes == len(data)
    assert report.available.levels == 3


def test_verify_reads_any_source(source: Source, data: bytes) -> None:
    assert verify(source) == probe(data)


def test_truncate_reads_any_source(source: Source, data: bytes, header: Header, tmp_path: Path) -> None:
    target = tmp_path / "short.mpt"
    truncate(source, target, levels=2)
    assert target.read_bytes() == data[: header.prefix_bytes(2)]


def test_file_object_of_the_caller_stays_open(path: Path) -> None:
    with open(path, "rb") as file:
        probe(file)
        verify(file)
        assert not file.closed


def test_open_source_starts_at_the_first_byte(source: Source, data: bytes) -> None:
    with open_source(source) as (file, size):
        assert file.read() == data
        assert size == len(data)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("read", [probe, verify])
def test_named_pipe_is_read(read: Callable[[Source], FileReport], data: bytes, tmp_path: Path) -> None:
    """As in ``mptvc info <(command)``."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def fill() -> None:
        with suppress(BrokenPipeError):
            fifo.write_bytes(data)

    writer = threading.Thread(target=fill, daemon=True)
    writer.start()
    try:
        assert read(fifo).size_bytes == len(data)
    finally:
        writer.join(timeout=10)


@pytest.mark.parametrize("read", [probe, verify])
def test_missing_input_is_named(read: Callable[[Source], FileReport], tmp_path: Path) -> None:
    with pytest.raises(MptError, match=r"absent\.mpt: No such file"):
        read(tmp_path / "absent.mpt")


def test_folder_as_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(MptError, match="Is a directory"):
        probe(tmp_path)


@pytest.mark.parametrize("content", [b"", b"M", b"RIFF" + bytes(500)])
def test_other_file_is_refused(content: bytes) -> None:
    for read in (probe, verify):
        with pytest.raises(NotMptError):
            read(content)


def test_report_gives_duration_and_rates(data: bytes, header: Header) -> None:
    report = probe(data)
    assert report.duration_s == pytest.approx(11 / 25)
    assert sum(report.level_bytes(k) for k in range(3)) == len(data) - header.size_bytes
    assert report.header.bpp(3) == pytest.approx(8 * len(data) / (11 * 50 * 70))
    assert report.header.bpp(1) == pytest.approx(8 * header.prefix_bytes(1) / (11 * 50 * 70))


def test_limits_of_probe_are_the_callers(data: bytes) -> None:
    assert probe(data, limits=Limits(3500, 11)).size_bytes == len(data)
    with pytest.raises(LimitExceededError):
        probe(data, limits=Limits(max_pixels=3499))
    with pytest.raises(LimitExceededError):
        probe(data, limits=Limits(max_frames=10))


def spoiled(data: bytes, header: Header, how: str) -> bytes:
    if how == "header":
        return data[:20] + b"\xff" + data[21:]
    if how == "other":
        return b"RIFF" + bytes(500)
    if how == "version":
        return data[:8] + b"\x63" + data[9:]
    place = header.offset(1, 0) + 3
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("how", ["header", "other", "version", "section"])
@pytest.mark.parametrize("kind", [str, Path])
def test_damage_names_the_file_once(how: str, kind: type, path: Path, data: bytes, header: Header) -> None:
    path.write_bytes(spoiled(data, header, how))
    with pytest.raises(FormatError) as caught:
        verify(kind(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    assert caught.value.file == str(path)


def test_other_errors_name_the_file_once(path: Path, header: Header) -> None:
    with pytest.raises(LimitExceededError) as over_limit:
        probe(path, limits=Limits(max_frames=10))
    with pytest.raises(MptError, match="level 0 needs") as too_small:
        truncate(path, path.with_name("short.mpt"), max_bytes=10)
    with pytest.raises(MptError) as absent:
        probe(path.with_name("absent.mpt"))
    for caught, name in ((over_limit, path), (too_small, path), (absent, path.with_name("absent.mpt"))):
        assert str(caught.value).startswith(f"{name}: ")
        assert str(caught.value).count(str(name)) == 1


def test_errors_of_bytes_and_files_of_the_caller_have_no_name(path: Path, data: bytes) -> None:
    with open(path, "rb") as file:
        for source in (data, file):
            with pytest.raises(LimitExceededError, match=r"^11 frames") as caught:
                probe(source, limits=Limits(max_frames=10))
            assert caught.value.file is None


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_a_file_that_cannot_be_read_is_named() -> None:
    for read in (probe, verify):
        with pytest.raises(MptError, match=r"^/proc/self/mem: "):
            read("/proc/self/mem")


# Verify


def test_every_prefix_with_the_header_is_valid(data: bytes, header: Header) -> None:
    sizes = {*range(header.size_bytes, len(data), 97)}
    sizes |= {header.prefix_bytes(k) + d for k in range(4) for d in (-1, 0, 1)}
    for size in sorted(sizes & {*range(header.size_bytes, len(data) + 1)}):
        report = verify(data[:size])
        assert report == probe(data[:size])
        assert report.available.levels == sum(header.prefix_bytes(k) <= size for k in (1, 2, 3))


def test_verify_finds_damage_in_every_section(data: bytes, header: Header) -> None:
    for level in range(3):
        start, end = header.prefix_bytes(level), header.prefix_bytes(level + 1)
        for place in {start, end - 1, *range(start, end, 211)}:
            damaged = bytearray(data)
            damaged[place] ^= 1
            with pytest.raises(CorruptPacketError) as caught:
                verify(bytes(damaged))
            assert (caught.value.level, caught.value.clip, caught.value.offset) == (level, 0, start)


def test_verify_finds_damage_in_the_header(data: bytes, header: Header) -> None:
    for place in range(header.size_bytes):
        damaged = bytearray(data)
        damaged[place] ^= 0x80
        with pytest.raises(FormatError):
            verify(bytes(damaged))


@pytest.mark.parametrize("extra", [b"\0", bytes(1000)])
def test_verify_refuses_trailing_bytes(data: bytes, extra: bytes) -> None:
    with pytest.raises(FormatError, match=f"{len(extra)} bytes follow") as caught:
        verify(data + extra)
    assert caught.value.offset == len(data)


def test_section_said_to_be_huge_is_not_allocated(header: Header, tmp_path: Path) -> None:
    """The file is a few hundred bytes; its index claims sections of 4 GiB."""
    huge = Index.of([[Section(2**32 - 1, 0)]] * 3)
    path = tmp_path / "huge.mpt"
    path.write_bytes(write_header(replace(header, index=huge)) + bytes(100))
    tracemalloc.start()
    try:
        assert verify(path).available.levels == 0
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# Truncate


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_truncate_keeps_the_first_bytes(levels: int, path: Path, data: bytes, header: Header) -> None:
    target = path.with_name("short.mpt")
    report = truncate(path, target, levels=levels)
    assert target.read_bytes() == data[: header.prefix_bytes(levels)]
    assert report == probe(target) == verify(target)
    assert report.available.levels == levels
    assert path.read_bytes() == data


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("spare", [0, 1])
def test_truncate_to_bytes_keeps_what_fits(levels: int, spare: int, data: bytes, header: Header) -> None:
    out = BytesIO()
    report = truncate(data, out, max_bytes=header.prefix_bytes(levels) + spare)
    assert out.getvalue() == data[: header.prefix_bytes(levels)]
    assert report.size_bytes == header.prefix_bytes(levels)


@pytest.mark.parametrize("levels", [2, 3])
def test_truncate_drops_a_level_that_is_one_byte_too_long(levels: int, data: bytes, header: Header) -> None:
    out = BytesIO()
    truncate(data, out, max_bytes=header.prefix_bytes(levels) - 1)
    assert out.getvalue() == data[: header.prefix_bytes(levels - 1)]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_truncate_to_a_bit_rate_keeps_to_it(levels: int, data: bytes, header: Header) -> None:
    exact = 8 * header.prefix_bytes(levels) * 25 / 11
    out = BytesIO()
    truncate(data, out, max_bitrate=exact + 1)
    assert out.getvalue() == data[: header.prefix_bytes(levels)]


@pytest.mark.parametrize("levels", [2, 3])
def test_truncate_drops_a_level_just_above_the_bit_rate(levels: int, data: bytes, header: Header) -> None:
    out = BytesIO()
    truncate(data, out, max_bitrate=8 * header.prefix_bytes(levels) * 25 / 11 - 1)
    assert out.getvalue() == data[: header.prefix_bytes(levels - 1)]


def test_truncated_file_truncates_to_the_same_bytes(data: bytes) -> None:
    shorter, direct, twice = BytesIO(), BytesIO(), BytesIO()
    truncate(data, shorter, levels=2)
    truncate(data, direct, levels=1)
    truncate(shorter.getvalue(), twice, levels=1)
    assert twice.getvalue() == direct.getvalue()


def test_truncate_of_a_cut_file_keeps_its_whole_levels(data: bytes, header: Header) -> None:
    out = BytesIO()
    truncate(data[: header.prefix_bytes(2) + 5], out, max_bytes=len(data))
    assert out.getvalue() == data[: header.prefix_bytes(2)]


def test_truncate_drops_trailing_bytes(data: bytes) -> None:
    out = BytesIO()
    truncate(data + b"rubbish", out, levels=3)
    assert out.getvalue() == data


@pytest.mark.parametrize("limit", [{"max_bytes": 1}, {"max_bytes": 400}, {"max_bitrate": 1.0}])
def test_truncate_says_how_much_the_first_level_needs(limit: dict, path: Path, header: Header) -> None:
    target = path.with_name("short.mpt")
    with pytest.raises(MptError, match=f"level 0 needs {header.prefix_bytes(1)} bytes"):
        truncate(path, target, **limit)
    assert names(path.parent) == ["video.mpt"]


@pytest.mark.parametrize("levels", [2, 3])
def test_truncate_refuses_levels_that_are_cut(levels: int, data: bytes, header: Header) -> None:
    cut = data[: header.prefix_bytes(levels) - 1]
    with pytest.raises(FormatError, match=f"the file is cut: it has {levels - 1} complete levels"):
        truncate(cut, BytesIO(), levels=levels)


@pytest.mark.parametrize("limit", [{"max_bytes": 10**6}, {"max_bitrate": 1e9}])
def test_truncate_of_a_file_without_a_whole_level_says_that_it_is_cut(
    limit: dict, data: bytes, header: Header
) -> None:
    """No larger limit would help."""
    with pytest.raises(FormatError, match="the file is cut"):
        truncate(data[: header.size_bytes + 3], BytesIO(), **limit)


@pytest.mark.parametrize("levels", [-1, 0, 4])
def test_truncate_refuses_levels_out_of_range(levels: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="levels is 1 to 3"):
        truncate(data, BytesIO(), levels=levels)


@pytest.mark.parametrize(
    "limits", [{}, {"levels": 1, "max_bytes": 900}, {"max_bytes": 900, "max_bitrate": 1.0}]
)
def test_truncate_needs_exactly_one_limit(limits: dict, data: bytes) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        truncate(data, BytesIO(), **limits)


@pytest.mark.parametrize("limit", ["max_bytes", "max_bitrate"])
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 0, -1, -0.5])
def test_truncate_refuses_a_limit_that_is_no_size(limit: str, number: float, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"{limit}= is a finite number above 0, found {number}"):
        truncate(data, BytesIO(), **{limit: number})


@pytest.mark.parametrize("limit", [{"max_bytes": 10**400}, {"max_bitrate": 1e308}, {"max_bitrate": 10**400}])
def test_truncate_takes_limits_of_any_size(limit: dict, data: bytes) -> None:
    assert truncate(data, BytesIO(), **limit).size_bytes == len(data)


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
@pytest.mark.parametrize("force", [False, True])
def test_truncate_refuses_its_own_input(link: str, force: bool, path: Path, data: bytes) -> None:
    target = path if link == "itself" else path.with_name("link.mpt")
    if link == "symbolic":
        target.symlink_to(path)
    elif link == "hard":
        target.hardlink_to(path)
    with pytest.raises(ValueError, match="same file"):
        truncate(str(path), target, levels=1, force=force)
    assert path.read_bytes() == data


def test_truncate_refuses_an_existing_target(path: Path) -> None:
    target = path.with_name("short.mpt")
    target.write_bytes(b"precious")
    with pytest.raises(MptError, match="exists"):
        truncate(path, target, levels=1)
    assert target.read_bytes() == b"precious"
    assert names(path.parent) == ["short.mpt", "video.mpt"]


def test_truncate_replaces_an_existing_target_by_force(path: Path, data: bytes, header: Header) -> None:
    target = path.with_name("short.mpt")
    target.write_bytes(b"old" * 10_000)
    truncate(path, str(target), levels=1, force=True)
    assert target.read_bytes() == data[: header.prefix_bytes(1)]


def test_truncate_of_a_damaged_header_leaves_nothing(path: Path, data: bytes) -> None:
    path.write_bytes(data[:20] + b"\xff" + data[21:])
    with pytest.raises(FormatError):
        truncate(path, path.with_name("short.mpt"), levels=1)
    assert names(path.parent) == ["video.mpt"]


def test_looking_inside_needs_neither_torch_nor_pyav(path: Path) -> None:
    code = (
        "import sys, mptvc\n"
        "source, target = sys.argv[1:]\n"
        "mptvc.probe(source); mptvc.truncate(source, target, levels=1); mptvc.verify(target)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'av'}))"
    )
    command = [sys.executable, "-c", code, str(path), str(path.with_name("short.mpt"))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
