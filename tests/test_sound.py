"""Sound and subtitles go through a file as they are, in time with the pictures."""

import subprocess
import sys
import tracemalloc
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from patterns import RATE, make_source

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.sections import FileView
from mptvc.video.packets import EXPERIMENTAL
from mptvc.video.sound import SidePlayer
from mptvc.video.source import VideoSource

MILLISECOND = Fraction(1, 1000)
Packets = list[tuple[Fraction, bytes]]


def sound_of(path: Path, index: int = 0) -> Packets:
    """Times and bytes of a stream's packets, times from the first frame."""
    with av.open(path) as source:
        picture = source.streams.video[0]
        first = next(source.decode(picture))
        origin = first.pts * first.time_base
    with av.open(path) as source:
        stream = source.streams.audio[index]
        return [(p.pts * p.time_base - origin, bytes(p)) for p in source.demux(stream) if p.size]


def assert_same(ours: Packets, theirs: Packets, tolerance: Fraction) -> None:
    assert [data for _, data in ours] == [data for _, data in theirs]
    assert max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)) <= tolerance


@pytest.mark.parametrize(
    ("source", "codec_name", "target", "tolerance"),
    [
        ("in.mp4", "aac", "out.mp4", Fraction(1, RATE)),
        ("in.mp4", "aac", "out.mkv", MILLISECOND),
        ("in.mkv", "flac", "out.mkv", MILLISECOND),
        ("in.mkv", "mp3", "out.mp4", MILLISECOND),
        ("in.mkv", "libopus", "out.mkv", MILLISECOND),
        ("in.mkv", "pcm_s16le", "out.mkv", MILLISECOND),
        ("in.mkv", "pcm_s16le", "out.mp4", MILLISECOND),
        ("in.mp4", "ac3", "out.mp4", MILLISECOND),
        ("in.mkv", "eac3", "out.mp4", MILLISECOND),
        ("in.mov", "pcm_mulaw", "out.mkv", MILLISECOND),
        ("in.wmv", "adpcm_ms", "out.mkv", MILLISECOND),
        ("in.mp4", "alac", "out.mp4", MILLISECOND),
        ("in.mkv", "flac", "out.mp4", MILLISECOND),
        ("in.mkv", "libopus", "out.mp4", MILLISECOND),
    ],
)
def test_packets_come_back_as_they_were_and_in_time(
    tmp_path: Path, small_codec: Codec, source: str, codec_name: str, target: str, tolerance: Fraction
) -> None:
    given = make_source(tmp_path / source, (codec_name,))
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / target, codec=small_codec)
    assert report.warnings == ()
    assert_same(sound_of(tmp_path / target), sound_of(given), tolerance)


def test_mpeg_sound_of_one_size_comes_back(tmp_path: Path) -> None:
    """NUT loses packets that are as large as AVI says all of them are; at 44100 a second some are."""
    section, _, lead_s = side_of(make_source(tmp_path / "in.avi", ("mp2",), rate=44100))
    target = played(section, lead_s, tmp_path / "out.mkv")
    assert [data for _, data in sound_of(target)] == [data for _, data in sound_of(tmp_path / "in.avi")]


@pytest.mark.parametrize("name", ["aac", "mp3"])  # kept in NUT, and in Matroska
def test_a_source_gives_the_same_bytes_twice(tmp_path: Path, small_codec: Codec, name: str) -> None:
    source = make_source(tmp_path / "in.mkv", (name,), frames=10)
    for target in ("a.mpt", "b.mpt"):
        report = mptvc.encode_file(source, tmp_path / target, codec=small_codec)
        assert report.header.side is not None
    assert (tmp_path / "a.mpt").read_bytes() == (tmp_path / "b.mpt").read_bytes()


def test_all_sound_streams_are_kept(tmp_path: Path, small_codec: Codec) -> None:
    given = make_source(tmp_path / "in.mkv", ("aac", "flac"))
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    for index in (0, 1):
        assert_same(sound_of(tmp_path / "out.mkv", index), sound_of(given, index), MILLISECOND)


