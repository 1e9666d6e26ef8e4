"""The picture that is meant: which stream of several, and what of it is transparent."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.stream import Disposition
from av.video.frame import VideoFrame
from command_line import Cli
from patterns import moving

import mptvc
from mptvc.errors import VideoError
from mptvc.video.frames import SourceOutcome
from mptvc.video.source import VideoSource

PICTURE = Disposition.attached_pic


def write(path: Path, *streams: tuple[str, int, int, Disposition], sound: bool = False) -> Path:
    """Videos of four frames beside each other, of one for pictures: codec, width, height, disposition."""
    with av.open(path, "w", format="mp4" if path.suffix == ".m4a" else None) as out:
        made = []
        for codec, width, height, disposition in streams:
            pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream = out.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pix_fmt)
            stream.disposition = disposition
            made.append(stream)
        voice = out.add_stream("aac", rate=48000, layout="mono") if sound else None
        for stream in made:
            frames = 1 if stream.disposition & PICTURE else 4
            for pixels in moving(frames, stream.height, stream.width):
                out.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode(None))
        if voice is not None:
            frame = AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            out.mux(voice.encode(frame))
            out.mux(voice.encode(None))
    return path


def read(path: Path, **options: object) -> tuple[SourceOutcome, np.ndarray]:
    with VideoSource(path, shot_threshold=None, **options) as source:
        frames = source.frames()
        pixels = np.stack([frame.pixels for frame in frames])
        return frames.outcome(), pixels


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_picture_is_not_the_film(tmp_path: Path, first: bool) -> None:
    streams = [("mjpeg", 96, 96, PICTURE), ("libx264", 64, 48, Disposition(0))]
    path = write(tmp_path / "a.mp4", *(streams if first else streams[::-1]))
    outcome, found = read(path, strict=True)
    assert found.shape == (4, 48, 64, 3)
    assert outcome.warnings == ()
    with av.open(path) as file:
        (cover,) = (s.index for s in file.streams.video if s.disposition & PICTURE)
    assert read(path, stream=cover)[1].shape == (1, 96, 96, 3)


def test_sound_with_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", ("mjpeg", 64, 48, PICTURE), sound=True)
    with pytest.raises(VideoError, match=r"a\.m4a: no video stream but a picture; stream=\d takes it"):
        VideoSource(path)


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        (Disposition(0), Disposition.default, 1),
        (Disposition.default, Disposition(0), 0),
        (Disposition.default, Disposition.default, 1),  # then the larger one
    ],
)
def test_of_several_streams_the_default_one_is_taken_and_named(
    tmp_path: Path, first: Disposition, second: Disposition, taken: int
) -> None:
    path = write(tmp_path / "a.mkv", ("libx264", 32, 32, first), ("mpeg4", 64, 48, second))
    outcome, found = read(path)
    assert found.shape[1:] == ((32, 32, 3), (48, 64, 3))[taken]
    assert outcome.warnings == (
        f"stream {taken} is taken of 0 (h264 32x32), 1 (mpeg4 64x48); stream={taken} says so",
    )
    with pytest.raises(VideoError, match="strict=True refuses"):
        read(path, strict=True)
    for number, shape in enumerate(((32, 32, 3), (48, 64, 3))):
        outcome, found = read(path, stream=number, strict=True)
        assert found.shape[1:] == shape


def test_the_number_of_no_video_stream_is_a_value_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", ("libx264", 32, 32, Disposition(0)), sound=True)
    with pytest.raises(ValueError, match=r"stream=1 is no video stream; there are 0 \(h264 32x32\)"):
        VideoSource(path, stream=1)


def see_through(path: Path, codec: str, pix_fmt: str, alpha: int) -> Path:
    """Two grey frames whose left half lets through what ``alpha`` says."""
    pixels = np.full((48, 64, 4), (200, 200, 200, 255), np.uint8)
    pixels[:, :32, 3] = alpha
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, width=64, height=48, pix_fmt=pix_fmt)
        if codec == "libvpx":
            stream.codec_context.options = {"auto-alt-ref": "0"}
        for pts in range(2):
            if pix_fmt == "pal8":
                palette = np.zeros((256, 4), np.uint8)
                palette[:2] = (alpha, 200, 200, 200), (255, 200, 200, 200)
                indexes = np.repeat(np.arange(2, dtype=np.uint8), 32) + np.zeros((48, 1), np.uint8)
                frame = VideoFrame.from_ndarray((indexes, palette), format="pal8")
            else:
                frame = VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt)
            frame.pts = pts
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("alpha", [0, 255])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx", "yuva420p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.mkv", "ffv1", "yuva444p"),
        ("a.mov", "qtrle", "argb"),
        ("a.apng", "apng", "rgba"),
        ("a.gif", "gif", "pal8"),
        ("a.avi", "rawvideo", "rgba"),
    ],
)
def test_what_is_transparent_shows_black_with_a_warning_and_only_that(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, alpha: int
) -> None:
    path = see_through(tmp_path / name, codec, pix_fmt, alpha)
    outcome, found = read(path)
    assert np.abs(found[:, :, 2:30].astype(int) - (200 if alpha else 0)).max() <= 4
    assert np.abs(found[:, :, 34:].astype(int) - 200).max() <= 4
    assert outcome.warnings == (() if alpha else ("transparent pixels are composited on black",))
    if not alpha:
        with pytest.raises(VideoError, match="black; strict=True refuses"):
            read(path, strict=True)


def test_the_command_takes_a_stream_by_number(tmp_path: Path, cli: Cli) -> None:
    none = Disposition(0)
    path = write(tmp_path / "in.mkv", ("libx264", 32, 32, none), ("mpeg4", 64, 48, none))
    options = ("--weights", "tokenizer", "-f")
    chosen = cli("encode", path, "a.mpt", *options)
    assert (chosen.code, chosen.err.count("--stream 1 says so")) == (0, 1)
    assert mptvc.probe(tmp_path / "a.mpt").header.video.width == 64
    assert cli("encode", path, "a.mpt", *options, "--stream", 0, "--strict").code == 0
    assert mptvc.probe(tmp_path / "a.mpt").header.video.width == 32
    assert "--stream 5 is no video stream" in cli("encode", path, "a.mpt", *options, "--stream", 5).err
