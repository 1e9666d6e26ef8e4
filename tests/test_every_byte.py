"""Every prefix and every flipped bit of small files: an error that names the place, never a wrong picture."""

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.encoder import Compressor, describe
from mptvc.codec.patches import PatchCoder
from mptvc.format.header import Header, VideoInfo
from mptvc.model.model import Model

Case = tuple[Codec, bytes]


def noise(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (count, -(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width]


def with_sound(codec: Codec) -> bytes:
    """A file with time stamps and a side section, of bytes that nobody looks into here."""
    frames, out = noise(5, 16, 24), BytesIO()
    base = describe(frames, Fraction(25))
    video = VideoInfo(24, 16, 5, base.frame_rate, base.time_base, time_steps=(0, 1, 2, 1, 1))
    with Compressor(codec.coder) as compressor:
        for frame in frames:
            compressor.add(frame)
        compressor.finish(video, out, BytesIO(bytes(range(100))), 10)
    return out.getvalue()


FILES: dict[str, Callable[[Codec], bytes]] = {
    "one frame": lambda codec: codec.compress(noise(1, 9, 13)),
    "one clip": lambda codec: codec.compress(noise(10, 16, 24)),
    "clips and cuts": lambda codec: codec.compress(noise(41, 8, 8), shots=(3, 30, 8)),
    "sound and times": with_sound,
}


@pytest.fixture(scope="module", params=[*FILES, "tiles", "prediction"])
def case(request: pytest.FixtureRequest, small_model: Model, small_codec: Codec, loop_codec: Codec) -> Case:
    if request.param == "prediction":
        return loop_codec, loop_codec.compress(noise(7, 8, 8), shots=(6, 1))
    if request.param == "tiles":
        tiled = Codec(PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=(128, 128)))
        return tiled, tiled.compress(noise(2, 24, 280))
    return small_codec, FILES[request.param](small_codec)


def header_of(data: bytes) -> Header:
    return mptvc.probe(data).header


def test_every_prefix_says_what_it_holds(case: Case) -> None:
    codec, data = case
    header = header_of(data)
    ends = [header.prefix_bytes(k + 1) for k in range(header.num_levels)]
    wholes = {k: codec.decompress(data[:end]).frames for k, end in enumerate(ends, start=1)}
    for size in range(len(data) + 1):
        cut = data[:size]
        if size < header.size_bytes:
            with pytest.raises(mptvc.FormatError, match=r"header|not an mpt"):
                mptvc.probe(cut)
            continue
        complete = sum(end <= size for end in ends)
        report = mptvc.verify(cut)
        assert report.available.levels == complete
        starts = [header.size_bytes + header.side_bytes, *ends]
        if complete < header.num_levels:
            share = max(0, size - starts[complete]) / (ends[complete] - starts[complete])
            assert report.available.next_share == pytest.approx(share)
        if size not in (*ends, *(end - 1 for end in ends), header.size_bytes):
            continue  # what follows depends on the complete levels alone
        if complete == 0:
            with pytest.raises(mptvc.FormatError, match="the file is cut: it has no level complete"):
                codec.decompress(cut)
            continue
        video = codec.decompress(cut)
        assert (video.levels, video.complete) == (complete, complete == header.num_levels)
        assert np.array_equal(video.frames, wholes[complete])


def place_of(header: Header, byte: int) -> tuple[int, int] | str:
    """Level and clip of a byte, or what else it belongs to."""
    if byte < header.size_bytes:
        return "header"
    for level in range(header.num_levels):
        for clip in range(header.shots.num_clips):
            start = header.offset(level, clip)
            if start <= byte < start + header.index.section(level, clip).length:
                return level, clip
    return "side"


def test_every_flipped_bit_is_reported_with_its_place(case: Case) -> None:
    _, data = case
    header = header_of(data)
    for byte in range(len(data)):
        place = place_of(header, byte)
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            with pytest.raises(mptvc.MptError) as caught:
                mptvc.verify(bytes(damaged))
            error = caught.value
            if isinstance(place, tuple):
                assert isinstance(error, mptvc.CorruptPacketError)
                assert (error.level, error.clip, error.offset) == (*place, header.offset(*place))
            elif place == "side":
                assert isinstance(error, mptvc.FormatError)
                assert error.offset == header.size_bytes
            else:
                assert not isinstance(error, mptvc.CorruptPacketError)


def test_no_flipped_bit_of_a_section_is_shown(case: Case) -> None:
    """A bit of each byte; and levels below the damaged one still decode."""
    codec, data = case
    header = header_of(data)
    expected = {k: codec.decompress(data, levels=k).frames for k in range(1, header.num_levels)}
    for byte in range(header.offset(0, 0), len(data), max(1, len(data) // 60)):
        level, _ = place_of(header, byte)
        damaged = bytearray(data)
        damaged[byte] ^= 1 << byte % 8
        with pytest.raises(mptvc.CorruptPacketError):
            codec.decompress(bytes(damaged))
        if isinstance(level, int) and level:
            frames = codec.decompress(bytes(damaged), levels=level).frames
            assert np.array_equal(frames, expected[level])
