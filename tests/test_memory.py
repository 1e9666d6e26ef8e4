"""Resident memory does not grow with the length of a video.

What streams is shown with large frames and no networks, so that one frame kept too many shows; the networks
with small frames.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

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
codec = mptvc.load("tokenizer", device="cpu")
base = np.kron(np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3)), np.ones((8, 8, 1)))
base, last = base.astype(np.uint8), [-1]
with mptvc.VideoWriter(target, frame_rate=25, codec=codec, shot_threshold=None) as writer:
    for index in range(frames):
        writer.add(np.roll(base, index, 1))
        at(index + 1, frames, last)
print("decode")
last = [-1]
mptvc.decode_file(target, target + ".mkv", codec=codec, progress=lambda done, total: at(done, total, last))
"""


#: The same with frames of 1280x720, the work of the networks and of the entropy coder left out.
STREAM = """
import sys, numpy as np, torch, mptvc, mptvc.codec.patches

class Idle(mptvc.codec.patches.PatchCoder):
    def encode_clip(self, frames, geometry, shots, control):
        return [mptvc.codec.patches.CodedLevel(bytes(100), 0, torch.zeros(1)) for _ in range(3)]
    def unpack_level(self, *_):
        return torch.zeros(1)
    def decode_clip(self, symbols, gains, geometry, shots, source_size=True):
        return np.zeros((4 * len(shots), geometry.height, geometry.width, 3), np.uint8)

def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) >> 10

full = mptvc.load("tokenizer", device="cpu").coder
codec = mptvc.Codec(Idle(full.model, entropy_id=full.entropy_id, weights_id=full.weights_id))
for frames in (100, 260):
    target = f"{sys.argv[1]}/{frames}.mpt"
    with mptvc.VideoWriter(target, codec=codec, shot_threshold=None) as writer:
        for index in range(frames):
            writer.add(np.full((720, 1280, 3), index % 256, np.uint8))
    print(peak())
for frames in (100, 260):
    mptvc.decode_file(f"{sys.argv[1]}/{frames}.mpt", f"{sys.argv[1]}/{frames}.mp4", codec=codec)
    print(peak())
"""

#: Reads the last second of a video with its sound; prints by how many MiB the peak has risen.
EXCERPT = """
import sys
from mptvc.video.source import VideoSource

def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024

for start in (0, int(sys.argv[2])):
    before = peak()
    with VideoSource(sys.argv[1], start=start, duration=1, sound=True, shot_threshold=None) as source:
        frames = source.frames()
        print(sum(1 for _ in frames), frames.outcome().side is not None, round(peak() - before))
"""


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say what is resident")
def test_the_sound_of_what_is_skipped_is_not_kept(tmp_path: Path) -> None:
    seconds, rate = 60, 192000
    with av.open(tmp_path / "a.mkv", "w") as out:
        video = out.add_stream("ffv1", rate=1, width=16, height=16, pix_fmt="bgr0")
        sound = out.add_stream("pcm_s32le", rate=rate, layout="stereo")
        for second in range(seconds):
            frame = VideoFrame.from_ndarray(np.full((16, 16, 3), second, np.uint8), format="rgb24")
            frame.pts = second
            out.mux(video.encode(frame))
            for at in range(rate * second, rate * (second + 1), rate // 50):
                heard = AudioFrame.from_ndarray(
                    np.full((1, 2 * rate // 50), at, np.int32), format="s32", layout="stereo"
                )
                heard.sample_rate, heard.pts = rate, at
                out.mux(sound.encode(heard))
        out.mux([*video.encode(None), *sound.encode(None)])
    code = [sys.executable, "-c", EXCERPT, str(tmp_path / "a.mkv"), str(seconds - 1)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    first, last = (line.split() for line in done.stdout.splitlines())
    assert first[:2] == last[:2] == ["1", "True"]
    assert int(last[2]) < seconds * rate * 8 / 2**20 / 4


def test_no_more_than_a_clip_of_frames_is_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    encode_short, encode_long, decode_short, decode_long = (int(line) for line in done.stdout.split())
    more = (260 - 100) * 1280 * 720 * 3 / 2**20
    assert encode_long - encode_short < more / 8
    assert decode_long - decode_short < more / 8


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
        (640, 64, 64),
        pytest.param(5000, 96, 128, marks=pytest.mark.slow),
        pytest.param(256, 2160, 3840, marks=pytest.mark.slow),
    ],
)
def test_resident_memory_does_not_grow_with_length(
    tmp_path: Path, frames: int, height: int, width: int
) -> None:
    encoded, decoded = resident_mib(frames, height, width, tmp_path)
    print(f"{frames} frames of {width}x{height}: encode {encoded}, decode {decoded} MiB")
    for values in (encoded, decoded):
        # Medians: a sample that falls into the work on a clip is higher by what that takes.
        growth = median(values[4:]) - median(values[1:4])
        assert growth < 8 + frames * height * width * 3 / 2**24
