"""How long frames are shown, the last one too, from source to output."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from patterns import describe, moving, write_video

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.bitstream import read_header
from mptvc.format.header import VideoInfo
from mptvc.video.source import VideoSource
from mptvc.video.timing import timed

#: Milliseconds for which each of five frames is shown.
UNEVEN, LONG_LAST = (100, 200, 300, 100, 2000), (100, 100, 100, 100, 2000)


def animation(path: Path, shown: tuple[int, ...], codec: str = "gif", pix_fmt: str = "rgb8") -> Path:
    """A picture a frame, shown for so many milliseconds each."""
    at = 0
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=100, width=64, height=48, pix_fmt=pix_fmt)
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, duration in zip(moving(len(shown)), shown, strict=True):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = at
            at += duration
            for packet in stream.encode(frame):
                packet.duration = duration
                out.mux(packet)
        for packet in stream.encode(None):
            packet.duration = shown[-1]
            out.mux(packet)
    return path


def times_of(path: Path, **options: float) -> list[float]:
    """When each frame starts, and when the last one ends."""
    with VideoSource(path, strict=True, **options) as source:
        frames = source.frames()
        count = sum(1 for _ in frames)
        video = frames.outcome().video
    assert video.num_frames == count
    return [round(float(time), 3) for time in (*video.times, video.times.end)]


def starts(shown: tuple[int, ...]) -> list[float]:
    return [round(sum(shown[:index]) / 1000, 3) for index in range(len(shown) + 1)]


@pytest.mark.parametrize("shown", [UNEVEN, LONG_LAST])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.gif", "gif", "rgb8"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mp4", "mpeg4", "yuv420p"),
    ],
)
def test_the_last_frame_is_shown_as_long_as_its_source_says(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, shown: tuple[int, ...]
) -> None:
    assert times_of(animation(tmp_path / name, shown, codec, pix_fmt)) == starts(shown)


@pytest.mark.parametrize("shown", [UNEVEN, LONG_LAST])
def test_the_end_travels_through_the_file(tmp_path: Path, small_codec: Codec, shown: tuple[int, ...]) -> None:
    source = animation(tmp_path / "in.gif", shown)
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec)
    report = mptvc.probe(tmp_path / "a.mpt")
    assert report.duration_s == pytest.approx(sum(shown) / 1000)
    for target in ("out.mp4", "out.mkv"):
        mptvc.decode_file(tmp_path / "a.mpt", tmp_path / target, codec=small_codec)
        assert times_of(tmp_path / target) == starts(shown)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "part.mkv", codec=small_codec, duration=0.25)
    assert times_of(tmp_path / "part.mkv")[-1] == starts(shown)[len(times_of(tmp_path / "part.mkv")) - 1]
    with mptvc.VideoReader(tmp_path / "a.mpt", codec=small_codec) as reader:
        assert np.array_equal(reader.frames_at([sum(shown) / 1000 - 0.1])[0], reader[-1])


def test_a_part_ends_where_it_was_asked_to(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif", UNEVEN)
    assert (
        times_of(path, duration=0.65) == [0, 0.1, 0.3, 0.6, 0.65] or times_of(path, duration=0.65)[-1] == 0.65
    )
    assert times_of(path, start=0.1, duration=0.5) == [0, 0.2, 0.5]


def test_even_frames_need_no_word_about_the_last() -> None:
    video = describe(moving(3), Fraction(25))
    for last in (0, 1):
        assert timed(video, [7, 8, 9], last) == video
    assert timed(video, [7, 8, 9], 3).last_step == 3
    assert timed(video, [7, None, 9], 0) == video


def test_a_time_that_goes_back_a_little_takes_no_other_along() -> None:
    video = describe(moving(6), Fraction(25))
    assert tuple(timed(video, [5, 6, 9, 8, 10, 11], 0).time_steps) == (0, 1, 3, 0, 1, 1)
    assert tuple(timed(video, [5, 6, 7, 8, 9, 8], 0).time_steps) == (0, 1, 1, 1, 1, 0)
    assert timed(video, [50, 51, 52, 0, 1, 2], 0) == video


def test_the_chunk_of_the_last_frame_may_be_missing_or_unknown(tmp_path: Path, small_codec: Codec) -> None:
    """A header without it is what it was before; a reader that does not know it skips its lower-case name."""
    even = write_video(tmp_path / "even.mkv", moving(3))
    mptvc.encode_file(even, tmp_path / "even.mpt", codec=small_codec)
    assert b"last" not in (tmp_path / "even.mpt").read_bytes()
    mptvc.encode_file(animation(tmp_path / "a.gif", UNEVEN), tmp_path / "a.mpt", codec=small_codec)
    data = (tmp_path / "a.mpt").read_bytes()
    assert data.count(b"last\x04\x00\x00\x00" + (200).to_bytes(4, "little")) == 1
    with open(tmp_path / "a.mpt", "rb") as file:
        assert read_header(file).video.last_step == 200


def test_an_excerpt_knows_how_long_its_last_frame_is_shown() -> None:
    video = VideoInfo(4, 4, 4, Fraction(10), Fraction(1, 10), (0, 1, 5, 2), last_step=9)
    assert [video.excerpt(0, last, 4, 4).last_step for last in (1, 2, 3, 4)] == [1, 5, 2, 9]
