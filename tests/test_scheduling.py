"""Libraries do not make this process a real-time one; only a user who may do so, root, can see it happen."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mptvc import VideoInfo
from mptvc.peers import PEERS, encode_with
from mptvc.scheduling import same_scheduling
from mptvc.video_output import OutputOptions, VideoSink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies of Linux")
FRAMES = np.zeros((3, 64, 64, 3), np.uint8)


def policies() -> set[int]:
    """Scheduling policies of all threads of this process."""
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


def test_a_changed_policy_is_given_back() -> None:
    before = policies()
    with same_scheduling():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pytest.skip("this user may not change the policy")
        assert policies() != before
    assert policies() == before


def test_video_of_svt_av1_is_written_by_ordinary_threads(tmp_path: Path) -> None:
    before = policies()
    info = VideoInfo(64, 64, len(FRAMES), Fraction(25), Fraction(1, 25))
    with VideoSink(tmp_path / "a.mkv", info, OutputOptions(codec="libsvtav1", crf=40)) as sink:
        sink.write(FRAMES)
        assert policies() == before
    assert policies() == before


def test_svt_av1_is_measured_with_ordinary_threads() -> None:
    before = policies()
    encode_with(PEERS["svtav1"], 50, lambda: FRAMES, Fraction(25))
    assert policies() == before
