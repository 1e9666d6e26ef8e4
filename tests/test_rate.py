import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch

import mptvc
from mptvc.bitstream import read_header, write_header
from mptvc.errors import FormatError
from mptvc.fsq import FSQ
from mptvc.header import gains_of
from mptvc.rate import MAX_GAIN, Rate, gain_factor, largest_gain


def video(frames: int = 37, height: int = 64, width: int = 96) -> np.ndarray:
    """A moving pattern with edges and a little noise."""
    y, x, t = np.mgrid[0:height, 0:width, 0:frames].astype(np.float32)
    waves = [np.sin((x + 2 * t) / (5 + c)) + np.sign(np.cos((y - t) / (7 - c))) for c in range(3)]
    picture = (127 + 40 * np.stack(waves, -1)).transpose(2, 0, 1, 3)
    noise = np.random.default_rng(3).normal(0, 3, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("slope", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("most", [300, 1000, 2500])
def test_largest_gain_fits_and_uses_what_is_allowed(slope, most):
    tried = []

    def size_of(gain):
        tried.append(gain)
        return round(1000 * 2 ** (slope * gain / 24))

    gain = largest_gain(size_of, most)
    assert len(tried) <= 5
    assert size_of(gain) <= most or gain == -MAX_GAIN
    reachable = min(most, size_of(MAX_GAIN))
    assert size_of(gain) > 0.9 * reachable or gain == -MAX_GAIN


def test_what_never_fits_is_quantized_as_coarsely_as_possible():
    assert largest_gain(lambda gain: 1000 + gain, 10) == -MAX_GAIN


def test_the_finest_gain_leaves_room_for_the_values():
    fsq = FSQ((7, 31))
    y = torch.tensor([[5.0, 3.0]]).expand(1000, 2)
    gain = fsq.finest_gain(y)
    excess = (y * gain_factor(gain) - fsq.halves).clamp_min(0)
    assert 0 < gain < MAX_GAIN
    assert excess.square().mean() <= 0.1 / 12
    assert fsq.finest_gain(y / 10) == MAX_GAIN
    assert fsq.finest_gain(y * 10) == 0


@pytest.mark.parametrize(("quality", "bpp"), [(7, ()), (0, (0.2, 0.1)), (0, (0.0,))])
def test_rates_out_of_range_are_refused(quality, bpp):
    with pytest.raises(ValueError, match="found"):
        Rate(quality, bpp)


def test_every_clip_keeps_to_the_bits_that_it_may_take(codec):
    frames = video(40)
    free = mptvc.probe(codec.compress(frames)).header
    pixels = [32 * 64 * 96, 8 * 64 * 96]
    share = [0.8 * 8 * free.picture_bytes(k + 1) / frames[..., 0].size for k in range(3)]
    data = codec.compress(frames, rate=Rate(bpp=tuple(share)))
    header = mptvc.probe(data).header
    assert header.clips == 2
    for clip in range(2):
        sizes = np.cumsum([header.index[k][clip].length for k in range(3)]) + header.header_share(clip)
        assert all(8 * size <= most * pixels[clip] for size, most in zip(sizes, share, strict=True))
    assert header.size_bytes == header.header_share(0) + header.header_share(1)
    assert sum(s.length for s in header.index[2]) > 0.5 * sum(s.length for s in free.index[2])
    assert codec.decompress(data).frames.shape == frames.shape


def test_quality_trades_bits_for_error(codec):
    frames = video(8)
    sizes, errors = [], []
    for quality in (-3, 0, 3):
        data = codec.compress(frames, rate=Rate(quality=quality))
        sizes.append(len(data))
        decoded = codec.decompress(data).frames.astype(float)
        errors.append(np.square(decoded - frames).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_tokens_carry_their_gains(codec):
    frames = video(8)
    rate = Rate(quality=-3)
    tokens = codec.encode(frames, rate=rate)
    decoded = codec.decompress(codec.compress(frames, rate=rate)).frames
    assert tokens.header.gain(0, 0) == -12
    assert np.array_equal(codec.decode(tokens), decoded)
    assert np.array_equal(codec.decompress(codec.pack(tokens)).frames, decoded)


def test_a_file_without_gains_has_no_chunk_for_them(codec):
    assert gains_of([[0, 0], [0, 0]]) == ()
    header = mptvc.probe(codec.compress(video(4))).header
    assert header.gains == ()
    assert b"GAIN" not in write_header(header)


@pytest.mark.parametrize("gains", [b"\x00\x00\x00", b"\x19\x00\x00", b"\x01\x00", b"\x80\x01\x01"])
def test_gains_that_cannot_be_are_refused(gains, codec):

    data = codec.compress(video(4), rate=Rate(quality=-1))
    header = read_header(BytesIO(data))
    raw = write_header(header)
    at = raw.index(b"GAIN")
    forged = raw[:at] + b"GAIN" + struct.pack("<I", len(gains)) + gains + raw[at + 11 : -4]
    forged = forged[:12] + struct.pack("<I", len(forged) + 4) + forged[16:]
    forged += struct.pack("<I", zlib.crc32(forged))
    with pytest.raises(FormatError, match="gain"):
        read_header(BytesIO(forged))
