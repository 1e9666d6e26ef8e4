"""Frames pushed one at a time."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import mptvc
from mptvc.codec import Codec


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
    data = push(frames, small_codec, scene_threshold=None)
    assert mptvc.probe(data).header.shots == (11,)


def test_times_are_kept(frames: np.ndarray, small_codec: Codec) -> None:
    out, times = BytesIO(), [2 + Fraction(i * i, 50) for i in range(11)]
    with mptvc.VideoWriter(out, codec=small_codec, frame_rate=12.5) as writer:
        for frame, time in zip(frames, times, strict=True):
            writer.add(frame, time=time)
    video = mptvc.probe(out.getvalue()).header.video
    assert [video.time_of(i) for i in range(11)] == [time - 2 for time in times]


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
