"""Video files in and out: every property that a file can carry, and every way it can be broken."""

import re
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from patterns import LOSSLESS, describe, moving, write_video

from mptvc.errors import MptError, VideoError
from mptvc.format.header import Colour, VideoInfo
from mptvc.video import cuts
from mptvc.video.cuts import detect_shots
from mptvc.video.frames import SourceFrame, SourceOutcome
from mptvc.video.sink import OutputOptions, VideoSink, output_format
from mptvc.video.source import VideoSource

Writer = Callable[..., Path]

#: Name of the target and options for each way to write that keeps one file.
LOSSY = {"mp4": OutputOptions(), "mkv": OutputOptions(), "y4m": OutputOptions()}
#: Kr and Kb of the H.273 matrices.
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}


def write(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "ffv1",
    pix_fmt: str = "bgr0",
    given: str = "rgb24",
    rate: Fraction = Fraction(25),
    container: str | None = None,
    times: list[int] | None = None,
    rotation: int = 0,
    **settings: object,
) -> Path:
    """Write frames with PyAV alone, so that reading is not tested against the code under test."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        planar = given == "yuv444p"
        stream.height, stream.width = frames.shape[-2:] if planar else frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, pixels in enumerate(frames):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=given)
            frame = frame.reformat(format=pix_fmt)
            frame.colorspace = stream.codec_context.colorspace
            frame.color_range = stream.codec_context.color_range
            frame.pts = index if times is None else times[index]
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def read(path: str | Path | BytesIO, **options: Any) -> tuple[SourceOutcome, list[SourceFrame]]:
    with VideoSource(path, **options) as source:
        frames = source.frames()
        found = list(frames)
        return frames.outcome(), found


def pixels_of(path: str | Path | BytesIO) -> np.ndarray:
    return np.stack([frame.pixels for frame in read(path, shot_threshold=None)[1]])


def put(path: Path | BytesIO, frames: np.ndarray, info: VideoInfo, options: OutputOptions) -> None:
    with VideoSink(path, info, options) as sink:
        sink.write(frames)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


#: Names that FFmpeg would take for protocols, patterns or options.
ODD_NAMES = [
    "a:b",
    "-a",
    "file:a",
    "pipe:1",
    "concat:a|b",
    "100%d",
    "50%",
    "%06d",
    "%%",
    "*?[a]{b}",
    "ü ☃",
    "a\nb",
]


# Reading


def test_source_yields_every_frame_with_size_rate_and_time(tmp_path: Path) -> None:
    frames = moving(9)
    path = write(tmp_path / "a.mkv", frames, rate=Fraction(20))
    outcome, found = read(path)
    assert (outcome.video.width, outcome.video.height, outcome.video.num_frames) == (64, 48, 9)
    assert outcome.video.frame_rate == 20
    assert [outcome.video.times[i] for i in range(9)] == [Fraction(i, 20) for i in range(9)]
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames)
    assert outcome.warnings == ()


def test_what_all_frames_tell_is_an_error_before_the_last(tmp_path: Path) -> None:
    with VideoSource(write(tmp_path / "a.mkv", moving(3))) as source:
        frames = source.frames()
        for _ in range(3):
            with pytest.raises(ValueError, match=r"a\.mkv: frames are left to read"):
                frames.outcome()
            next(frames)
        assert next(frames, None) is None
        assert frames.outcome().video.num_frames == 3


def test_frames_that_break_off_have_no_outcome(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoSource(path, strict=True) as source:
        frames = source.frames()
        with pytest.raises(VideoError, match="the source promises"):
            list(frames)
        with pytest.raises(ValueError, match="frames are left to read"):
            frames.outcome()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_what_a_file_says_of_itself_stays_an_estimate(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", moving(50), codec="libx264", pix_fmt="yuv420p")
    with VideoSource(path, start=0.4, duration=0.8) as source:
        assert source.info.expected_frames == 50
        frames = source.frames()
        assert len(list(frames)) == 20
        assert frames.outcome().video.num_frames == 20
        assert source.info.expected_frames == 50


@pytest.mark.parametrize("name", [*ODD_NAMES, b"\xff".decode(errors="surrogateescape")])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_name_is_that_of_a_file_whatever_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = moving(3)
    put(Path(f"{name}.mkv"), frames, describe(frames), LOSSLESS)
    assert names(tmp_path) == [f"{name}.mkv"]
    assert np.array_equal(pixels_of(kind(f"{name}.mkv")), frames)


@pytest.mark.parametrize("name", ["%03d.png", "p?1.png", "p*.png"])
def test_the_name_of_a_picture_is_no_pattern(tmp_path: Path, name: str) -> None:
    frames = moving(4)
    put(tmp_path / "p", frames, describe(frames), OutputOptions("png"))
    for number, picture in enumerate(sorted((tmp_path / "p").iterdir())):
        picture.rename(tmp_path / (f"{number:03}.png" if number < 2 else f"p{number}1.png"))
    (tmp_path / "p21.png").rename(tmp_path / name)
    assert np.array_equal(pixels_of(tmp_path / name), frames[2:3])


def test_source_reads_a_binary_file(tmp_path: Path) -> None:
    frames = moving(4)
    data = write(tmp_path / "a.mkv", frames).read_bytes()
    assert np.array_equal(pixels_of(BytesIO(data)), frames)


def test_fractional_rate_is_exact(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(40), rate=Fraction(30000, 1001))
    outcome, _ = read(path)
    assert outcome.video.frame_rate == Fraction(30000, 1001)
    assert tuple(outcome.video.time_steps) == ()


def test_colour_tags_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.mkv",
        moving(2),
        pix_fmt="yuv444p",
        color_primaries=9,
        color_trc=14,
        colorspace=9,
        color_range=1,
    )
    assert read(path)[0].video.colour == Colour(primaries=9, transfer=14, matrix=9, range=1)


def rgb_of(yuv: tuple[int, int, int], matrix: int, full: bool) -> np.ndarray:
    """BT.601 and BT.709 as the standards write them."""
    kr, kb = LUMA_WEIGHTS[matrix]
    y, cb, cr = yuv
    luma = y / 255 if full else (y - 16) / 219
    blue, red = ((c - 128) / (255 if full else 224) for c in (cb, cr))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return (np.array([r, g, b]).clip(0, 1) * 255).round()


def flat(yuv: tuple[int, int, int], height: int = 16, width: int = 16) -> np.ndarray:
    return np.broadcast_to(np.array(yuv, np.uint8)[None, :, None, None], (1, 3, height, width))


@pytest.mark.parametrize("colour", [(81, 90, 240), (120, 150, 70), (200, 110, 140), (16, 128, 128)])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [False, True])
def test_rgb_follows_the_matrix_and_range_that_the_stream_names(
    tmp_path: Path, colour: tuple[int, int, int], matrix: int, full: bool
) -> None:
    path = write(
        tmp_path / "a.mkv",
        flat(colour),
        pix_fmt="yuv444p",
        given="yuv444p",
        colorspace=matrix,
        color_range=2 if full else 1,
    )
    assert np.abs(pixels_of(path).astype(int) - rgb_of(colour, matrix, full)).max() <= 1.5


@pytest.mark.parametrize(("height", "matrix"), [(576, 6), (578, 1)])
def test_without_tags_the_matrix_follows_from_the_height(tmp_path: Path, height: int, matrix: int) -> None:
    colour = (100, 90, 200)
    path = write(tmp_path / "a.mkv", flat(colour, height), pix_fmt="yuv444p", given="yuv444p")
    assert np.abs(pixels_of(path).astype(int) - rgb_of(colour, matrix, full=False)).max() <= 1.5


def test_an_unknown_matrix_is_a_warning(tmp_path: Path) -> None:
    ycgco = 8
    path = write(tmp_path / "a.mkv", moving(1), pix_fmt="yuv444p", colorspace=ycgco)
    assert read(path)[0].warnings == ("the colour matrix 8 is unknown, the usual one is taken",)


def test_cut_is_found_at_its_exact_frame(tmp_path: Path) -> None:
    frames = moving(15)
    frames[7:] = 255 - frames[7:, :, ::-1] // 2
    path = write(tmp_path / "a.mkv", frames)
    assert [i for i, frame in enumerate(read(path)[1]) if frame.is_cut] == [0, 7]
    assert detect_shots(frames) == (7, 8)
    without = read(path, shot_threshold=None)[1]
    assert [i for i, frame in enumerate(without) if frame.is_cut] == [0]


def test_motion_is_no_cut() -> None:
    assert detect_shots(moving(12)) == (12,)


def test_the_cut_filter_is_never_asked_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV drops a Ctrl-C that comes while it raises "try again", which it would do once a frame."""
    answers: list[bool | None] = []
    real = cuts._next_result

    def ask(graph: av.filter.Graph) -> bool | None:
        answers.append(real(graph))
        return answers[-1]

    monkeypatch.setattr(cuts, "_next_result", ask)
    detect_shots(moving(12))
    assert len(answers) == 12
    assert None not in answers


