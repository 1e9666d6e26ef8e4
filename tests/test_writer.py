"""Frames pushed one at a time."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import mptvc
from mptvc.codec.codec import Codec


def push(frames: np.ndarray, codec: Codec, **options: object) -> bytes:
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=codec, **options) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.add(frame)
    return out.getvalue()


def test_pushed_frames_give_the_file_that_all_at_once_gives(frames: np.ndarray, small_codec: Codec) -> None:
    whole = small_codec.compress(frames, shots=mptvc.detect_shots(frames), frame_rate=Fraction(30000, 1001))
    assert push(frames, small_codec, frame_rate=Fraction(30000, 1001)) == whole
    assert mptvc.probe(whole).header.shots == (6, 5)


def test_cuts_can_be_left_alone(frames: np.ndarray, small_codec: Codec) -> None:
    data = push(frames, small_codec, shot_threshold=None)
    assert mptvc.probe(data).header.shots == (11,)


def test_times_are_kept(frames: np.ndarray, small_codec: Codec) -> None:
    out, times = BytesIO(), [2 + Fraction(i * i, 50) for i in range(11)]
    with mptvc.VideoWriter(out, codec=small_codec, frame_rate=12.5) as writer:
        for frame, time in zip(frames, times, strict=True):
            writer.add(frame, time=time)
    video = mptvc.probe(out.getvalue()).header.video
    assert [video.time_of(i) for i in range(11)] == [time - 2 for time in times]


def test_the_mean_rate_is_that_of_the_times(frames: np.ndarray, small_codec: Codec) -> None:
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=small_codec) as writer:
        for second, frame in enumerate(frames):
            writer.add(frame, time=second)
    assert mptvc.probe(out.getvalue()).header.video.frame_rate == 1


def test_a_frame_a_day_has_its_time(frames: np.ndarray, small_codec: Codec) -> None:
    """A day has more ticks than a time stamp's difference can hold."""
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=small_codec) as writer:
        for day, frame in enumerate(frames):
            writer.add(frame, time=86400 * day)
    video = mptvc.probe(out.getvalue()).header.video
    assert [video.time_of(day) for day in range(11)] == [86400 * day for day in range(11)]


@pytest.mark.parametrize("rate", [10000.123457, Fraction(5000000001, 10**6), 1e-5, 2**32 - 1, 4e9 + 0.5])
def test_any_rate_fits_the_header(frames: np.ndarray, small_codec: Codec, rate: float) -> None:
    data = push(frames, small_codec, frame_rate=rate)
    assert float(mptvc.probe(data).header.video.frame_rate) == pytest.approx(float(rate), rel=1e-6)


@pytest.mark.parametrize("rate", [0, -1, 1e-9, 2.0**32, float("nan"), float("inf")])
def test_a_rate_that_does_not_fit_is_refused_with_the_first_frame(
    frames: np.ndarray, small_codec: Codec, rate: float
) -> None:
    with pytest.raises(ValueError, match="frame_rate"):
        push(frames[:1], small_codec, frame_rate=rate)


def test_a_finished_file_stays_as_it_is(frames: np.ndarray, small_codec: Codec) -> None:
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=small_codec) as writer:
        writer.add(frames[0])
        header = writer.finish()
        data = out.getvalue()
        with pytest.raises(ValueError, match="finished"):
            writer.add(frames[1])
    assert writer.header == header
    assert out.getvalue() == data


def test_file_appears_when_it_is_complete(frames: np.ndarray, small_codec: Codec, tmp_path: Path) -> None:
    with mptvc.VideoWriter(tmp_path / "a.mpt", codec=small_codec) as writer:
        for frame in frames:
            writer.add(frame)
            assert list(tmp_path.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.mpt"]
    assert mptvc.verify(tmp_path / "a.mpt").header == writer.header


def push_to(path: Path, frames: list[np.ndarray], codec: Codec) -> None:
    with mptvc.VideoWriter(path, codec=codec) as writer:
        for frame in frames:
            writer.add(frame)


def test_an_error_leaves_nothing(frames: np.ndarray, small_codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another size"):
        push_to(tmp_path / "a.mpt", [frames[0], frames[1, 1:]], small_codec)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept(frames: np.ndarray, small_codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "a.mpt").write_text("mine")
    with pytest.raises(mptvc.MptError, match="exists"):
        mptvc.VideoWriter(tmp_path / "a.mpt", codec=small_codec)
    assert (tmp_path / "a.mpt").read_text() == "mine"


def test_wrong_frames_are_refused(frames: np.ndarray, small_codec: Codec) -> None:
    with pytest.raises(ValueError, match="no frame"):
        push(frames[:0], small_codec)
    writer = mptvc.VideoWriter(BytesIO(), codec=small_codec)
    writer.add(frames[0])
    with pytest.raises(ValueError, match="uint8"):
        writer.add(frames[0].astype(np.float32))
    with pytest.raises(ValueError, match="for every frame or for none"):
        writer.add(frames[1], time=1.0)
    writer.close()


def test_time_that_goes_back_is_refused(frames: np.ndarray, small_codec: Codec) -> None:
    writer = mptvc.VideoWriter(BytesIO(), codec=small_codec)
    writer.add(frames[0], time=1.0)
    with pytest.raises(ValueError, match="after one at"):
        writer.add(frames[1], time=0.5)
    writer.close()
