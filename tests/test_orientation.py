"""Pictures are shown the way their source is, in all eight orientations."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from command_line import Cli
from patterns import LOSSLESS, describe, write_video
from test_video import pixels_of

import mptvc
from mptvc.codec.codec import Codec
from mptvc.evaluate.compare import compare_video
from mptvc.video.orientation import upright, upright_info
from mptvc.video.source import VideoSource

#: The upper left of an MP4's matrix, and the same to an array of pixels ``[H, W, 3]``, y downwards.
ORIENTATIONS = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: p.swapaxes(0, 1)[:, ::-1],
    (0, -1, 1, 0): lambda p: p.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda p: p.swapaxes(0, 1)[::-1, ::-1],
}


def corners() -> np.ndarray:
    """A picture of 64 x 48 that looks otherwise in every orientation."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (220, 40, 40), (40, 200, 40), (60, 60, 220)
    return picture


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """An MP4 of two such pictures whose track has this matrix."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv444p")
        stream.codec_context.options = {"crf": "4"}
        for _ in range(2):
            out.mux(stream.encode(VideoFrame.from_ndarray(corners(), format="rgb24")))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    unit = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(unit, data.index(b"tkhd"))
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def shown(path: Path) -> np.ndarray:
    """The first frame of a file as it is to be shown."""
    with VideoSource(path, upright=True) as source:
        return next(source.frames()).pixels


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_every_orientation_is_shown_in_every_output(
    tmp_path: Path, matrix: tuple[int, int, int, int], codec: Codec
) -> None:
    wanted = np.ascontiguousarray(ORIENTATIONS[matrix](corners()))
    source = turned(tmp_path / "in.mp4", matrix)
    assert_close(shown(source), wanted)
    coded = tmp_path / "a.mpt"
    mptvc.encode_file(source, coded, codec=codec, rate=mptvc.Rate(quality=6))
    with mptvc.VideoReader(coded, codec=codec) as reader:
        assert reader.shape[1:] == wanted.shape
        assert_close(reader[0], wanted)
    options = mptvc.OutputOptions(codec="ffv1")
    mptvc.decode_file(coded, tmp_path / "a.mkv", codec=codec, output=options)
    assert_close(shown(tmp_path / "a.mkv"), wanted)
    mptvc.decode_file(coded, tmp_path / "a.npy", codec=codec)
    assert_close(np.load(tmp_path / "a.npy")[0], wanted)


def test_outputs_that_cannot_say_it_are_turned_and_may_stay_as_stored(
    tmp_path: Path, codec: Codec, cli: Cli
) -> None:
    source = turned(tmp_path / "in.mp4", (0, 1, -1, 0))
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=codec)
    for target in ("a.y4m", "a.npy", "pictures"):
        for stored in (False, True):
            options = mptvc.OutputOptions(stored=stored)
            report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / target, output=options, force=True)
            size = (64, 48) if stored else (48, 64)
            assert (report.video.width, report.video.height) == size
            assert report.video.rotation == (270 if stored else 0)
    assert pixels_of(tmp_path / "a.y4m").shape == (2, 48, 64, 3)
    assert cli("decode", "a.mpt", "b.npy", "--weights", "tokenizer").code == 0
    assert cli("decode", "a.mpt", "c.npy", "--weights", "tokenizer", "--stored").code == 0
    assert np.array_equal(upright(np.load("c.npy"), 270), np.load("b.npy"))
    windows = [
        mptvc.VideoDataset([tmp_path / "a.mpt"], frames=2, weights="tokenizer", stored=stored)[0]
        for stored in (False, True)
    ]
    assert [tuple(window.shape) for window in windows] == [(2, 64, 48, 3), (2, 48, 64, 3)]
    with mptvc.VideoReader(tmp_path / "a.mpt", codec=codec, stored=True) as reader:
        assert np.array_equal(upright(reader[0], 270), windows[0][0].numpy())


def test_pixels_that_are_not_square_turn_too() -> None:
    stored = describe(corners()[None], rotation=90, pixel_aspect=Fraction(4, 3))
    shown = upright_info(stored)
    assert (shown.width, shown.height, shown.pixel_aspect, shown.rotation) == (48, 64, Fraction(3, 4), 0)


def test_comparison_sees_pictures_as_they_are_shown(tmp_path: Path) -> None:
    frames = np.stack([corners()] * 2)
    reference = write_video(tmp_path / "a.mp4", frames, LOSSLESS, rotation=90)
    write_video(tmp_path / "a.mkv", upright(frames, 90))
    assert compare_video(reference, tmp_path / "a.mkv").psnr_rgb == float("inf")


def test_info_says_how_a_picture_is_shown(tmp_path: Path, codec: Codec, cli: Cli) -> None:
    frames = np.stack([corners()] * 2)
    source = write_video(
        tmp_path / "a.mp4", frames, mptvc.OutputOptions(), rotation=90, pixel_aspect=Fraction(4, 3)
    )
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=codec)
    assert "turned by 90 degrees, pixels of 4:3" in cli("info", "a.mpt").out