@pytest.mark.parametrize("threshold", [-1.0, 100.5, float("nan")])
def test_a_threshold_out_of_range_is_a_value_error(tmp_path: Path, threshold: float) -> None:
    path = write(tmp_path / "a.mkv", moving(2))
    with pytest.raises(ValueError, match="0 to 100"):
        VideoSource(path, shot_threshold=threshold)
    with pytest.raises(ValueError, match="0 to 100"):
        detect_shots(moving(2), threshold)


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [(0.2, None, (5, 12)), (0, 0.2, (0, 5)), (0.12, 0.12, (3, 6)), (0.1, None, (3, 12)), (0.4, 99, (10, 12))],
)
def test_start_and_duration_choose_the_frames_shown_then(
    tmp_path: Path, start: float, duration: float | None, expected: tuple[int, int]
) -> None:
    frames = moving(12)
    outcome, found = read(write(tmp_path / "a.mkv", frames), start=start, duration=duration)
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames[slice(*expected)])
    assert outcome.video.num_frames == expected[1] - expected[0]
    assert found[0].is_cut


def test_start_is_met_by_a_time_stamp_rounded_to_milliseconds(tmp_path: Path) -> None:
    frames = moving(12)
    path = write(tmp_path / "a.mkv", frames, rate=Fraction(30000, 1001))
    _, found = read(path, start=4 * 1001 / 30000, duration=3 * 1001 / 30000)
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames[4:7])


