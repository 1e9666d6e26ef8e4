"""Every frame that FFmpeg decodes is there, whatever packets lack; what is missing is said."""

from collections.abc import Callable, Container
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame
from patterns import make_source, moving

import mptvc
from mptvc.codec.codec import Codec
from mptvc.errors import VideoError
from mptvc.video import decoding
from mptvc.video.frames import SourceOutcome
from mptvc.video.packets import move
from mptvc.video.source import VideoSource

RATE = 25
#: Codec, pixel format and container of streams whose packets are damaged.
STREAMS = [
    ("mjpeg", "yuvj420p", "mkv"),
    ("ffv1", "yuv420p", "mkv"),
    ("png", "rgb24", "nut"),
    ("mpeg4", "yuv420p", "mkv"),
    ("libx264", "yuv420p", "mkv"),
    ("libvpx", "yuv420p", "webm"),
]


def write(
    path: Path,
    codec: str,
    pix_fmt: str = "yuv420p",
    *,
    times: list[int] | None = None,
    frames: int = 20,
    late: int = 0,
    muxing: dict[str, str] | None = None,
    **settings: object,
) -> Path:
    """Moving pictures of 64 x 48, at 25 a second or at these times."""
    with av.open(path, "w", options=muxing) as file:
        stream = file.add_stream(codec, rate=RATE, width=64, height=48, pix_fmt=pix_fmt)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for index, pixels in enumerate(moving(frames)):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = late + (index if times is None else times[index])
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def damaged(path: Path, which: Container[int], damage: Callable[[bytes], bytes]) -> Path:
    """The file with some packets of its video changed."""
    target = path.with_stem("damaged")
    with av.open(path) as source, av.open(target, "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        for index, packet in enumerate(p for p in source.demux(stream) if p.size):
            made = Packet(damage(bytes(packet)) if index in which else bytes(packet))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.is_keyframe, made.stream = packet.is_keyframe, copy
            out.mux(made)
    return target


def noise(data: bytes) -> bytes:
    return np.random.default_rng(len(data)).integers(0, 256, len(data), np.uint8).tobytes()


def read(path: Path, **options: object) -> tuple[SourceOutcome, np.ndarray]:
    with VideoSource(path, sound=True, **options) as source:
        frames = source.frames()
        pixels = np.stack([frame.pixels for frame in frames])
        return frames.outcome(), pixels


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), STREAMS)
def test_a_damaged_packet_takes_no_other_frame_along(
    tmp_path: Path, codec: str, pix_fmt: str, suffix: str
) -> None:
    whole = write(tmp_path / f"a.{suffix}", codec, pix_fmt, gop_size=1)
    wanted = np.delete(read(whole)[1], 9, axis=0)
    outcome, found = read(damaged(whole, [9], noise))
    assert np.array_equal(found, wanted)
    assert "packets that cannot be decoded, so that frames are missing: 1" in outcome.warnings[0]
    with pytest.raises(VideoError, match="strict=True refuses"):
        read(tmp_path / f"damaged.{suffix}", strict=True)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_damaged_packet_of_transparent_video_costs_itself_alone(tmp_path: Path, codec: str) -> None:
    """What decodes transparency waits for the next key frame after a fault; the rest goes on without it."""
    # Not "realtime": how it encodes would depend on how busy the machine is.
    options = {"auto-alt-ref": "0", "deadline": "good", "cpu-used": "5"}
    whole = write(tmp_path / "a.webm", codec, "yuva420p", gop_size=100, options=options)
    path = damaged(whole, [9], lambda data: data[:5] + noise(data)[5:])
    with av.open(path) as file:
        assert file.streams.video[0].metadata.get(
            "alpha_mode", file.streams.video[0].metadata.get("ALPHA_MODE")
        )
    outcome, found = read(path)
    assert len(found) >= 19
    assert len(found) == 20 or "packets that cannot be decoded" in outcome.warnings[0]


