"""Resident memory does not grow with the length of a video."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
#: Encodes frames one at a time and decodes them clip by clip; prints resident MiB at every eighth of the way.
CODE = """
import sys, numpy as np, mptvc

def at(done, total, last):
    if 8 * done // total > last[0]:
        last[0] = 8 * done // total
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(int(status["VmRSS"].split()[0]) >> 10, flush=True)

frames, height, width, target = (int(a) if a.isdigit() else a for a in sys.argv[1:])
codec = mptvc.load(device="cpu")
base = np.kron(np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3)), np.ones((8, 8, 1)))
base, last = base.astype(np.uint8), [-1]
with mptvc.VideoWriter(target, frame_rate=25, codec=codec, scene_threshold=None) as writer:
    for index in range(frames):
        writer.add(np.roll(base, index, 1))
        at(index + 1, frames, last)
print("decode")
last = [-1]
mptvc.decode_file(target, target + ".mkv", codec=codec, progress=lambda done, total: at(done, total, last))
"""


def resident_mib(frames: int, height: int, width: int, folder: Path) -> tuple[list[int], list[int]]:
    """Resident MiB while a video is encoded and while it is decoded, from the first eighth on."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(frames), str(height), str(width), str(folder / "long.mpt")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    encoded, decoded = done.stdout.split("decode")
    return [int(line) for line in encoded.split()[1:]], [int(line) for line in decoded.split()]


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say what is resident")
@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [
        (640, 32, 32),
        pytest.param(5000, 64, 96, marks=pytest.mark.slow),
        pytest.param(256, 2160, 3840, marks=pytest.mark.slow),
    ],
)
def test_resident_memory_does_not_grow_with_length(
    tmp_path: Path, frames: int, height: int, width: int
) -> None:
    encoded, decoded = resident_mib(frames, height, width, tmp_path)
    print(f"{frames} frames of {width}x{height}: encode {encoded}, decode {decoded} MiB")
    for values in (encoded, decoded):
        assert max(values[3:]) < 1.1 * max(values[:3]) + 16