def test_start_after_the_end_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(3))
    with pytest.raises(VideoError, match=r"a\.mkv: no frame could be decoded after 7 s"):
        read(path, start=7)


@pytest.mark.parametrize(("start", "duration"), [(-1.0, None), (0.0, 0.0), (float("nan"), None)])
def test_an_impossible_time_range_is_a_value_error(
    tmp_path: Path, start: float, duration: float | None
) -> None:
    path = write(tmp_path / "a.mkv", moving(2))
    with pytest.raises(ValueError, match="start is 0 or more"):
        VideoSource(path, start=start, duration=duration)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_uneven_times_become_time_steps(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 57, 157, 190, 440]
    path = write(
        tmp_path / f"a.{suffix}",
        moving(6),
        codec="libx264",
        pix_fmt="yuv420p",
        times=times,
        time_base=Fraction(1, 1000),
    )
    info = read(path)[0].video
    assert [t * info.time_base * 1000 for t in np.cumsum(info.time_steps).tolist()] == times
    assert info.frame_rate == Fraction(6, 440 + 40) * 1000


def test_a_missing_frame_at_a_coarse_time_base_is_uneven(tmp_path: Path) -> None:
    times = [0, 1, 3, 4, 5]
    path = write(tmp_path / "a.avi", moving(5), times=times)
    assert tuple(read(path)[0].video.time_steps) == (0, 1, 2, 1, 1)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_constant_rate_has_no_time_steps(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    path = write(tmp_path / f"a.{suffix}", moving(50, 16, 16), codec="libx264", pix_fmt="yuv420p", rate=rate)
    assert tuple(read(path)[0].video.time_steps) == ()


def test_times_that_start_later_start_at_zero(tmp_path: Path) -> None:
    times = [107, 111, 114, 115, 123]
    outcome, frames = read(write(tmp_path / "a.mkv", moving(5), times=times))
    assert len(frames) == 5
    shown = [float(outcome.video.times[i]) for i in range(5)]
    assert shown == pytest.approx([(t - 107) / 25 for t in times], abs=0.001)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50)])
@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "h264"), ("libx265", "hevc"), ("mpeg2video", "m2v")]
)
def test_frames_without_times_come_at_the_rate_of_the_stream(
    tmp_path: Path, codec: str, suffix: str, rate: Fraction
) -> None:
    """A raw stream says it inside, if at all."""
    settings = {"options": {"x265-params": "log-level=none"}} if codec == "libx265" else {}
    path = write(tmp_path / f"a.{suffix}", moving(6), codec=codec, pix_fmt="yuv420p", rate=rate, **settings)
    outcome, frames = read(path)
    assert len(frames) == 6
    assert tuple(outcome.video.time_steps) == ()
    assert outcome.video.frame_rate == rate
    assert outcome.video.times[5] == 5 / rate


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_read(tmp_path: Path, rotation: int) -> None:
    path = write(tmp_path / "a.mp4", moving(2), codec="libx264", pix_fmt="yuv420p", rotation=rotation)
    outcome, found = read(path)
    assert outcome.video.rotation == rotation
    assert found[0].pixels.shape == (48, 64, 3), "the pixels stay as they are stored"


