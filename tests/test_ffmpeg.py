"""What FFmpeg refuses is one error with one line."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from patterns import describe, moving

from mptvc.errors import VideoError
from mptvc.evaluate.peers import PEERS, encode_with
from mptvc.video.ffmpeg import reason, refusals
from mptvc.video.sink import OutputOptions, VideoSink


@pytest.mark.parametrize(
    "error", [av.InvalidDataError(1, "bad data"), OSError(28, "full"), ValueError("odd")]
)
def test_refusals_become_one_error_that_keeps_the_first(error: Exception) -> None:
    with (
        pytest.raises(VideoError, match=r"^cannot do it: (bad data|full|odd)$") as caught,
        refusals("cannot do it"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), refusals("cannot do it"):
        raise KeyError("mine")


def test_an_error_without_words_is_named() -> None:
    assert reason(RuntimeError()) == "RuntimeError"


def test_an_encoder_that_refuses_its_options_is_one_line() -> None:
    peer = replace(PEERS["x264"], options={"preset": "nonsense"})
    with pytest.raises(VideoError, match=r"^x264 cannot code these frames: Invalid argument$"):
        encode_with(peer, 30, lambda: moving(2), Fraction(25))


def test_svt_av1_prints_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It prints past FFmpeg's log to standard error itself."""
    frames = moving(2, 64, 64)
    with VideoSink(tmp_path / "a.mkv", describe(frames), OutputOptions(codec="libsvtav1")) as sink:
        sink.write(frames)
    encode_with(PEERS["svtav1"], 50, lambda: frames, Fraction(25))
    assert capfd.readouterr() == ("", "")
