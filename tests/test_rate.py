import math
import struct
import zlib
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
import torch

import mptvc
from mptvc.codec.rate import Rate, RateControl, largest_gain
from mptvc.errors import FormatError, MptError
from mptvc.format.bitstream import header_share, read_header, write_header
from mptvc.format.gain import MAX_GAIN, gain_factor
from mptvc.model.fsq import FSQ
from mptvc.video.sink import OutputOptions, VideoSink


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


@pytest.mark.parametrize(
    ("quality", "bpp"),
    [
        (7, ()),
        (math.nan, ()),
        (0, (0.2, 0.1)),
        (0, (0.0,)),
        (0, (0.1, math.nan)),
        (0, (math.inf,)),
        (0, (1e308,)),
    ],
)
def test_rates_out_of_range_are_refused(quality, bpp):
    with pytest.raises(ValueError, match="found"):
        Rate(quality, bpp)


def shares(header, share):
    """Bits per pixel of every prefix times a share."""
    pixels = header.video.width * header.video.height * header.video.num_frames
    return tuple(share * 8 * header.picture_bytes(k + 1) / pixels for k in range(header.num_levels))


@pytest.mark.parametrize("frames", [40, 64])
def test_every_prefix_keeps_to_the_bits_that_it_may_take(codec, frames):
    source = video(frames)
    free = mptvc.probe(codec.compress(source)).header
    most = shares(free, 0.8)
    data = codec.compress(source, rate=Rate(bpp=most))
    header = mptvc.probe(data).header
    assert header.shots.num_clips == 2
    taken = shares(header, 1.0)
    assert all(0.85 * b < a <= b for a, b in zip(taken, most, strict=True))
    assert codec.decompress(data).frames.shape == source.shape


def test_a_clip_may_use_what_those_before_it_left():
    control = RateControl(Rate(bpp=(1.0, 3.0)), 2)

    def gain(level, size):
        def size_of(gain):
            return round(size * gain_factor(gain))

        chosen = control.gain(level, lambda: MAX_GAIN, size_of)
        control.spend(level, size_of(chosen))
        return chosen

    control.start_clip(8000, 100)
    assert gain(0, 200) == MAX_GAIN  # 900 bytes are allowed: 100 are left
    assert gain(1, 10**6) == -MAX_GAIN  # nothing comes near
    control.start_clip(8000, 0)
    assert 0 <= gain(0, 1000) < MAX_GAIN  # 1,000 and the 100
    assert gain(1, 100) == -MAX_GAIN  # the prefix has long used up everything


def test_header_is_charged_to_the_clips(codec):
    data = codec.compress(video(40), shots=(3, 30, 7), rate=Rate(quality=-1))
    header = mptvc.probe(data).header
    assert header.shots.num_clips == 2
    assert header.size_bytes == header_share(3, 2, is_first=True) + header_share(3, 1, is_first=False)


def test_tokens_are_chosen_as_the_files_symbols(codec):
    source, shots = video(40), (3, 30, 7)
    most = shares(mptvc.probe(codec.compress(source, shots=shots)).header, 0.7)
    data = codec.compress(source, shots=shots, rate=Rate(bpp=most))
    tokens = codec.encode(source, shots=shots, rate=Rate(bpp=most))
    assert tokens.layout.gains == mptvc.probe(data).header.gains
    assert np.array_equal(codec.decode(tokens), codec.decompress(data).frames)


@pytest.mark.parametrize("bpp", [(0.1,), (0.1, 0.2), (0.1, 0.2, 0.3, 0.4)])
def test_bits_for_another_number_of_levels_are_refused(codec, bpp):
    with pytest.raises(ValueError, match="3 numbers, one a prefix"):
        codec.compress(video(4), rate=Rate(bpp=bpp))
    with pytest.raises(ValueError, match="3 numbers, one a prefix"):
        codec.encode(video(4), rate=Rate(bpp=bpp))


def test_what_cannot_be_kept_is_a_warning(codec, tmp_path):
    source = tmp_path / "in.mkv"
    info = mptvc.VideoInfo(96, 64, 8, Fraction(25), Fraction(1, 25))
    with VideoSink(source, info, OutputOptions(codec="ffv1")) as sink:
        sink.write(video(8))
    rate = Rate(bpp=(1e-3, 2e-3, 90))
    report = mptvc.encode_file(source, tmp_path / "a.mpt", codec=codec, rate=rate)
    assert [warning.split(": ")[0] for warning in report.warnings] == ["level 0", "levels 0-1"]
    assert "more than 0.001" in report.warnings[0]
    with pytest.raises(MptError, match="strict=True refuses"):
        mptvc.encode_file(source, tmp_path / "b.mpt", codec=codec, rate=rate, strict=True)
    assert not (tmp_path / "b.mpt").exists()


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
    assert tokens.layout.clip_gains(0)[0] == -12
    assert np.array_equal(codec.decode(tokens), decoded)
    assert np.array_equal(codec.decompress(codec.pack(tokens)).frames, decoded)


def test_a_file_without_gains_has_no_chunk_for_them(codec):
    header = mptvc.probe(codec.compress(video(4))).header
    assert header.gains == ()
    assert b"GAIN" not in write_header(header)


@pytest.mark.parametrize(
    "gains", [b"\x00\x00\x00", b"\x31\x00\x00", b"\xcf\x00\x00", b"\x01\x00", b"\x80\x01\x01"]
)
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
