"""Raw 4:2:0 files, as test sequences are published, through every command of their protocol."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

import mptvc
from mptvc.codec.codec import Codec
from mptvc.evaluate.compare import compare_file, compare_peers
from mptvc.video.raw import RawVideo
from mptvc.video.source import VideoSource


def write_yuv(path: Path, bits: int = 8, count: int = 6, height: int = 48, width: int = 64) -> Path:
    """Moving waves as planes, written byte by byte, so that no library is needed to know what they are."""
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    luma = (120 + 60 * np.sin((x + 2 * t) / 7) * np.cos(y / 5)).transpose(2, 0, 1)
    scale = 2 ** (bits - 8)
    with open(path, "wb") as out:
        for plane in luma:
            for samples in (
                plane,
                np.full((height // 2, width // 2), 118),
                np.full((height // 2, width // 2), 135),
            ):
                out.write((samples * scale).astype("u1" if bits == 8 else "<u2").tobytes())
    return path


def frames_of(raw: RawVideo) -> list[np.ndarray]:
    with VideoSource(raw, shot_threshold=None, force_8bit=True) as source:
        return [frame.pixels for frame in source.frames()]


def test_planes_become_the_pixels_that_ffmpeg_makes_of_them(tmp_path: Path) -> None:
    path = write_yuv(tmp_path / "a.yuv")
    frames = frames_of(RawVideo(path, 64, 48, Fraction(120)))
    planes = np.frombuffer(path.read_bytes(), np.uint8).reshape(6, 72, 64)
    assert len(frames) == 6
    for frame, plane in zip(frames, planes, strict=True):
        grey = VideoFrame.from_ndarray(plane, format="yuv420p").reformat(format="rgb24").to_ndarray()
        assert np.abs(frame.astype(int) - grey).max() <= 3  # another interpolation of chroma


def test_ten_bits_are_the_same_picture_finer(tmp_path: Path) -> None:
    eight = frames_of(RawVideo(write_yuv(tmp_path / "a.yuv"), 64, 48, Fraction(50)))
    ten = frames_of(RawVideo(write_yuv(tmp_path / "b.yuv", bits=10), 64, 48, Fraction(50), bits=10))
    assert np.abs(np.stack(eight).astype(int) - np.stack(ten)).max() <= 3


@pytest.mark.parametrize("name", ["a:b_64x48.yuv", "-a%d.yuv"])
def test_a_name_is_that_of_a_file_whatever_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(RawVideo(write_yuv(Path(name)), 64, 48, Fraction(50)))) == 6


def test_a_size_that_does_not_fit_is_a_warning(tmp_path: Path) -> None:
    raw = RawVideo(write_yuv(tmp_path / "a.yuv"), 64, 46, Fraction(50))
    with VideoSource(raw) as source:
        frames = source.frames()
        assert len(list(frames)) == 6
        assert "left over after the last whole frame" in frames.outcome().warnings[0]
    with pytest.raises(mptvc.VideoError, match="left over"):
        VideoSource(raw, strict=True)


def test_file_of_raw_video_keeps_its_rate(tmp_path: Path, small_codec: Codec) -> None:
    raw = RawVideo(write_yuv(tmp_path / "a.yuv"), 64, 48, Fraction(120))
    header = mptvc.encode_file(raw, tmp_path / "a.mpt", codec=small_codec).header
    assert (header.video.frame_rate, header.video.num_frames) == (120, 6)
    qualities = compare_file(raw, tmp_path / "a.mpt", codec=small_codec)
    assert [q.name for q in qualities] == ["level 0", "levels 0-1", "levels 0-2"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mptvc", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_protocol_over_a_folder_gives_every_sequence_and_the_mean(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write_yuv(tmp_path / "raw" / "one.yuv")
    write_yuv(tmp_path / "raw" / "two.yuv", count=9)
    coded = run("encode", tmp_path / "raw", "--output-dir", tmp_path / "coded", "--yuv", "64x48@120")
    assert coded.returncode == 0, coded.stderr
    command = ["compare", tmp_path / "raw", tmp_path / "coded", "--yuv", "64x48@120"]
    table = run(*command)
    assert table.returncode == 0, table.stderr
    assert "mean of 2 clips" in table.stdout
    listed = json.loads(run(*command, "--json").stdout)
    assert [clip["clip"] for clip in listed] == ["one.yuv", "two.yuv", "mean of 2 clips"]
    assert all(ladder[2]["psnr_y"] > 30 for clip in listed for ladder in clip["files"].values())


@pytest.mark.parametrize("text", ["64x48", "0x48@25", "64x48@0", "64x48@25:12", "axb@c"])
def test_a_format_that_cannot_be_read_is_a_usage_error(tmp_path: Path, text: str) -> None:
    result = run("encode", write_yuv(tmp_path / "a.yuv"), "--yuv", text)
    assert result.returncode == 2
    assert "--yuv is WIDTHxHEIGHT@RATE" in result.stderr


def test_peers_code_raw_video_too(tmp_path: Path) -> None:
    raw = RawVideo(write_yuv(tmp_path / "a.yuv"), 64, 48, Fraction(120))

    (curve,) = compare_peers(raw, ["x264"]).values()
    assert len(curve) > 3