@pytest.mark.parametrize("late", [0.3, 1.25])
def test_sound_that_starts_late_stays_late(tmp_path: Path, small_codec: Codec, late: float) -> None:
    given = make_source(tmp_path / "in.mkv", ("flac",), late=late)
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    ours = sound_of(tmp_path / "out.mkv")
    assert_same(ours, sound_of(given), MILLISECOND)
    assert ours[0][0] == pytest.approx(late, abs=0.001)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_sound_before_the_first_picture_is_heard(tmp_path: Path, small_codec: Codec, kind: str) -> None:
    source = make_source(tmp_path / "in.mkv", ("mp3",), late=-0.7, frames=30)
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec)
    out = tmp_path / f"out.{kind}"
    mptvc.decode_file(tmp_path / "a.mpt", out, codec=small_codec)
    assert_same(sound_of(out), sound_of(source), 2 * MILLISECOND)
    with av.open(out) as made:
        assert not any(packet.is_discard for packet in made.demux(audio=0))
    with VideoSource(out, sound=True, strict=True) as again:
        frames = again.frames()
        assert sum(1 for _ in frames) == 30
        assert float(frames.outcome().video.times.end) == pytest.approx(1.2)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_sound_that_an_edit_list_cuts_off_stays_so(tmp_path: Path, small_codec: Codec, kind: str) -> None:
    source = make_source(tmp_path / "in.mp4", ("aac",), late=-0.7, frames=30)
    mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / f"out.{kind}", codec=small_codec)
    sound = sound_of(tmp_path / f"out.{kind}")
    assert -0.1 < sound[0][0] < 0  # what a decoder needs to start
    assert_same(sound, sound_of(source)[-len(sound) :], MILLISECOND)


def test_excerpt_of_the_source_takes_its_part_of_the_sound(tmp_path: Path, small_codec: Codec) -> None:
    given = make_source(tmp_path / "in.mp4")
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec, start=0.52, duration=0.8)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=small_codec)
    assert_excerpt(sound_of(tmp_path / "out.mp4"), sound_of(given), Fraction(13, 25), Fraction(33, 25))


def test_excerpt_of_the_file_takes_its_part_of_the_sound(tmp_path: Path, small_codec: Codec) -> None:
    given = make_source(tmp_path / "in.mp4")
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=small_codec, start=0.52, duration=0.8)
    assert_excerpt(sound_of(tmp_path / "out.mp4"), sound_of(given), Fraction(13, 25), Fraction(33, 25))


def assert_excerpt(ours: Packets, theirs: Packets, start: Fraction, end: Fraction) -> None:
    frame = Fraction(1024, RATE)
    expected = [(at - start, data) for at, data in theirs if at + frame > start and at < end]
    assert_same(ours, expected, MILLISECOND)
    assert ours[0][0] <= 0
    assert ours[-1][0] + frame >= end - start


def test_preview_has_its_sound(tmp_path: Path, small_codec: Codec) -> None:
    given = make_source(tmp_path / "in.mp4")
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.truncate(tmp_path / "a.mpt", tmp_path / "preview.mpt", levels=1)
    mptvc.decode_file(tmp_path / "preview.mpt", tmp_path / "out.mp4", codec=small_codec)
    assert_same(sound_of(tmp_path / "out.mp4"), sound_of(given), MILLISECOND)


@pytest.mark.parametrize("kind", ["npy", "y4m", "png"])
def test_formats_without_sound_say_what_they_leave_out(tmp_path: Path, small_codec: Codec, kind: str) -> None:
    given, coded, target = make_source(tmp_path / "in.mp4"), tmp_path / "a.mpt", tmp_path / "out"
    mptvc.encode_file(given, coded, codec=small_codec)
    options = mptvc.OutputOptions(format=kind)
    report = mptvc.decode_file(coded, target, codec=small_codec, output=options)
    assert report.warnings == (f"{kind} holds no sound or subtitles: those of the video are left out",)
    mute = mptvc.decode_file(coded, target, codec=small_codec, output=options, sound=False, force=True)
    assert mute.warnings == ()


def test_no_sound_where_none_is_wanted(tmp_path: Path, small_codec: Codec) -> None:
    given = make_source(tmp_path / "in.mp4")
    mptvc.encode_file(given, tmp_path / "mute.mpt", codec=small_codec, sound=False)
    assert mptvc.probe(tmp_path / "mute.mpt").header.side_bytes == 0
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=small_codec, sound=False)
    with av.open(tmp_path / "out.mp4") as out:
        assert not out.streams.audio


def test_sound_counts_as_bytes_of_the_prefix_but_not_of_the_picture(
    tmp_path: Path, small_codec: Codec
) -> None:
    given = make_source(tmp_path / "in.mp4")
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    mptvc.encode_file(given, tmp_path / "mute.mpt", codec=small_codec, sound=False)
    loud, mute = mptvc.probe(tmp_path / "a.mpt"), mptvc.probe(tmp_path / "mute.mpt")
    assert loud.size_bytes == mute.size_bytes + loud.header.side_bytes + 20  # the chunk that describes it
    assert loud.header.bpp(3) == pytest.approx(mute.header.bpp(3) + 8 * 20 / (32 * 32 * 50))