def test_deep_video_needs_leave_to_be_rounded(tmp_path: Path) -> None:
    frames = moving(2)
    path = write(tmp_path / "a.mkv", frames, pix_fmt="gbrp10le")
    with pytest.raises(VideoError, match=r"10-bit video; force_8bit=True"):
        VideoSource(path)
    rounded = np.stack([frame.pixels for frame in read(path, force_8bit=True)[1]])
    assert np.abs(rounded.astype(int) - frames).max() <= 1


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.png", "png", "rgba"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.png", "png", "ya8"),
    ],
)
def test_alpha_is_composited_on_black_with_a_warning(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    half = np.full((1, 48, 64, 4), (200, 200, 200, 51), np.uint8)
    path = write(tmp_path / name, half, codec=codec, pix_fmt=pix_fmt, given="rgba")
    outcome, found = read(path)
    assert np.abs(found[0].pixels.astype(int) - 40).max() <= 1
    assert outcome.warnings == ("transparent pixels are composited on black",)
    with pytest.raises(VideoError, match="black; strict=True refuses"):
        read(path, strict=True)


def test_interlaced_video_is_a_warning(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.mpg",
        moving(4),
        codec="mpeg2video",
        pix_fmt="yuv420p",
        options={"flags": "+ildct+ilme"},
    )
    assert read(path)[0].warnings == (
        "interlaced video is coded as it is; deinterlace=True makes whole frames of it",
    )
    with pytest.raises(VideoError, match="interlaced"):
        read(path, strict=True)


def combing(frames: np.ndarray) -> float:
    """How much rows differ from the mean of the rows above and below."""
    pixels = frames.astype(np.float64)
    return float(np.abs(pixels[:, 1:-1] - (pixels[:, :-2] + pixels[:, 2:]) / 2).mean())


def test_deinterlacing_gives_whole_frames_at_the_same_times(tmp_path: Path) -> None:
    fields = np.stack([np.roll(frame, 4 * i, axis=1) for i, frame in enumerate(moving(24))])
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    path = write(
        tmp_path / "a.mkv",
        woven,
        codec="mpeg2video",
        pix_fmt="yuv420p",
        times=[i + (i > 3) for i in range(12)],
        bit_rate=4_000_000,
        options={"flags": "+ildct+ilme", "top": "1"},
    )
    plain, as_is = read(path)
    outcome, whole = read(path, deinterlace=True)
    assert outcome.warnings == ()
    assert outcome.video == plain.video
    assert [*outcome.video.time_steps] == [0, *(80 if i == 4 else 40 for i in range(1, 12))]
    combed, clean = (combing(np.stack([f.pixels for f in frames])) for frames in (as_is, whole))
    assert clean < 0.3 * combed


def test_deinterlacing_keeps_times_where_there_are_none(tmp_path: Path) -> None:
    """A raw stream says how long its frames are shown and no more."""
    coded = {"codec": "libx264", "pix_fmt": "yuv420p", "max_b_frames": 0, "container": "h264"}
    path = write(tmp_path / "a.h264", moving(5), **coded)
    assert read(path, deinterlace=True)[0].video == read(path)[0].video


def test_deinterlacing_hides_no_change_of_size(tmp_path: Path) -> None:
    both = b""
    for frames in (moving(4), moving(3, 32, 32)):
        coded = {"codec": "mpeg2video", "pix_fmt": "yuv420p", "max_b_frames": 0}
        path = write(tmp_path / "a.ts", frames, **coded, options={"flags": "+ildct+ilme"})
        both += path.read_bytes()
    path.write_bytes(both)
    plain, as_is = read(path, on_size_change="scale")
    outcome, whole = read(path, deinterlace=True, on_size_change="scale")
    assert len(whole) == len(as_is)
    assert outcome.warnings == plain.warnings[1:]  # but for that of interlaced pictures
    assert "is 32x32 after 64x48" in outcome.warnings[0]


def test_deinterlacing_leaves_whole_frames_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(5))
    assert np.array_equal(
        np.stack([frame.pixels for frame in read(path, deinterlace=True)[1]]), pixels_of(path)
    )


def test_a_title_that_is_no_utf8_does_not_matter(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        file.metadata["title"] = "abcdefgh"
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        file.mux(stream.encode(VideoFrame.from_ndarray(moving(1)[0], format="rgb24").reformat(format="bgr0")))
        file.mux(stream.encode(None))
    data = (tmp_path / "a.avi").read_bytes()
    assert data.count(b"abcdefgh") == 1
    (tmp_path / "a.avi").write_bytes(data.replace(b"abcdefgh", b"abc\xe9\xe8fgh"))
    assert np.array_equal(pixels_of(tmp_path / "a.avi"), moving(1))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"a\.wav: no video stream"):
        VideoSource(tmp_path / "a.wav")


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 40])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be read as video") as caught:
        VideoSource(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"a\.mp4: no such file"):
        VideoSource(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="the folder holds no \\.png"):
        VideoSource(tmp_path)


