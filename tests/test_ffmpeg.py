"""What FFmpeg refuses is one error with one line."""

from dataclasses import replace
from fractions import Fraction

import av
import pytest
from patterns import moving

from mptvc.errors import VideoError
from mptvc.evaluate.peers import PEERS, encode_with
from mptvc.video.ffmpeg import reason, refusals


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