def test_times_that_go_back_more_often_than_those_of_decoding_are_not_believed(tmp_path: Path) -> None:
    """As FFmpeg does it: of two clips that were cut from one and joined, packets had each other's times."""
    with VideoSource(write(tmp_path / "a.mkv", "mpeg4")) as source:
        clock = decoding._Clock(source.info, by_decoding=False)
    given = [(0, 0), (40, 40), (40, 80), (80, 120), (120, 160)]
    stamped = []
    for shown, decoded in given:
        frame = VideoFrame(16, 16, "yuv420p")
        frame.pts, frame.dts = shown, decoded
        clock.stamp(frame)
        stamped.append(frame.pts)
    assert stamped == [0, 40, 80, 120, 160]


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), STREAMS)
def test_an_empty_packet_ends_nothing(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    """It stands for a frame that is shown for longer."""
    whole = write(tmp_path / f"a.{suffix}", codec, pix_fmt, gop_size=1)
    wanted = np.delete(read(whole)[1], 9, axis=0)
    outcome, found = read(damaged(whole, [9], lambda _: b""))
    assert np.array_equal(found, wanted)
    assert outcome.video.times[9] - outcome.video.times[8] == Fraction(2, RATE)


def test_packets_that_give_nothing_until_the_end_are_a_warning(tmp_path: Path) -> None:
    """Neither the decoder complains nor does the container say how long it is."""
    whole = write(tmp_path / "a.mkv", "mpeg2video", frames=40)
    path = damaged(whole, range(20, 40), lambda data: bytes(len(data)))
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"UNTITLED"))
    outcome, found = read(path)
    assert len(found) <= 21
    assert any("the source promises 1.56 s" in warning for warning in outcome.warnings)


def test_frames_without_time_stamps_are_not_left_out(tmp_path: Path) -> None:
    """A program stream has one for each of its packs, which hold many small frames; here they start late."""
    path = write(tmp_path / "a.mpg", "libx264", frames=60, late=2500, gop_size=25)
    with av.open(path) as file:
        assert sum(packet.pts is None for packet in file.demux(video=0) if packet.size) > 30
    outcome, found = read(path)
    assert len(found) == 60
    assert [outcome.video.times[i] for i in (0, 1, 59)] == [0, Fraction(1, 25), Fraction(59, 25)]
    assert outcome.warnings == ()


def test_the_end_of_frames_without_time_stamps_is_known(tmp_path: Path) -> None:
    """Matroska says how long the stream is, and FFmpeg drops time stamps below zero."""
    as_is = {"avoid_negative_ts": "disabled"}
    path = write(tmp_path / "a.mkv", "libx264", frames=60, late=-10, max_b_frames=2, muxing=as_is)
    with av.open(path) as file:
        assert next(file.demux(video=0)).pts is None
    outcome, found = read(path, strict=True)
    assert (len(found), outcome.video.times.end) == (60, Fraction(60, 25))


@pytest.mark.parametrize(
    ("codec", "max_b_frames"), [("mpeg4", 0), ("mpeg4", 2), ("libx264", 0), ("libx264", 2)]
)
def test_avi_keeps_its_gaps(tmp_path: Path, codec: str, max_b_frames: int) -> None:
    """It fills them with empty packets, and has no time stamps for frames in another order."""
    times = [0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22]
    path = write(tmp_path / "a.avi", codec, times=times, frames=len(times), max_b_frames=max_b_frames)
    outcome, found = read(path, strict=True)
    assert len(found) == len(times)
    gaps = [step for step in outcome.video.time_steps if step > 1]
    assert gaps == [6, 5]