def test_sound_that_the_container_cannot_hold_is_left_out_with_a_warning(
    tmp_path: Path, small_codec: Codec
) -> None:
    given = make_source(tmp_path / "in.mkv", ("wavpack", "aac"))
    mptvc.encode_file(given, tmp_path / "a.mpt", codec=small_codec)
    report = mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=small_codec)
    assert len(report.warnings) == 1
    assert "the audio stream 0 (wavpack) is left out" in report.warnings[0]
    assert_same(sound_of(tmp_path / "out.mp4"), sound_of(given, 1), MILLISECOND)


def test_sound_from_a_pipe_to_a_pipe(tmp_path: Path) -> None:
    """MP4 with its index at the end, which a pipe cannot be searched for."""
    given = make_source(tmp_path / "in.mp4")
    mptvc_ = f"{sys.executable} -m mptvc"
    chain = f"cat {given} | {mptvc_} encode - - -q | {mptvc_} decode - - -q --format mkv"
    done = subprocess.run(chain, shell=True, capture_output=True, timeout=120, check=True)
    assert done.stderr == b""
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert_same(sound_of(tmp_path / "out.mkv"), sound_of(given), MILLISECOND)


def test_damaged_sound_is_reported_and_can_be_left_out(tmp_path: Path, small_codec: Codec) -> None:
    mptvc.encode_file(make_source(tmp_path / "in.mp4"), tmp_path / "a.mpt", codec=small_codec)
    data = bytearray((tmp_path / "a.mpt").read_bytes())
    data[mptvc.probe(bytes(data)).header.size_bytes + 100] ^= 1
    with pytest.raises(mptvc.FormatError, match="sound and subtitles are damaged"):
        mptvc.verify(bytes(data))
    with pytest.raises(mptvc.FormatError, match="sound and subtitles are damaged"):
        mptvc.decode_file(bytes(data), tmp_path / "out.mp4", codec=small_codec)
    assert not (tmp_path / "out.mp4").exists()
    report = mptvc.decode_file(bytes(data), tmp_path / "out.mp4", codec=small_codec, best_effort=True)
    assert "sound" in str(report.damage[0])
    assert (report.complete, report.video.num_frames) == (False, 50)


def test_subtitles_are_copied(tmp_path: Path, small_codec: Codec) -> None:
    text = "1\n00:00:00,400 --> 00:00:01,200\nhello\n\n"
    (tmp_path / "in.srt").write_text(text)
    make_source(tmp_path / "plain.mkv", ("flac",))
    with (
        av.open(tmp_path / "plain.mkv") as plain,
        av.open(tmp_path / "in.srt") as lines,
        av.open(tmp_path / "in.mkv", "w") as out,
    ):
        copies = {s: out.add_stream_from_template(s) for s in (*plain.streams, *lines.streams)}
        for packet in (*lines.demux(), *plain.demux()):
            if packet.size:
                packet.stream = copies[packet.stream]
                out.mux(packet)
    mptvc.encode_file(tmp_path / "in.mkv", tmp_path / "a.mpt", codec=small_codec)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    with av.open(tmp_path / "out.mkv") as out:
        packets = [p for p in out.demux(out.streams.subtitles[0]) if p.size]
    assert [(float(p.pts * p.time_base), bytes(p)) for p in packets] == [(0.4, b"hello")]


@pytest.mark.parametrize("text", [False, True])
def test_packets_of_half_a_millisecond_share_a_time_and_all_come_back(
    tmp_path: Path, codec: Codec, text: bool
) -> None:
    """Matroska counts milliseconds; with text beside the sound, all travels in Matroska."""
    with av.open(tmp_path / "in.mkv", "w") as out:
        video = out.add_stream("ffv1", rate=25, width=32, height=32, pix_fmt="bgr0")
        sound = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        if text:
            out.add_mux_stream("subrip")
        for i in range(10):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * i, np.uint8), format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
            for at in range(1920 * i, 1920 * (i + 1), 24):
                part = AudioFrame.from_ndarray(
                    np.full((1, 24), at % 999, np.int16), format="s16", layout="mono"
                )
                part.sample_rate, part.pts = RATE, at
                out.mux(sound.encode(part))
        out.mux(video.encode(None))
    report = mptvc.encode_file(tmp_path / "in.mkv", tmp_path / "a.mpt", codec=codec)
    assert report.warnings == ()
    assert report.header.video.num_frames == 10
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=codec)
    assert_same(sound_of(tmp_path / "out.mkv"), sound_of(tmp_path / "in.mkv"), MILLISECOND)
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mp4", codec=codec)  # where times rise
    given, back = (b"".join(d for _, d in sound_of(tmp_path / name)) for name in ("in.mkv", "out.mp4"))
    assert given == back