def test_unknown_codec_is_no_decodable_video(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(2))
    data = path.read_bytes()
    assert data.count(b"V_FFV1") == 1
    path.write_bytes(data.replace(b"V_FFV1", b"V_NONE"))
    with pytest.raises(VideoError, match="no decodable video stream"):
        VideoSource(path)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mxf"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.7])
def test_cut_video_is_an_error_or_a_warning(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"a.{suffix}", moving(60), codec="libx264", pix_fmt="yuv420p")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    try:
        outcome, found = read(path)
    except VideoError:
        return
    assert len(found) < 60
    assert outcome.warnings


def test_what_is_left_of_a_cut_video_is_read(tmp_path: Path) -> None:
    frames = moving(60)
    path = write(tmp_path / "a.mkv", frames)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    outcome, found = read(path)
    assert 20 < len(found) < 40
    assert np.array_equal(found[19].pixels, frames[19])
    assert "the source promises 2.40 s" in outcome.warnings[0]
    with pytest.raises(VideoError, match="strict=True refuses"):
        read(path, strict=True)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_video_never_raises_anything_else(tmp_path: Path, suffix: str, seed: int) -> None:
    path = write(tmp_path / f"a.{suffix}", moving(30), codec="libx264", pix_fmt="yuv420p")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    data[rng.integers(40, len(data), 12)] ^= rng.integers(1, 256, 12, dtype=np.uint8)
    path.write_bytes(data.tobytes())
    try:
        _, found = read(path)
    except VideoError:
        return
    assert all(frame.pixels.shape == (48, 64, 3) for frame in found)


def noisy(count: int) -> np.ndarray:
    noise = np.random.default_rng(4).normal(0, 12, (count, 96, 128, 3))
    return (moving(count, 96, 128) + noise).clip(0, 255).astype(np.uint8)


def test_frames_that_are_flagged_as_damaged_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", noisy(60), codec="libx264", pix_fmt="yuv420p")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    middle = slice(4 * len(data) // 10, 6 * len(data) // 10)
    data[middle][::200] ^= 0x5A
    path.write_bytes(data.tobytes())
    outcome, found = read(path)
    assert len(found) > 20
    assert any(re.search(r"[1-9]\d* frames are damaged in the source", w) for w in outcome.warnings)
    with pytest.raises(VideoError, match="strict=True refuses"):
        read(path, strict=True)


def test_what_is_left_of_a_cut_mp4_is_read(tmp_path: Path) -> None:
    """Its index is whole and in front, so the file says how much there was."""
    with av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for pixels in noisy(60):
            file.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    outcome, found = read(tmp_path / "a.mp4")
    assert 10 < len(found) < 50
    assert f"the source promises 60 frames, {len(found)} were decoded" in outcome.warnings


def test_stream_without_frames_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(3))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(VideoError, match=r"a\.mkv: cannot be read as video"):
        read(path)


def test_negative_times_start_at_zero(tmp_path: Path) -> None:
    frames = moving(9)
    with av.open(str(tmp_path / "a.mkv"), "w", options={"avoid_negative_ts": "disabled"}) as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for index, pixels in enumerate(frames):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts = index - 3
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mkv")) as file:
        first = next(file.decode(video=0))
        assert first.time is not None
        assert first.time < 0
    outcome, found = read(tmp_path / "a.mkv")
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames)
    assert [outcome.video.times[i] for i in range(9)] == [Fraction(i, 25) for i in range(9)]


def test_hdr_is_rounded_on_request_and_keeps_its_tags(tmp_path: Path) -> None:
    tags = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
    path = write(tmp_path / "a.mkv", moving(2), pix_fmt="yuv420p10le", **tags)
    with pytest.raises(VideoError, match="force_8bit=True"):
        read(path)
    outcome, found = read(path, force_8bit=True)
    assert outcome.video.colour == Colour(primaries=9, transfer=16, matrix=9, range=1)
    assert len(found) == 2


def test_change_of_size_names_the_frame(tmp_path: Path) -> None:
    raw = {"codec": "libx264", "pix_fmt": "yuv420p", "container": "h264", "max_b_frames": 0}
    first = write(tmp_path / "first.h264", moving(12), **raw)
    second = write(tmp_path / "second.h264", moving(5, 32, 32), **raw)
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(
        VideoError, match=r"frame 12 is 32x32 after 64x48; .* with duration=0\.480 and start=0\.480"
    ):
        read(both)
    for part, whole in (({"duration": 0.48}, first), ({"start": 0.48}, second)):
        outcome, found = read(both, **part)
        expected, wanted = read(whole)
        assert (outcome.video, outcome.warnings) == (expected.video, ())
        assert all(map(np.array_equal, (f.pixels for f in found), (f.pixels for f in wanted)))
    with pytest.raises(VideoError, match=r"with duration=0\.080 and start=0\.480"):
        read(both, start=0.4)
    outcome, found = read(both, on_size_change="scale")
    assert [frame.pixels.shape for frame in found] == [(48, 64, 3)] * 17
    assert len(outcome.warnings) == 1
    assert "frame 12 is 32x32 after 64x48, and scaled" in outcome.warnings[0]
    with pytest.raises(ValueError, match="on_size_change is stop, scale or split, found other"):
        read(both, on_size_change="other")


