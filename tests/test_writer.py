"""Frames pushed one at a time."""

import copy
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.patches import PatchCoder
from mptvc.model.model import Model


def push(frames: np.ndarray, codec: Codec, **options: object) -> bytes:
    out = BytesIO()
    with mptvc.VideoWriter(out, codec=codec, **options) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.add(frame)
    return out.getvalue()


def test_pushed_frames_give_the_file_that_all_at_once_gives(frames: np.ndarray, small_codec: Codec) -> None:
    whole = small_codec.compress(frames, shots=mptvc.detect_shots(frames), frame_rate=Fraction(30000, 1001))
    assert push(frames, small_codec, frame_rate=Fraction(30000, 1001)) == whole
    assert mptvc.probe(whole).header.shots.lengths == (6, 5)


def test_cuts_can_be_left_alone(frames: np.ndarray, small_codec: Codec) -> None:
    data = push(frames, small_codec, shot_threshold=None)
    assert mptvc.probe(data).header.shots.lengths == (11,)


def test_times_are_kept(frames: np.ndarray, small_codec: Codec) -> None:
    out, times = BytesIO(), [2 + Fraction(i * i, 50) for i in range(11)]
    with mptvc.VideoWriter(out, codec=small_codec, frame_rate=12.5) as writer:
        for frame, time in zip(frames, times, strict=True):
            writer.add(frame, time=time)
    video = mptvc.probe(out.getvalue()).header.video
    assert list(video.times) == [time - 2 for time in times]


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
    assert list(video.times) == [86400 * day for day in range(11)]


@pytest.mark.parametrize("rate", [10000.123457, Fraction(5000000001, 10**6), 1e-5, 2**32 - 1, 4e9 + 0.5])
def test_any_rate_fits_the_header(frames: np.ndarray, small_codec: Codec, rate: float) -> None:
    data = push(frames, small_codec, frame_rate=rate)
    assert float(mptvc.probe(data).header.video.frame_rate) == pytest.approx(float(rate), rel=1e-6)


@pytest.mark.parametrize(
    "rate", [0, -1, 1e-9, 2.0**32, 10**400, float("nan"), float("inf"), -float("inf"), "25", None, 25j]
)
def test_a_rate_that_does_not_fit_is_refused_at_once(small_codec: Codec, rate: Any) -> None:
    with pytest.raises(ValueError, match="frame_rate"):
        mptvc.VideoWriter(BytesIO(), codec=small_codec, frame_rate=rate)


@pytest.mark.parametrize("threshold", [-1, 100.5, float("nan"), float("inf"), "10", "auto"])
def test_a_threshold_that_is_none_is_refused_at_once(small_codec: Codec, threshold: Any) -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        mptvc.VideoWriter(BytesIO(), codec=small_codec, shot_threshold=threshold)


@pytest.mark.parametrize("rate", [25, np.float64(25), np.int64(25), Fraction(25)])
def test_a_rate_may_be_any_number(small_codec: Codec, frames: np.ndarray, rate: Any) -> None:
    data = push(frames[:1], small_codec, frame_rate=rate)
    assert mptvc.probe(data).header.video.frame_rate == 25


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -float("inf")])
def test_a_time_that_is_none_is_refused(frames: np.ndarray, small_codec: Codec, time: float) -> None:
    writer = mptvc.VideoWriter(BytesIO(), codec=small_codec)
    for _ in range(2):
        with pytest.raises(ValueError, match="time is a finite number"):
            writer.add(frames[0], time=time)
    writer.close()


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


def test_to_finish_twice_is_to_finish_once(frames: np.ndarray, small_codec: Codec) -> None:
    out = BytesIO()
    writer = mptvc.VideoWriter(out, codec=small_codec)
    writer.add(frames[0])
    header = writer.finish()
    data = out.getvalue()
    assert writer.finish() == header
    writer.close()
    assert writer.finish() == writer.header == header
    assert out.getvalue() == data
    with pytest.raises(ValueError, match="finished"):
        writer.add(frames[0])


def test_a_closed_writer_says_so(frames: np.ndarray, small_codec: Codec) -> None:
    writer = mptvc.VideoWriter(BytesIO(), codec=small_codec)
    writer.add(frames[0])
    for _ in range(2):
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.finish()
        with pytest.raises(ValueError, match="closed"):
            writer.add(frames[0])
    assert writer.header is None


def test_a_block_that_closes_its_writer_ends_without_a_file(
    frames: np.ndarray, small_codec: Codec, tmp_path: Path
) -> None:
    with mptvc.VideoWriter(tmp_path / "a.mpt", codec=small_codec) as writer:
        writer.add(frames[0])
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_has_failed_says_so(frames: np.ndarray, small_codec: Codec, tmp_path: Path) -> None:
    writer = mptvc.VideoWriter(tmp_path / "a.mpt", codec=small_codec)
    for frame in frames:
        writer.add(frame)
    (tmp_path / "a.mpt").write_text("somebody else's")
    with pytest.raises(mptvc.MptError, match="exists"):
        writer.finish()
    (tmp_path / "a.mpt").unlink()
    for _ in range(2):
        with pytest.raises(ValueError, match="failed before"):
            writer.finish()
        with pytest.raises(ValueError, match="failed before"):
            writer.add(frames[0])
    assert writer.header is None
    assert list(tmp_path.iterdir()) == []


def add_quietly(writer: mptvc.VideoWriter, frames: np.ndarray) -> None:
    with writer:
        for frame in frames:
            with suppress(mptvc.MptError):
                writer.add(frame)


def test_a_block_whose_writer_has_failed_does_not_end_as_if_it_had_not(
    frames: np.ndarray, small_model: Model, tmp_path: Path
) -> None:
    broken = copy.deepcopy(small_model)
    with torch.no_grad():
        broken.level(0).analysis.head.bias += float("nan")
    codec = Codec(PatchCoder(broken, entropy_id=b"e" * 32, weights_id=b"w" * 32))
    writer = mptvc.VideoWriter(tmp_path / "a.mpt", codec=codec, shot_threshold=None)
    with pytest.raises(ValueError, match="failed before"):
        add_quietly(writer, frames[[0] * 33])
    assert list(tmp_path.iterdir()) == []


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
