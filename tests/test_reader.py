"""Random access: what comes is what a full decode gives, and no more is read than it needs."""

import copy
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from patterns import moving
from range_server import RangeServer

import mptvc
from mptvc.codec.codec import Codec
from mptvc.errors import CorruptPacketError
from mptvc.format.bitstream import make_header, write_header
from mptvc.format.header import Index, Section
from mptvc.format.remote import RemoteFile
from mptvc.format.slices import joined, split


@pytest.fixture(scope="module")
def data(small_codec: Codec) -> bytes:
    """75 frames in shots of 10, 33 and 32: three clips with padding inside."""
    return small_codec.compress(moving(75), shots=(10, 33, 32))


@pytest.fixture(scope="module")
def whole(small_codec: Codec, data: bytes) -> np.ndarray:
    return small_codec.decompress(data).frames


@pytest.fixture
def reader(small_codec: Codec, data: bytes) -> Iterator[mptvc.VideoReader]:
    with mptvc.VideoReader(data, codec=small_codec) as opened:
        yield opened


def test_every_frame_is_that_of_a_full_decode(reader: mptvc.VideoReader, whole: np.ndarray) -> None:
    assert reader.shape == whole.shape
    assert len(reader) == 75
    order = np.random.default_rng(0).permutation(75)
    for index in order[:12].tolist():
        assert np.array_equal(reader[index], whole[index])
    assert np.array_equal(reader[-1], whole[-1])
    assert np.array_equal(np.stack(list(reader)), whole)


@pytest.mark.parametrize(
    "index", [slice(None), slice(5, 50), slice(60, 10, -7), slice(3, 3), slice(-4, None), slice(70, 900)]
)
def test_slices_are_those_of_a_full_decode(
    reader: mptvc.VideoReader, whole: np.ndarray, index: slice
) -> None:
    assert np.array_equal(reader[index], whole[index])


@pytest.mark.parametrize("index", [75, -76])
def test_a_frame_that_does_not_exist_is_an_index_error(reader: mptvc.VideoReader, index: int) -> None:
    with pytest.raises(IndexError, match="of 75"):
        reader[index]


def test_frames_by_time_are_those_that_are_shown_then(reader: mptvc.VideoReader, whole: np.ndarray) -> None:
    times = [0, 0.039, 0.04, Fraction(74, 25), 2.9999]
    assert np.array_equal(reader.frames_at(times), whole[[0, 0, 1, 74, 74]])
    for time in (-0.001, 3):
        with pytest.raises(IndexError, match="the video ends at 3"):
            reader.frames_at([time])