def test_sound_that_goes_back_in_time_takes_no_picture_along(tmp_path: Path, codec: Codec) -> None:
    """Matroska's clock does not jump; here what follows the first part is that part again."""
    part = make_source(tmp_path / "part.mkv", ("mp2",), frames=20).read_bytes()
    segment, cluster = part.index(b"\x18\x53\x80\x67") + 4, part.index(b"\x1f\x43\xb6\x75")
    unknown = b"\x01" + bytes([255] * 7)  # the segment's length
    endless = part[:segment] + unknown + part[segment + 8 :]
    (tmp_path / "in.mkv").write_bytes(endless + part[cluster:])
    report = mptvc.encode_file(tmp_path / "in.mkv", tmp_path / "a.mpt", codec=codec)
    assert report.header.video.num_frames == 40
    (warning,) = report.warnings
    assert "goes back in time" in warning


def test_the_sound_is_not_held_in_memory(tmp_path: Path, small_codec: Codec) -> None:
    """Decoding reads the side section as it needs it: 40 MB of raw samples leave no mark."""
    source = tmp_path / "in.mkv"
    samples = np.random.default_rng(1).integers(-(2**15), 2**15, (1, 2 * 10_000_000), np.int16)
    with av.open(source, "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 16, 16, "bgr0"
        sound = out.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        frame = VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        out.mux([*video.encode(frame), *video.encode(None)])
        for first in range(0, samples.shape[1], 2 * RATE):
            heard = AudioFrame.from_ndarray(
                samples[:, first : first + 2 * RATE], format="s16", layout="stereo"
            )
            heard.sample_rate, heard.pts = RATE, first // 2
            out.mux(sound.encode(heard))
        out.mux(sound.encode(None))
    coded = tmp_path / "a.mpt"
    mptvc.encode_file(source, coded, codec=small_codec)
    header = mptvc.probe(coded).header
    assert header.side_bytes > 40_000_000
    tracemalloc.start()
    mptvc.decode_file(coded, tmp_path / "b.mkv", codec=small_codec)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000
    assert_same(sound_of(tmp_path / "b.mkv"), sound_of(source), MILLISECOND)


class Counted(BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def side_of(source: Path) -> tuple[FileView, Counted, int]:
    """A side section of a source's sound, the file it is read from, and its lead."""
    with VideoSource(source, sound=True) as video:
        frames = video.frames()
        assert list(frames)
        side = frames.outcome().side
        assert side is not None
        file = Counted(side.file.read())
        return FileView(file, 0, file.getbuffer().nbytes), file, side.lead_s


def played(section: FileView, lead_s: int, target: Path) -> Path:
    """A file of a side section and a picture of two seconds."""
    with (
        SidePlayer(section, lead_s, Fraction(0), None, trimmed=False) as player,
        av.open(target, "w", options=EXPERIMENTAL) as out,
    ):
        video = out.add_stream("libx264", rate=25, width=32, height=32, pix_fmt="yuv420p")
        player.add_streams(out)
        for at in range(0, 50, 49):
            frame = VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = at
            out.mux(video.encode(frame))
        player.play(out, None)
        out.mux(video.encode(None))
    assert player.warnings == []
    return target


@pytest.mark.parametrize("kind", ["matroska", "mp4", "yuv4mpegpipe"])
def test_of_a_side_section_no_more_is_read_than_is_needed(tmp_path: Path, kind: str) -> None:
    """First packets tell what the output holds; after the last picture nothing is needed."""
    section, file, lead_s = side_of(make_source(tmp_path / "in.mkv", ("pcm_s32le", "wavpack") * 8))
    with (
        SidePlayer(section, lead_s, Fraction(0), Fraction(1, 25), trimmed=False) as player,
        av.open(tmp_path / "out", "w", format=kind) as out,
    ):
        player.add_streams(out)
        assert len(player.warnings) == {"matroska": 0, "mp4": 8, "yuv4mpegpipe": 16}[kind]
        player.play(out, None)
    assert file.taken < file.getbuffer().nbytes / 2


def test_sound_is_no_part_of_level_0(tmp_path: Path, codec: Codec) -> None:
    """A file that is cut right after its sound holds nothing of level 0."""
    coded = tmp_path / "a.mpt"
    mptvc.encode_file(make_source(tmp_path / "in.mkv"), coded, codec=codec)
    data = coded.read_bytes()
    header = mptvc.probe(data).header
    for size in (header.size_bytes, header.offset(0, 0) - 1, header.offset(0, 0)):
        assert mptvc.probe(data[:size]).available.percent == 0
        with pytest.raises(mptvc.FormatError, match="no level complete and 0 % of level 0"):
            codec.decompress(data[:size])
    level = header.prefix_bytes(1) - header.offset(0, 0)
    assert mptvc.probe(data[: header.prefix_bytes(1) - 1]).available.percent == 100 * (level - 1) // level
