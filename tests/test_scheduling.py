"""Libraries do not make this process a real-time one (only root can see it happen); freed memory is kept."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mptvc import VideoInfo
from mptvc.evaluate.peers import PEERS, encode_with
from mptvc.video.ffmpeg import same_scheduling
from mptvc.video.sink import OutputOptions, VideoSink

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


def test_freed_blocks_are_used_again_without_page_faults() -> None:
    """In a process of its own: what the allocator keeps cannot be undone."""
    code = (
        "import resource, sys, numpy as np\n"
        "from mptvc.codec.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'kept': keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(2**26, np.uint8)\n"
        "before = faults()\n"
        "for _ in range(8): np.ones(2**26, np.uint8)\n"
        "print(faults() - before)\n"
    )
    kept, plain = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("kept", "plain")
    )
    assert kept < 100
    assert kept < plain