# Writing


@pytest.mark.parametrize("size", [(48, 64), (27, 35), (1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_files_keep_size_count_and_rate(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    frames = moving(5, *size)
    path = tmp_path / f"a.{suffix}"
    put(path, frames, describe(frames, Fraction(24000, 1001)), LOSSY[suffix])
    outcome, found = read(path)
    assert (outcome.video.height, outcome.video.width, outcome.video.num_frames) == (*size, 5)
    assert outcome.video.frame_rate == Fraction(24000, 1001)
    assert np.abs(np.stack([frame.pixels for frame in found]).astype(int) - frames).mean() < 3
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("size", [(48, 64), (27, 35), (1, 1), (2, 2)])
def test_ffv1_is_lossless(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    put(tmp_path / "a.mkv", frames, describe(frames), LOSSLESS)
    assert np.array_equal(pixels_of(tmp_path / "a.mkv"), frames)


@pytest.mark.parametrize("size", [(27, 35), (1, 1), (2, 2)])
def test_png_folder_holds_one_lossless_picture_a_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    put(tmp_path / "pictures", frames, describe(frames), OutputOptions())
    assert names(tmp_path / "pictures") == [f"frame_{i:06}.png" for i in (1, 2, 3)]
    for index, name in enumerate(names(tmp_path / "pictures")):
        assert np.array_equal(pixels_of(tmp_path / "pictures" / name)[0], frames[index])
    assert names(tmp_path) == ["pictures"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_of_pictures_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = moving(2)
    Path(name).mkdir()
    put(Path(name, name), frames, describe(frames), OutputOptions("png"))
    assert names(tmp_path) == names(tmp_path / name) == [name]
    for index in (0, 1):
        picture = Path(name, name, f"frame_00000{index + 1}.png")
        assert np.array_equal(pixels_of(picture), frames[index : index + 1])


def test_npy_holds_the_frames(tmp_path: Path) -> None:
    frames = moving(6, 27, 35)
    with VideoSink(tmp_path / "a.npy", describe(frames), OutputOptions()) as sink:
        sink.write(frames[:4])
        sink.write(frames[4:])
    assert np.array_equal(np.load(tmp_path / "a.npy"), frames)
    assert names(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("kind", ["y4m", "mkv"])
def test_binary_files_take_y4m_and_mkv(kind: str) -> None:
    frames, out = moving(5), BytesIO()
    put(out, frames, describe(frames), OutputOptions(kind))
    assert np.abs(pixels_of(BytesIO(out.getvalue())).astype(int) - frames).mean() < 3


@pytest.mark.parametrize("kind", ["mp4", "png", "npy", None])
def test_binary_files_refuse_other_formats(kind: str | None) -> None:
    with pytest.raises(ValueError, match='standard output needs format="y4m" or format="mkv"'):
        VideoSink(BytesIO(), describe(moving(1)), OutputOptions(kind))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("colour", [Colour(1, 1, 1, 1), Colour(6, 6, 6, 2), Colour(9, 14, 9, 1), Colour()])
def test_colour_tags_survive_and_fit_the_pixels(tmp_path: Path, suffix: str, colour: Colour) -> None:
    frames = np.full((3, 32, 32, 3), (200, 60, 90), np.uint8)
    path = tmp_path / f"a.{suffix}"
    put(path, frames, describe(frames, colour=colour), OutputOptions())
    outcome, found = read(path)
    assert outcome.video.colour == colour
    assert np.abs(np.stack([frame.pixels for frame in found]).astype(int) - frames).max() <= 3


@pytest.mark.parametrize("colour", [Colour(1, 1, 1, 1), Colour(1, 1, 1, 2), Colour(6, 6, 6, 2)])
def test_y4m_keeps_colours_though_it_names_no_matrix(tmp_path: Path, colour: Colour) -> None:
    frames = np.full((2, 32, 32, 3), (230, 40, 30), np.uint8)
    put(tmp_path / "a.y4m", frames, describe(frames, colour=colour), OutputOptions())
    assert np.abs(pixels_of(tmp_path / "a.y4m").astype(int) - frames).max() <= 2
    assert read(tmp_path / "a.y4m")[0].video.colour.range == colour.range


@pytest.mark.parametrize("matrix", [0, 8, 14])
def test_yuv_is_not_tagged_with_a_matrix_that_was_not_used(tmp_path: Path, matrix: int) -> None:
    frames = moving(2)
    put(tmp_path / "a.mp4", frames, describe(frames, colour=Colour(1, 1, matrix, 1)), OutputOptions())
    assert read(tmp_path / "a.mp4")[0].video.colour == Colour(1, 1, 2, 1)


def test_ffv1_keeps_primaries_and_transfer(tmp_path: Path) -> None:
    frames = moving(2)
    put(tmp_path / "a.mkv", frames, describe(frames, colour=Colour(9, 16, 9, 1)), LOSSLESS)
    colour = read(tmp_path / "a.mkv")[0].video.colour
    assert (colour.primaries, colour.transfer) == (9, 16)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixel_aspect_survives(tmp_path: Path, suffix: str) -> None:
    frames, path = moving(2), tmp_path / f"a.{suffix}"
    put(path, frames, describe(frames, pixel_aspect=Fraction(16, 11)), OutputOptions())
    assert read(path)[0].video.pixel_aspect == Fraction(16, 11)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_survives(tmp_path: Path, suffix: str, rotation: int) -> None:
    frames, path = moving(2), tmp_path / f"a.{suffix}"
    put(path, frames, describe(frames, rotation=rotation), OutputOptions())
    assert read(path)[0].video.rotation == rotation


@pytest.mark.parametrize(("suffix", "options"), [("mp4", OutputOptions()), ("mkv", LOSSLESS)])
def test_uneven_times_survive(tmp_path: Path, suffix: str, options: OutputOptions) -> None:
    frames, path = moving(6), tmp_path / f"a.{suffix}"
    steps = (0, 40, 17, 100, 33, 250)
    info = describe(frames, time_base=Fraction(1, 1000), time_steps=steps)
    put(path, frames, info, options)
    found = read(path)[0].video
    assert tuple(step * found.time_base * 1000 for step in found.time_steps) == steps


@pytest.mark.parametrize(("suffix", "options"), [("mp4", OutputOptions()), ("mkv", LOSSLESS)])
def test_equal_times_move_apart_by_the_smallest_step(
    tmp_path: Path, suffix: str, options: OutputOptions
) -> None:
    frames, path = moving(5), tmp_path / f"a.{suffix}"
    info = describe(frames, time_base=Fraction(1, 1000), time_steps=(0, 40, 0, 0, 50))
    put(path, frames, info, options)
    found = read(path)[0].video
    assert tuple(step * found.time_base * 1000 for step in found.time_steps) == (0, 40, 1, 1, 48)


def test_y4m_shows_uneven_times_at_the_mean_rate(tmp_path: Path) -> None:
    frames = moving(4)
    info = describe(frames, time_base=Fraction(1, 1000), time_steps=(0, 1, 1, 200))
    put(tmp_path / "a.y4m", frames, info, OutputOptions())
    found = read(tmp_path / "a.y4m")[0].video
    assert (found.num_frames, found.frame_rate, tuple(found.time_steps)) == (4, 25, ())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.npy", "pictures"])
def test_existing_target_is_refused_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(MptError, match=f"{name} (exists; force=True|is no folder)"):
        VideoSink(tmp_path / name, describe(moving(1)), OutputOptions())
    assert (tmp_path / name).read_text() == "mine"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.npy"])
def test_existing_target_is_replaced_with_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("old")
    frames = moving(2)
    with VideoSink(tmp_path / name, describe(frames), OutputOptions(), force=True) as sink:
        sink.write(frames)
        assert (tmp_path / name).read_text() == "old", "the old file stays until the new one is complete"
    assert (tmp_path / name).stat().st_size > 100
    assert names(tmp_path) == [name]


def test_existing_folder_of_pictures_is_replaced_with_force(tmp_path: Path) -> None:
    frames = moving(5)
    put(tmp_path / "pictures", frames, describe(frames), OutputOptions())
    with VideoSink(tmp_path / "pictures", describe(frames[:2]), OutputOptions(), force=True) as sink:
        sink.write(frames[:2])
    assert names(tmp_path / "pictures") == ["frame_000001.png", "frame_000002.png"]
    assert names(tmp_path) == ["pictures"]


def test_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    frames = moving(2)
    sink = VideoSink(tmp_path / "a.mp4", describe(frames), OutputOptions())
    with sink:
        sink.write(frames)
        (tmp_path / "a.mp4").write_text("mine")
        with pytest.raises(MptError, match="exists"):
            sink.commit()
        (tmp_path / "a.mp4").rename(tmp_path / "moved.mp4")
    assert (tmp_path / "moved.mp4").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.mp4", "pictures"])
def test_folders_and_files_never_replace_each_other(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    if name == "pictures":
        target.write_text("mine")
    else:
        target.mkdir()
    with pytest.raises(MptError, match=f"{name} is (a|no) folder"):
        VideoSink(target, describe(moving(1)), OutputOptions(), force=True)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "force"),
    [
        *((name, force) for name in ("a.mp4", "a.mkv", "a.y4m", "a.npy") for force in (False, True)),
        ("pictures", False),
    ],
)
def test_failure_inside_the_block_leaves_nothing(tmp_path: Path, name: str, force: bool) -> None:
    def fail() -> None:
        with VideoSink(tmp_path / name, describe(moving(3)), OutputOptions(), force=force) as sink:
            sink.write(moving(3))
            raise RuntimeError("broken")

    if force:
        (tmp_path / name).write_text("old")
    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert names(tmp_path) == ([name] if force else [])
    assert not force or (tmp_path / name).read_text() == "old"


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", describe(moving(2)), OutputOptions())
    with pytest.raises(ValueError, match="another size"), sink:
        sink.write(moving(2, 40, 64))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("a.MP4", OutputOptions(), "mp4"),
        ("a.mov", OutputOptions(), "mp4"),
        ("pictures", OutputOptions(), "png"),
        ("a.mkv", OutputOptions("y4m"), "y4m"),
        ("-", OutputOptions("y4m"), "y4m"),
    ],
)
def test_format_follows_from_option_or_name(name: str, options: OutputOptions, kind: str) -> None:
    assert output_format(name, options) == kind


def test_unknown_suffix_and_format_are_value_errors(tmp_path: Path) -> None:
    info = describe(moving(1))
    with pytest.raises(ValueError, match=r"cannot tell the format from \.xyz: name it with format="):
        VideoSink(tmp_path / "a.xyz", info, OutputOptions())
    with pytest.raises(ValueError, match="format is one of mp4, mkv, y4m, png, npy; found avi"):
        VideoSink(tmp_path / "a.mp4", info, OutputOptions("avi"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("codec", ["nonsense", "aac", "srt"])
def test_what_is_no_video_codec_is_refused(tmp_path: Path, codec: str) -> None:
    with pytest.raises(VideoError, match=f"{codec} is no video codec"):
        VideoSink(tmp_path / "a.mp4", describe(moving(1)), OutputOptions(codec=codec))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [OutputOptions(pix_fmt="nonsense"), OutputOptions(pix_fmt="rgb24"), OutputOptions(crf=-5)],
)
def test_what_a_codec_refuses_is_a_video_error(tmp_path: Path, options: OutputOptions) -> None:
    frames = moving(1)
    with pytest.raises(VideoError, match=r"cannot write .*a\.mp4: ") as caught:
        put(tmp_path / "a.mp4", frames, describe(frames), options)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_rate": Fraction(2**32 - 1)},
        {"pixel_aspect": Fraction(2**32 - 1, 2**32 - 2)},
        {"time_base": Fraction(1, 2**32 - 1), "time_steps": (0, 2**32 - 1)},
    ],
)
def test_numbers_beyond_a_container_are_a_video_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    frames = moving(2)
    with pytest.raises(VideoError, match="cannot write"):
        put(tmp_path / "a.mp4", frames, describe(frames, **changes), OutputOptions())
    assert names(tmp_path) == []


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MptError, match="nowhere is not a folder"):
        VideoSink(tmp_path / "nowhere" / "a.mp4", describe(moving(1)), OutputOptions())


@pytest.mark.parametrize("size", [(2, 2), (4, 2)])
def test_pictures_too_small_to_deinterlace_stay_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, *size[::-1], 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames)
    with VideoSource(tmp_path / "a.mkv", deinterlace=True) as source:
        assert np.array_equal(np.stack([frame.pixels for frame in source.frames()]), frames)


def test_video_that_turns_10_bit_on_its_way_is_refused(tmp_path: Path) -> None:
    """Two transport streams, one after the other in one file."""
    parts = []
    for pix_fmt in ("yuv420p", "yuv420p10le"):
        with av.open(tmp_path / f"{pix_fmt}.ts", "w") as out:
            stream = out.add_stream("libx264", rate=25, width=64, height=64, pix_fmt=pix_fmt)
            for index in range(10):
                frame = VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * index, np.uint8), format="rgb24")
                frame.pts = index
                out.mux(stream.encode(frame.reformat(format=pix_fmt)))
            out.mux(stream.encode(None))
        parts.append((tmp_path / f"{pix_fmt}.ts").read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with VideoSource(tmp_path / "both.ts") as source, pytest.raises(VideoError, match="10-bit video"):
        list(source.frames())
