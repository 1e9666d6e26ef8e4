"""Files that lie with right checksums: an error or a result, in bounded time and memory."""

import struct
import subprocess
import sys
import tracemalloc
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
from mptvc.format.bitstream import make_header, write_header
from mptvc.format.geometry import Geometry, PatchShots, TileGrid
from mptvc.format.header import Header, Index, Layout, Section, VideoInfo
from mptvc.format.packet import PacketReader

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)


def forged(header: Header, packets: list[list[bytes]]) -> bytes:
    """A file of these packets, whose checksums are right."""
    index = Index.of([[Section(len(p), crc32(p)) for p in level] for level in packets])
    return write_header(replace(header, index=index)) + b"".join(p for level in packets for p in level)


def patched(data: bytes, **fields: tuple[int, str, int]) -> bytes:
    """A header in which fixed fields, each (offset, type, value), are others; its checksum is right."""
    body = bytearray(data[:-4])
    for offset, code, value in fields.values():
        struct.pack_into("<" + code, body, offset, value)
    return bytes(body) + struct.pack("<I", crc32(body))


def packets_of(data: bytes) -> tuple[Header, list[list[bytes]]]:
    header = mptvc.probe(data).header
    return header, [
        [data[header.offset(k, i) :][:length] for i, length in enumerate(header.index.lengths(k))]
        for k in range(header.num_levels)
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
    video = replace(header.video, width=width, height=height, num_frames=frames)
    fitting = small_codec.coder.layout(video, tuple(shots))
    lied = replace(header, video=video, shots=fitting.shots, geometry=fitting.geometry)
    copies = [[level[0]] * lied.shots.num_clips for level in packets]
    out = decode(small_codec, forged(lied, copies))
    assert out is None or out.shape == (frames, height, width, 3)
    index = Index.of([[Section(n, 0)] * lied.shots.num_clips for n in lengths])
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
        tiles = (*header.geometry.tiles, header.geometry.tiles[-1])
        lied = replace(header, geometry=replace(header.geometry, tiles=tiles))
    elif "patch_size" in changes:
        lied = replace(header, geometry=replace(header.geometry, **changes))
    else:
        lied = replace(header, shots=replace(header.shots, **changes))
    with pytest.raises(mptvc.FormatError):
        small_codec.decompress(forged(lied, [[level[0]] * lied.shots.num_clips for level in packets]))


def test_a_packet_that_claims_other_rows_is_refused(small_codec: Codec, data: bytes) -> None:
    header, packets = packets_of(data)
    packets[1][0] = bytes(4) + packets[1][0][4:]
    with pytest.raises(mptvc.CorruptPacketError, match=r"rows or means are not the encoder's.*mptvc env"):
        small_codec.decompress(forged(header, packets))


def test_no_panic_leaves_the_entropy_coder(small_codec: Codec, data: bytes) -> None:
    """Its exception is no `Exception`, so it would pass every handler."""
    rng, tables = np.random.default_rng(1), small_codec.coder._tables[0]
    for _ in range(300):
        packet = rng.integers(0, 256, 4 * int(rng.integers(0, 12)), dtype=np.uint8).tobytes()
        rows = rng.integers(0, len(tables), int(rng.integers(0, 90))).astype(np.uint8)
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
    codec = mptvc.load(sys.argv[2], device="cpu")
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
    layout = codec.coder.layout(video, (video.num_frames,))
    sections = [Section(len(packet), crc32(packet)), *[Section(0, 0)] * (layout.shots.num_clips - 1)]
    data = write_header(make_header(layout, Index.of([sections] * layout.num_levels))) + packet
    (tmp_path / "a.mpt").write_bytes(data)
    command = [sys.executable, "-c", dedent(LIMITED), tmp_path / "a.mpt", "tokenizer"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, kilobytes = done.stdout.split()
    assert name in ("CorruptPacketError", "FormatError", "LimitExceededError")
    # one clip of level 0 in symbols, and the index as Python objects
    assert int(kilobytes) < 3 * 2**20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": (16, "I", 65536), "height": (20, "I", 65536)}, "max_pixels="),
        ({"frames": (24, "Q", 2**32 - 1)}, "max_frames="),
    ],
)
def test_a_claim_above_the_limits_is_refused_by_name(
    data: bytes, fields: dict[str, tuple[int, str, int]], message: str
) -> None:
    header = patched(data[: mptvc.probe(data).header.size_bytes], **fields)
    with pytest.raises(mptvc.LimitExceededError, match=message):
        mptvc.probe(BytesIO(header))


@pytest.mark.parametrize("target", ["parse", "packet", "decode"])
def test_fuzz_targets_run(tmp_path: Path, target: str) -> None:
    pytest.importorskip("atheris")
    fuzz = Path(__file__).parent / "fuzz.py"
    command = [sys.executable, fuzz, target, "-runs=200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 200 runs" in done.stderr


def forged_header(shots: int, sections: int, stamps: bool) -> bytes:
    """A header of one-frame shots, or of one shot of so many sections, with or without time stamps."""
    lengths = (1,) * shots if shots else (4 * sections,)
    video = VideoInfo(8, 8, sum(lengths), Fraction(25), Fraction(1, 25))
    if stamps:
        video = replace(video, time_steps=(0, *[2**31] * (video.num_frames - 1)))
    layout = Layout(
        video=video,
        geometry=Geometry(8, 8, 8, (TileGrid(1, 1, 0),)),
        shots=PatchShots(lengths, 4, 4),
        entropy_id=bytes(32),
        weights_id=bytes(32),
        gains=((-48,) * (shots or sections),),
    )
    return write_header(make_header(layout, Index.of([[Section(2**31, 2**31)] * (shots or sections)])))


@pytest.mark.parametrize(
    ("shots", "sections", "stamps"),
    [(0, 600_000, False), (300_000, 0, True)],
)
def test_a_header_takes_a_small_multiple_of_its_bytes(shots: int, sections: int, stamps: bool) -> None:
    """Held as Python objects, 15 MiB of sections took 250 MiB."""
    data = forged_header(shots, sections, stamps)
    assert len(data) > 4 * 2**20
    tracemalloc.start()
    report = mptvc.probe(BytesIO(data), limits=mptvc.Limits(max_frames=2**32 - 1))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.available.levels == 0
    assert peak < 8 * len(data)
    assert held < 6 * len(data)