def late_sound(path: Path) -> Path:
    """Ten seconds at 2 frames a second, with sound from the eighth on."""
    with av.open(path, "w") as out:
        video = out.add_stream("libx264", rate=2, width=32, height=32, pix_fmt="yuv420p")
        sound = out.add_stream("aac", rate=48000, layout="mono")
        for index, pixels in enumerate(moving(20, 32, 32)):
            out.mux(video.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
            if index >= 16:
                samples = np.full((1, 24000), 0.1, np.float32)
                frame = AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, index * 24000
                out.mux(sound.encode(frame))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def test_sound_that_starts_late_ends_no_picture_and_comes_along(tmp_path: Path, small_codec: Codec) -> None:
    path = late_sound(tmp_path / "in.ts")
    report = mptvc.encode_file(path, tmp_path / "a.mpt", codec=small_codec)
    assert (report.header.video.num_frames, report.warnings) == (20, ())
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    with av.open(tmp_path / "out.mkv") as out:
        packets = [packet for packet in out.demux(audio=0) if packet.size]
    with av.open(path) as source:
        assert len(packets) == sum(packet.size > 0 for packet in source.demux(audio=0))
    assert float(packets[0].pts * packets[0].time_base) == pytest.approx(8, abs=0.03)


def test_joined_streams_go_on_where_the_one_before_ends(tmp_path: Path, small_codec: Codec) -> None:
    first = make_source(tmp_path / "first.ts", ("mp2",), frames=20).read_bytes()
    (tmp_path / "back.ts").write_bytes(first + first)
    outcome, found = read(tmp_path / "back.ts")
    assert len(found) == 40
    assert float(outcome.video.times.end) == pytest.approx(1.6, abs=0.01)
    report = mptvc.encode_file(tmp_path / "back.ts", tmp_path / "a.mpt", codec=small_codec)
    assert report.warnings == ()
    mptvc.decode_file(tmp_path / "a.mpt", tmp_path / "out.mkv", codec=small_codec)
    with av.open(tmp_path / "out.mkv") as out, av.open(tmp_path / "back.ts") as source:
        ours, theirs = ([bytes(p) for p in f.demux(audio=0) if p.size] for f in (out, source))
    assert ours == theirs


@pytest.mark.parametrize("order", ["lacks", "gains"])
def test_a_part_without_sound_takes_no_picture_along(tmp_path: Path, order: str) -> None:
    first = make_source(tmp_path / "first.ts", ("aac",), frames=20)
    mute = make_source(tmp_path / "mute.ts", (), frames=20)
    parts = [first, mute] if order == "lacks" else [mute, first]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    outcome, found = read(tmp_path / "a.ts")
    assert len(found) == 40
    assert all("is left out" in warning for warning in outcome.warnings)


@pytest.mark.parametrize("first", [1, 12])
def test_what_an_edit_list_leaves_out_is_not_missing(tmp_path: Path, first: int) -> None:
    """A cut without coding starts with the key frame before it, which is not shown."""
    whole = write(tmp_path / "a.mp4", "libx264", frames=30, max_b_frames=2)
    wanted = read(whole)[1][first:]
    with (
        av.open(whole) as source,
        av.open(tmp_path / "cut.mp4", "w", options={"avoid_negative_ts": "disabled"}) as out,
    ):
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        for packet in source.demux(stream):
            if packet.size:
                move(packet, -Fraction(first, RATE))
                packet.stream = copy
                out.mux(packet)
    with av.open(tmp_path / "cut.mp4") as cut:
        assert cut.streams.video[0].frames == 30
    outcome, found = read(tmp_path / "cut.mp4", strict=True)
    assert np.array_equal(found, wanted)
    assert outcome.warnings == ()


@pytest.mark.parametrize("shown_ms", [200, 480, 1000])
def test_what_an_edit_list_cuts_off_at_the_end_is_not_missing(tmp_path: Path, shown_ms: int) -> None:
    whole = write(tmp_path / "a.mp4", "libx264", frames=50, max_b_frames=2, gop_size=10)
    data = bytearray(whole.read_bytes())
    length = data.index(b"elst") + 12  # of the only part that is shown, in milliseconds
    assert int.from_bytes(data[length : length + 4]) == 2000
    data[length : length + 4] = shown_ms.to_bytes(4)
    (tmp_path / "cut.mp4").write_bytes(data)
    outcome, found = read(tmp_path / "cut.mp4", strict=True)
    assert np.array_equal(found, read(whole)[1][: shown_ms // 40])
    assert outcome.warnings == ()


def part_and_whole(
    path: Path, start: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[int, int], list[tuple[object, ...]]]:
    """Frames that are decoded for a part with and without leaving out what comes before, and both results."""
    decoded, results, counts = [0], [], []
    stamp = decoding._Clock.stamp

    def counted(clock: object, frame: VideoFrame) -> None:
        decoded[0] += 1
        stamp(clock, frame)

    monkeypatch.setattr(decoding._Clock, "stamp", counted)
    for far in (decoding._FAR_S, float("inf")):
        monkeypatch.setattr(decoding, "_FAR_S", far)
        decoded[0] = 0
        with VideoSource(path, sound=True, start=start, duration=0.2, shot_threshold=None) as source:
            frames = source.frames()
            pixels = [frame.pixels.tobytes() for frame in frames]
            outcome = frames.outcome()
            side = b"" if outcome.side is None else outcome.side.file.read()
        counts.append(decoded[0])
        results.append((pixels, outcome.video, side, outcome.warnings))
    return (counts[0], counts[1]), results


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("start", [2.04, 2.5, 5.96])
def test_what_comes_before_the_key_frame_is_not_decoded(
    tmp_path: Path, suffix: str, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"a.{suffix}", "libx264", frames=160, gop_size=25, max_b_frames=2)
    (few, many), (found, wanted) = part_and_whole(path, start, monkeypatch)
    assert few < 40
    assert many > 50
    assert found == wanted
    assert found[-1] == ()


X264_OPEN, X264_PARTS = {"x264-params": "open-gop=1"}, {"intra-refresh": "1"}
#: Containers whose parts are decoded from a key frame on, and how their frames may be coded.
KEYED = [
    ("a.ts", "libx264", X264_OPEN),
    ("late.ts", "mpeg2video", {}),
    ("a.mpg", "mpeg2video", {}),
    ("a.avi", "mpeg4", {}),
    ("b.avi", "libx264", X264_OPEN),
    ("a.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
]
#: Those whose key frames do not renew a whole picture, or whose packets have no times.
UNKEYED = [("a.ts", "libx264", X264_PARTS), ("a.mp4", "libx264", X264_PARTS), ("a.mpg", "libx264", {})]


@pytest.mark.parametrize(("name", "codec", "options"), [*KEYED, *UNKEYED])
def test_a_part_is_the_same_from_a_key_frame_on(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 95440 * RATE if name == "late.ts" else 0  # the clock of transport streams starts again in between
    made = {"frames": 110, "gop_size": 25, "max_b_frames": 2, "options": options, "late": late}
    path = write(tmp_path / name, codec, **made)
    for start in (2.52, 3.36):
        (few, many), (found, wanted) = part_and_whole(path, start, monkeypatch)
        monkeypatch.undo()
        assert found == wanted
        assert len(found[0]) == 5
        assert few < many - 20 if (name, codec, options) in KEYED else few >= many


def test_a_part_of_joined_streams_is_the_same_with_its_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks that go back, and sound that was read before the key frame."""
    first = make_source(tmp_path / "first.ts", ("aac",), frames=50).read_bytes()
    (tmp_path / "a.ts").write_bytes(first + first + first)
    (few, many), (found, wanted) = part_and_whole(tmp_path / "a.ts", 4.6, monkeypatch)
    assert found == wanted
    assert found[2]
    assert few < many - 90


def test_sound_that_stands_before_the_key_frame_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fragments with a second of sound, and then the pictures."""
    whole, path = make_source(tmp_path / "a.mkv", ("aac",), frames=110, gop=25), tmp_path / "a.mp4"
    with (
        av.open(whole) as given,
        av.open(path, "w", options={"movflags": "frag_keyframe+empty_moov"}) as out,
    ):
        streams = (given.streams.audio[0], given.streams.video[0])
        copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    (few, many), (found, wanted) = part_and_whole(path, 3.56, monkeypatch)
    assert found == wanted
    assert found[2]
    assert few < many - 50


def test_an_avi_without_an_index_gives_the_same_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.avi", "mpeg4", frames=110, gop_size=25, max_b_frames=2)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    _, (found, wanted) = part_and_whole(path, 3.36, monkeypatch)
    assert found == wanted


@pytest.mark.parametrize("edits", ["edts", "free"])
@pytest.mark.parametrize("clocks", [[b"mdhd"], [b"mvhd"], [b"mdhd", b"mvhd"]])
def test_no_frame_of_an_mp4_without_a_clock_is_lost_in_silence(
    tmp_path: Path, clocks: list[bytes], edits: str
) -> None:
    """With a unit of 0 FFmpeg counts whole seconds, so that an edit list may leave out all but a frame."""
    path = write(tmp_path / "a.mp4", "mpeg4", frames=9)
    data = bytearray(path.read_bytes().replace(b"edts", edits.encode()))
    for kind in clocks:
        unit = data.index(kind) + 16
        data[unit : unit + 4] = bytes(4)
    path.write_bytes(data)
    for start in (0.0, 3.0):
        with suppress(VideoError):  # which says that no frame could be decoded
            outcome, found = read(path, start=start)
            shown = sum(float(outcome.video.frame_rate) * start <= i for i in range(9))
            assert len(found) == shown or "promises 9 frames" in outcome.warnings[0]
