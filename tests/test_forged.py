"""Files that lie with right checksums: an error or a result, in bounded time and memory."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from textwrap import dedent
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.bitstream import write_header
from mptvc.format.header import Header, Section, VideoInfo
from mptvc.format.packet import PacketReader

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)


def forged(header: Header, packets: list[list[bytes]]) -> bytes:
    """A file of these packets, whose checksums are right."""
    index = tuple(tuple(Section(len(p), crc32(p)) for p in level) for level in packets)
    return write_header(replace(header, index=index)) + b"".join(p for level in packets for p in level)


def packets_of(data: bytes) -> tuple[Header, list[list[bytes]]]:
    header = mptvc.probe(data).header
    return header, [
        [data[header.offset(k, i) : header.offset(k, i) + section.length] for i, section in enumerate(level)]
        for k, level in enumerate(header.index)
    ]


@pytest.fixture(scope="module")
def data(small_codec: Codec) -> bytes:
    return small_codec.compress(FRAMES)


def decode(codec: Codec, data: bytes) -> np.ndarray | None:
    """What comes out, None for a refusal; anything else fails the test."""
    try:
        return codec.decompress(data).frames
    except mptvc.MptError:
        return None


@settings(max_examples=150, deadline=None)
@given(
    level=st.integers(0, 2),
    cut=st.integers(0, 400),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    more=st.binary(max_size=16),
)
def test_packets_that_lie_are_refused_or_are_pictures(
    small_codec: Codec, data: bytes, level: int, cut: int, edits: list[tuple[int, int]], more: bytes
) -> None:
    header, packets = packets_of(data)
    packet = bytearray(packets[level][0])
    for at, value in edits:
        packet[at % len(packet)] = value
    packets[level] = [bytes(packet[: len(packet) - cut]) + more]
    frames = decode(small_codec, forged(header, packets))
    assert frames is None or frames.shape == FRAMES.shape


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    shots=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    lengths=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
)
def test_headers_that_lie_are_refused_or_are_pictures(
    small_codec: Codec, data: bytes, width: int, height: int, shots: list[int], lengths: list[int]
) -> None:
    """Another geometry over the same packets, and sections of other lengths."""
    header, packets = packets_of(data)
    frames = sum(shots)
    video = replace(header.video, width=width, height=height, frames=frames)
    lied = replace(header, video=video, shots=tuple(shots))
    fitting = small_codec.geometry(frames, height, width)
    lied = replace(lied, tiles=fitting.tiles)
    copies = [[level[0]] * lied.clips for level in packets]
    out = decode(small_codec, forged(lied, copies))
    assert out is None or out.shape == (frames, height, width, 3)
    index = tuple(tuple(Section(n, 0) for _ in range(lied.clips)) for n in lengths)
    with pytest.raises(mptvc.FormatError):
        small_codec.decompress(write_header(replace(lied, index=index)) + b"".join(p for (p,) in packets))


@pytest.mark.parametrize(
    "changes",
    [{"patch_size": 16}, {"patch_size": 4}, {"patch_frames": 8}, {"clip_frames": 64}, {"levels": 4}],
)
def test_another_geometry_than_that_of_the_weights_is_refused(
    small_codec: Codec, data: bytes, changes: dict[str, int]
) -> None:
    header, packets = packets_of(data)
    if "levels" in changes:
        packets.append(packets[-1])
        lied = replace(header, tiles=(*header.tiles, header.tiles[-1]))
    else:
        lied = replace(header, **changes)
    with pytest.raises(mptvc.FormatError):
        small_codec.decompress(forged(lied, [[level[0]] * lied.clips for level in packets]))


def test_a_packet_that_claims_other_rows_is_refused(small_codec: Codec, data: bytes) -> None:
    header, packets = packets_of(data)
    packets[1][0] = bytes(4) + packets[1][0][4:]
    with pytest.raises(mptvc.CorruptPacketError, match=r"rows or means are not the encoder's.*mptvc env"):
        small_codec.decompress(forged(header, packets))


def test_no_panic_leaves_the_entropy_coder(small_codec: Codec, data: bytes) -> None:
    """Its exception is no `Exception`, so it would pass every handler."""
    rng, tables = np.random.default_rng(1), small_codec.clips._tables[0]
    for _ in range(300):
        packet = rng.integers(0, 256, 4 * int(rng.integers(0, 12)), dtype=np.uint8).tobytes()
        rows = rng.integers(0, len(tables.models), int(rng.integers(0, 90))).astype(np.uint8)
        try:
            reader = PacketReader(tables, packet)
            reader(rows)
            reader.finish()
        except ValueError:
            pass


CLAIMS = {
    "hours of 8K": VideoInfo(7680, 4320, 100_000, Fraction(30), Fraction(1, 30)),
    "a long strip": VideoInfo(65536, 2048, 9_000_000, Fraction(30), Fraction(1, 30)),
    "as many frames as are accepted": VideoInfo(1, 1, 10_000_000, Fraction(30), Fraction(1, 30)),
}
LIMITED = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_AS, (10 * 2**30, 10 * 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
    import mptvc, torch
    torch.set_num_threads(1)
    codec = mptvc.load(device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        report = mptvc.probe(sys.argv[1])
        mptvc.verify(sys.argv[1])
        with mptvc.VideoReader(sys.argv[1], codec=codec) as reader:
            reader[0]
        raise SystemExit("it was accepted")
    except mptvc.MptError as error:
        print(type(error).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize(
    "packet", [b"", bytes(4), b"\x01\x02\x03\x04" * 8], ids=["nothing", "zeros", "words"]
)
def test_a_small_file_with_a_large_claim_takes_bounded_memory(
    tmp_path: Path, codec: Codec, claim: str, packet: bytes
) -> None:
    video = CLAIMS[claim]
    header = codec.clips.header(video, (video.frames,))
    sections = ((Section(len(packet), crc32(packet)), *[Section(0, 0)] * (header.clips - 1)),) * header.levels
    data = write_header(replace(header, index=sections)) + packet
    (tmp_path / "a.mpt").write_bytes(data)
    command = [sys.executable, "-c", dedent(LIMITED), tmp_path / "a.mpt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, kilobytes = done.stdout.split()
    assert name in ("CorruptPacketError", "FormatError", "LimitExceededError")
    # one clip of level 0 in symbols, and the index as Python objects
    assert int(kilobytes) < 3 * 2**20


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (VideoInfo(65536, 65536, 1, Fraction(1), Fraction(1)), "max_pixels="),
        (VideoInfo(8, 8, 2**32 - 1, Fraction(1), Fraction(1)), "max_frames="),
    ],
)
def test_a_claim_above_the_limits_is_refused_by_name(codec: Codec, video: VideoInfo, message: str) -> None:
    header = replace(codec.clips.header(video, (video.frames,)), index=((),) * 3)
    with pytest.raises(mptvc.LimitExceededError, match=message):
        mptvc.probe(BytesIO(write_header(header)))


@pytest.mark.parametrize("target", ["parse", "packet", "decode"])
def test_fuzz_targets_run(tmp_path: Path, target: str) -> None:
    pytest.importorskip("atheris")
    fuzz = Path(__file__).parent / "fuzz.py"
    command = [sys.executable, fuzz, target, "-runs=200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 200 runs" in done.stderr
