"""Titles, chapters, fonts and text subtitles go through a file, or are named where the output has none."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.sections import FileView
from mptvc.video.sound import SidePlayer
from mptvc.video.source import VideoSource

CHAPTERS = [("One", 0.0, 0.4), ("Two", 0.4, 1.0)]
FONT = b"no real font" * 9


def make_film(path: Path, text: str | None = None, *, font: bool = False, data: bool = False) -> Path:
    """A second of 32x32 video with a title, two chapters and what is asked for."""
    with av.open(path, "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p")
        lines = None if text is None else out.add_mux_stream(text)
        if font:
            out.add_attachment("font.ttf", "font/ttf", FONT)
        more = out.add_data_stream("klv") if data else None
        out.metadata["title"] = "My film"
        out.set_chapters(
            [
                {
                    "id": n,
                    "start": round(1000 * start),
                    "end": round(1000 * end),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for n, (title, start, end) in enumerate(CHAPTERS, start=1)
            ]
        )
        out.start_encoding()
        for stream, content in ((lines, text and written(text)), (more, b"klv")):
            if stream is not None and content:
                packet = av.Packet(content)
                packet.time_base, packet.stream = Fraction(1, 1000), stream
                packet.pts = packet.dts = 200
                packet.duration = 400
                out.mux(packet)
        for i in range(25):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8), format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def written(kind: str) -> bytes:
    """The line "hello" as a codec holds it."""
    return {"mov_text": b"\0\5hello", "subrip": b"hello", "webvtt": b"hello", "ass": b"0,0,,,0,0,0,,hello"}[
        kind
    ]


def chapters_of(path: Path) -> list[tuple[str, float, float]]:
    with av.open(path) as file:
        return [
            (c["metadata"]["title"], float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
            for c in file.chapters()
        ]


def lines_of(path: Path) -> tuple[str, list[tuple[float, float, str]]]:
    """The codec of a file's subtitles, and when each line starts, how long it is shown and what it says."""
    with av.open(path) as file:
        stream = file.streams.subtitles[0]
        lines = [
            (float(p.pts * p.time_base), float(p.duration * p.time_base), line.dialogue.decode())
            for p in file.demux(stream)
            if p.size
            for line in stream.decode(p)
        ]
        return stream.codec_context.codec.canonical_name, lines


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
@pytest.mark.parametrize("given", ["in.mkv", "in.mp4"])
def test_title_and_chapters_come_back_without_any_sound(
    tmp_path: Path, small_codec: Codec, given: str, target: str
) -> None:
    report = mptvc.encode_file(make_film(tmp_path / given), tmp_path / "a.mpt", codec=small_codec)
    assert report.warnings == ()
    assert mptvc.decode_file(tmp_path / "a.mpt", tmp_path / target, codec=small_codec).warnings == ()
    assert chapters_of(tmp_path / target) == CHAPTERS
    with av.open(tmp_path / target) as out:
        assert out.metadata["title"] == "My film"


def test_parts_keep_their_part_of_the_chapters(tmp_path: Path, small_codec: Codec) -> None:
    source, coded = make_film(tmp_path / "in.mkv", "subrip"), tmp_path / "a.mpt"
    mptvc.encode_file(source, coded, codec=small_codec, start=0.2, duration=0.6)
    mptvc.decode_file(coded, tmp_path / "out.mkv", codec=small_codec)
    assert chapters_of(tmp_path / "out.mkv") == [("One", 0.0, 0.2), ("Two", 0.2, 0.6)]
    mptvc.decode_file(coded, tmp_path / "end.mkv", codec=small_codec, start=0.4)
    assert chapters_of(tmp_path / "end.mkv") == [("Two", 0.0, 0.2)]


@pytest.mark.parametrize(
    ("given", "kind", "target", "held", "converted"),
    [
        ("in.mp4", "mov_text", "out.mkv", "ass", ("the subtitle stream 1 (mov_text) is kept as ass",)),
        ("in.mp4", "mov_text", "out.mp4", "mov_text", ("the subtitle stream 1 (mov_text) is kept as ass",)),
        ("in.mkv", "subrip", "out.mp4", "mov_text", ()),
        ("in.mkv", "webvtt", "out.mkv", "webvtt", ()),
        ("in.mkv", "webvtt", "out.mp4", "mov_text", ()),
        ("in.mkv", "ass", "out.mkv", "ass", ()),
    ],
)
def test_lines_of_text_are_kept_as_the_output_holds_them(
    tmp_path: Path, small_codec: Codec, given: str, kind: str, target: str, held: str, converted: object
) -> None:
    source = make_film(tmp_path / given, kind)
    assert mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec).warnings == converted
    report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / target, codec=small_codec)
    assert lines_of(tmp_path / target) == (held, [(0.2, 0.4, "hello")])
    assert len(report.warnings) == (held == "mov_text")


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
@pytest.mark.parametrize("first", ["encode", "decode"])
def test_a_line_that_is_shown_when_a_part_starts_starts_with_it(
    tmp_path: Path, small_codec: Codec, first: str, target: str
) -> None:
    """And the picture does not wait for it."""
    source, coded, out = make_film(tmp_path / "in.mkv", "subrip"), tmp_path / "a.mpt", tmp_path / target
    start = {"encode": 0.36 if first == "encode" else 0.0, "decode": 0.36 if first == "decode" else 0.0}
    mptvc.encode_file(source, coded, codec=small_codec, start=start["encode"])
    mptvc.decode_file(coded, out, codec=small_codec, start=start["decode"])
    assert lines_of(out)[1] == [(0.0, pytest.approx(0.24), "hello")]
    with av.open(out) as made:
        assert next(made.decode(video=0)).time == 0


def test_fonts_are_kept_in_mkv_and_named_in_mp4(tmp_path: Path, small_codec: Codec) -> None:
    source = make_film(tmp_path / "in.mkv", "subrip", font=True)
    assert mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec).warnings == ()
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    with av.open(tmp_path / "out.mkv") as out:
        (font,) = out.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("font.ttf", "font/ttf", FONT)
    report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=small_codec)
    assert "the attached file font.ttf is left out: mp4 holds none" in report.warnings


def test_streams_of_data_are_named(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.ts", data=True)
    with VideoSource(source, sound=True) as video:
        frames = video.frames()
        assert len(list(frames)) == 25
        assert frames.outcome().warnings == ("the data stream 1 (klv) is left out",)


def test_formats_without_chapters_say_so(tmp_path: Path, small_codec: Codec) -> None:
    mptvc.encode_file(make_film(tmp_path / "in.mkv"), tmp_path / "a.mpt", codec=small_codec)
    report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.y4m", codec=small_codec)
    assert report.warnings == ("y4m holds no titles or chapters: those of the video are left out",)


def test_a_forged_side_section_is_a_clear_error() -> None:
    data = b";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/0\nSTART=9\nEND=x\n"
    try:
        player = SidePlayer(FileView(BytesIO(data), 0, len(data)), 0, Fraction(0), None, trimmed=False)
    except mptvc.VideoError:
        return
    with player:
        assert player.contents == "titles or chapters"