@pytest.mark.parametrize("rate", [30, 24, Fraction(30000, 1001)])
@pytest.mark.parametrize("uneven", [False, True])
def test_a_frame_is_found_by_its_own_time_as_a_float(
    small_codec: Codec, rate: Fraction | int, uneven: bool
) -> None:
    out = BytesIO()
    with mptvc.VideoWriter(out, frame_rate=rate, codec=small_codec) as writer:
        for index, frame in enumerate(moving(20)):
            writer.add(frame, time=(index + index // 3) / rate if uneven else None)
    with mptvc.VideoReader(out.getvalue(), codec=small_codec) as reader:
        times = [float(reader.video.times[index]) for index in range(20)]
        assert np.array_equal(reader.frames_at(times), reader[:])


def test_frames_by_uneven_times(tmp_path: Path, small_codec: Codec) -> None:
    times = [0, 0.1, 0.15, 0.9]
    with mptvc.VideoWriter(tmp_path / "a.mpt", frame_rate=10, codec=small_codec) as writer:
        for time, frame in zip(times, moving(4), strict=True):
            writer.add(frame, time=time)
    with mptvc.VideoReader(tmp_path / "a.mpt", codec=small_codec) as reader:
        shown = reader.frames_at([0, 0.0999, 0.1, 0.16, 0.89, 0.9, 0.99])
        assert np.array_equal(shown, reader[:][[0, 0, 1, 2, 2, 3, 3]])
        assert [float(reader.video.times[i]) for i in range(4)] == pytest.approx(times)


def test_tokens_are_those_of_the_encoder(small_codec: Codec, reader: mptvc.VideoReader) -> None:
    tokens = small_codec.encode(moving(75), shots=(10, 33, 32))
    assert reader.num_slices == 20
    for level, expected in enumerate(tokens.levels):
        assert np.array_equal(reader.tokens(level), expected)
        assert np.array_equal(reader.tokens(level, 5, 13), expected[5:13])
        assert reader.tokens(level, 4, 4).shape == (0, *expected.shape[1:])
        assert np.array_equal(reader.all_tokens()[level], expected)
        assert np.array_equal(reader.all_tokens(5, 13)[level], expected[5:13])


def test_tokens_that_do_not_exist_are_refused(reader: mptvc.VideoReader) -> None:
    with pytest.raises(ValueError, match="level is 0 to 2"):
        reader.tokens(3)
    with pytest.raises(IndexError, match="of 20"):
        reader.tokens(0, 3, 21)


def test_fewer_levels_are_the_prefix(small_codec: Codec, data: bytes) -> None:
    with mptvc.VideoReader(data, levels=1, codec=small_codec) as reader:
        assert np.array_equal(reader[40:44], small_codec.decompress(data, levels=1).frames[40:44])
        assert reader.levels == 1


def test_a_prefix_reads_as_far_as_it_goes(small_codec: Codec, data: bytes) -> None:
    cut = data[: mptvc.probe(data).header.prefix_bytes(2) + 5]
    with mptvc.VideoReader(cut, codec=small_codec) as reader:
        assert reader.levels == 2


def test_damage_is_reported_where_it_is_and_nowhere_else(
    small_codec: Codec, data: bytes, whole: np.ndarray
) -> None:
    damaged = bytearray(data)
    damaged[mptvc.probe(data).header.offset(1, 1) + 6] ^= 4
    with mptvc.VideoReader(bytes(damaged), codec=small_codec) as reader:
        assert np.array_equal(reader[0], whole[0])
        with pytest.raises(mptvc.CorruptPacketError, match="level 1, clip 1"):
            reader[40]
        assert np.array_equal(reader[74], whole[74])


def test_damage_names_the_file_in_opening_and_in_reading(
    small_codec: Codec, data: bytes, tmp_path: Path
) -> None:
    header, path = mptvc.probe(data).header, tmp_path / "a.mpt"
    for place in (20, header.offset(1, 1) + 6):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with (
            pytest.raises(mptvc.FormatError, match=f"^{path}: ") as caught,
            mptvc.VideoReader(path, codec=small_codec) as reader,
        ):
            reader.all_tokens()
        assert str(caught.value).count(str(path)) == 1


def test_threads_get_their_own_frames(reader: mptvc.VideoReader, whole: np.ndarray) -> None:
    wrong: list[int] = []
    count = torch.get_num_threads()

    def look(seed: int) -> None:
        torch.set_num_threads(count)  # each thread has a number of its own, and networks' sums depend on it
        indexes = np.random.default_rng(seed).integers(0, 75, 6).tolist()
        wrong.extend(i for i in indexes if not np.array_equal(reader[i], whole[i]))

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Over HTTP


@pytest.fixture(scope="module")
def big(small_codec: Codec) -> bytes:
    """A file much larger than what is fetched at first."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 128, 3), dtype=np.uint8)
    return small_codec.compress(noise)


def test_remote_preview_fetches_the_header_and_level_0_alone(
    tmp_path: Path, server: RangeServer, small_codec: Codec, big: bytes
) -> None:
    (tmp_path / "a.mpt").write_bytes(big)
    header = mptvc.probe(big).header
    with mptvc.VideoReader(f"{server.url}/a.mpt", levels=1, codec=small_codec) as reader:
        preview = reader[:]
    assert np.array_equal(preview, small_codec.decompress(big, levels=1).frames)
    assert server.sent_bytes <= max(header.prefix_bytes(1), 2**14) < len(big) / 4


def test_remote_frame_fetches_its_clip_alone(
    tmp_path: Path, server: RangeServer, small_codec: Codec, big: bytes
) -> None:
    (tmp_path / "a.mpt").write_bytes(big)
    header = mptvc.probe(big).header
    with mptvc.VideoReader(f"{server.url}/a.mpt", codec=small_codec) as reader:
        assert np.array_equal(reader[40], small_codec.decompress(big).frames[40])
    clip = sum(header.index.section(level, 1).length for level in range(3))
    assert server.sent_bytes <= 2**14 + clip


def test_address_with_letters_beyond_ascii(tmp_path: Path, server: RangeServer, big: bytes) -> None:
    (tmp_path / "vidéo 1.mpt").write_bytes(big)
    assert RemoteFile(f"{server.url}/vidéo 1.mpt").read(100) == big[:100]
    assert RemoteFile(f"{server.url}/vid%C3%A9o%201.mpt").read(100) == big[:100]


def test_remote_bytes_are_those_of_the_file(tmp_path: Path, server: RangeServer, big: bytes) -> None:
    (tmp_path / "a.mpt").write_bytes(big)
    file = RemoteFile(f"{server.url}/a.mpt")
    assert file.read() == big
    file.seek(-7, 2)
    assert file.read(20) == big[-7:]
    file.seek(2**14 - 3)
    assert file.read(9) == big[2**14 - 3 : 2**14 + 6]
    assert file.fetched_bytes == server.sent_bytes


def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, server: RangeServer, big: bytes) -> None:
    (tmp_path / "a.mpt").write_bytes(big)
    server.fail_next = 2
    assert RemoteFile(f"{server.url}/a.mpt").read(8) == big[:8]


def test_a_server_without_ranges_is_refused(tmp_path: Path, server: RangeServer, small_codec: Codec) -> None:
    (tmp_path / "a.mpt").write_bytes(b"x")
    server.knows_ranges = False
    with pytest.raises(mptvc.MptError, match="does not send byte ranges"):
        mptvc.VideoReader(f"{server.url}/a.mpt", codec=small_codec)


def test_a_file_that_changes_is_reported(tmp_path: Path, server: RangeServer, big: bytes) -> None:
    (tmp_path / "a.mpt").write_bytes(big)
    file = RemoteFile(f"{server.url}/a.mpt")
    server.tag = "two"
    with pytest.raises(mptvc.MptError, match="has changed"):
        file.read()


def test_nothing_at_an_address_is_an_error(server: RangeServer, small_codec: Codec) -> None:
    with pytest.raises(mptvc.MptError, match=r"127\.0\.0\.1"):
        mptvc.VideoReader("http://127.0.0.1:1/a.mpt", codec=small_codec)


def test_frames_before_damage_inside_a_clip_stay_right() -> None:
    """The second of three slices is forged; asking for it again and again changes nothing."""
    codec = mptvc.load("codec", device="cpu")
    data = codec.compress(moving(9, 32, 32))
    header = mptvc.probe(data).header
    spans = [(header.offset(level, 0), header.index.section(level, 0).length) for level in range(3)]
    sections = [data[start : start + length] for start, length in spans]
    first, second, third = split(sections[0], 3)
    sections[0] = joined([first, replace(second, packet=bytes(4)), third])
    index = Index.of([[Section(len(section), crc32(section))] for section in sections])
    forged = write_header(make_header(header, index)) + b"".join(sections)
    with mptvc.VideoReader(forged, codec=codec) as reader:
        opening = reader[0]
        for wanted in (3, 1, 3, 8, 1):
            with pytest.raises(CorruptPacketError, match="level 0, clip 0"):
                reader[wanted]
        assert np.array_equal(reader[0], opening)


@pytest.mark.parametrize("indexes", [[1, 5, -1, 5], np.array([1, 5, 74, 5]), torch.tensor([1, 5, 74, 5])])
def test_frames_by_several_numbers(data: bytes, small_codec: Codec, indexes: Any) -> None:
    with mptvc.VideoReader(data, codec=small_codec) as reader:
        everything = reader[:]
        assert np.array_equal(reader[indexes], everything[[1, 5, 74, 5]])
        assert np.array_equal(reader[torch.tensor(5)], everything[5])
        assert np.array_equal(reader[np.int64(5)], everything[5])
        assert reader[[]].shape == (0, *everything.shape[1:])
        times = [0.0, 0.2, 0.4]
        wanted = reader.frames_at(times)
        assert np.array_equal(reader.frames_at(torch.tensor(times)), wanted)
        assert np.array_equal(reader.frames_at(np.array(times, np.float32)), wanted)
        with pytest.raises(IndexError, match="frame 75 of 75"):
            reader[[0, 75]]
        for wrong in (1.5, "1", None, [0.5], [True]):
            with pytest.raises(TypeError, match="a frame has a whole number"):
                reader[wrong]


def test_a_reader_says_why_it_is_not_pickled(data: bytes, small_codec: Codec) -> None:
    with (
        mptvc.VideoReader(data, codec=small_codec) as reader,
        pytest.raises(TypeError, match="open the file in the other one"),
    ):
        copy.copy(reader)


LEFT_OPEN = """
import sys, numpy, mptvc
codec = mptvc.load("codec")
with open(sys.argv[1], "wb") as file:
    file.write(codec.compress(numpy.zeros((2, 16, 16, 3), numpy.uint8)))
reader = mptvc.VideoReader(sys.argv[1], codec=codec)
"""


def test_a_reader_that_is_left_open_ends_in_silence(tmp_path: Path) -> None:
    """An interpreter that ends takes modules apart before what they hold."""
    command = [sys.executable, "-c", LEFT_OPEN, str(tmp_path / "some.mpt")]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert ended.stderr == b""
