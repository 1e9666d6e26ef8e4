"""A video whose size changes on the way becomes a file for each part, with its sound: all files or none."""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from command_line import FAILED, USAGE, Cli, is_one_error, names
from patterns import moving

import mptvc
from mptvc.codec.codec import Codec
from mptvc.video.packets import AnyPacket

#: Frames, height and width of each part, at 25 a second.
PARTS = [(60, 48, 64), (5, 32, 32), (7, 48, 64)]
#: Of the sound; a part's edge is in the middle of a packet.
PACKET_S = Fraction(3, 100)


def encoded(parts: list[tuple[int, int, int]]) -> Iterator[AnyPacket]:
    """Packets of VP8 whose key frames change the size."""
    count = 0
    for frames, height, width in parts:
        encoder = av.CodecContext.create("libvpx", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
            width,
            height,
            "yuv420p",
            Fraction(1, 25),
        )
        encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
        encoder.gop_size = 20
        pictures = [VideoFrame.from_ndarray(p, format="rgb24") for p in moving(frames, height, width)]
        for picture in (*pictures, None):
            for packet in encoder.encode(picture):
                packet.pts = packet.dts = count
                packet.time_base = Fraction(1, 25)
                count += 1
                yield packet


def changing(path: Path, parts: list[tuple[int, int, int]] = PARTS) -> Path:
    """A video of these parts, and sound whose packets tell their numbers."""
    with av.open(path, "w") as out:
        video = out.add_stream("libvpx", rate=25, height=parts[0][1], width=parts[0][2], pix_fmt="yuv420p")
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        pictures = list(encoded(parts))
        for packet in pictures:
            packet.stream = video
        for number in range(int(len(pictures) / 25 / PACKET_S)):
            packet = Packet(np.full(240, number, np.int16).tobytes())
            packet.pts = packet.dts = number
            packet.time_base, packet.duration, packet.stream = PACKET_S, 1, sound
            pictures.append(packet)
        for packet in sorted(pictures, key=lambda packet: packet.pts * packet.time_base):
            out.mux(packet)
    return path


def sound_in(file: Path, folder: Path, codec: Codec) -> set[int]:
    """Numbers of the packets of sound of an ``.mpt`` file."""
    mptvc.decode_file(file, folder / "sound.mkv", codec=codec, force=True)
    with av.open(folder / "sound.mkv") as out:
        return {int(np.frombuffer(bytes(p), np.int16)[0]) for p in out.demux(audio=0) if p.size}


def test_each_part_is_what_its_start_and_duration_give(tmp_path: Path, small_codec: Codec) -> None:
    path, out = changing(tmp_path / "a.mkv"), tmp_path / "out.mpt"
    seen: list[tuple[int, int]] = []
    report = mptvc.encode_file(
        path, out, codec=small_codec, on_size_change="split", progress=lambda *done: seen.append(done)
    )
    files = [out, tmp_path / "out-2.mpt", tmp_path / "out-3.mpt"]
    assert list(report.others) == files[1:]
    assert report.warnings == (f"the size changes on the way: there are 3 files, up to {files[2]}",)
    assert (seen[-1], sorted(done for done, _ in seen)) == ((72, 72), [done for done, _ in seen])
    spans = [(0.0, 2.4), (2.4, 0.2), (2.6, None)]
    for file, one, (count, height, width), (start, duration) in zip(
        files, (report, *report.others.values()), PARTS, spans, strict=True
    ):
        mptvc.encode_file(
            path, tmp_path / "part.mpt", codec=small_codec, start=start, duration=duration, force=True
        )
        assert file.read_bytes() == (tmp_path / "part.mpt").read_bytes()
        video = one.header.video
        assert (video.num_frames, video.height, video.width) == (count, height, width)
        assert video.times.end == Fraction(count, 25)
    first, second, third = (sound_in(file, tmp_path, small_codec) for file in files)
    assert (first, second, third) == ({*range(80)}, {*range(80, 87)}, {*range(86, 96)})


def test_a_part_of_a_video_is_split_too_and_one_size_gives_one_file(
    tmp_path: Path, small_codec: Codec
) -> None:
    path, out = changing(tmp_path / "a.mkv"), tmp_path / "out.mpt"
    with path.open("rb") as source:  # read twice
        report = mptvc.encode_file(
            source, out, codec=small_codec, on_size_change="split", start=2.2, duration=0.36
        )
    reports = [report, *report.others.values()]
    assert [one.header.video.num_frames for one in reports] == [5, 4]
    report = mptvc.encode_file(path, out, codec=small_codec, on_size_change="split", duration=0.2, force=True)
    assert (report.warnings, dict(report.others)) == ((), {})
    assert report.header.video.num_frames == 5


def test_a_named_pipe_is_read_once(tmp_path: Path, small_codec: Codec) -> None:
    path, pipe = changing(tmp_path / "a.mkv", [(4, 48, 64), (3, 32, 32)]), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    report = mptvc.encode_file(pipe, tmp_path / "out.mpt", codec=small_codec, on_size_change="split")
    writer.join(10)
    assert [one.header.video.num_frames for one in (report, *report.others.values())] == [4, 3]


def test_all_files_appear_or_none(tmp_path: Path, small_codec: Codec) -> None:
    path, out, second = changing(tmp_path / "a.mkv"), tmp_path / "out.mpt", tmp_path / "out-2.mpt"
    second.write_bytes(b"mine")
    coded: list[int] = []

    def split(progress: mptvc.files.encoding.Progress, force: bool = False) -> None:
        mptvc.encode_file(
            path, out, codec=small_codec, on_size_change="split", duration=2.6, progress=progress, force=force
        )

    with pytest.raises(mptvc.MptError, match=r"out-2\.mpt exists; force=True replaces it"):
        split(lambda done, _: coded.append(done))
    assert not any(coded)
    assert second.read_bytes() == b"mine"
    second.unlink()

    def appear(done: int, expected: int) -> None:
        if done == expected:
            second.write_bytes(b"theirs")

    with pytest.raises(mptvc.MptError, match=r"out-2\.mpt exists"):
        split(appear)
    assert (names(tmp_path), second.read_bytes()) == (["a.mkv", "out-2.mpt"], b"theirs")

    def fail(done: int, _: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(fail, force=True)
    assert (names(tmp_path), second.read_bytes()) == (["a.mkv", "out-2.mpt"], b"theirs")
    split(appear, force=True)
    assert mptvc.probe(second).header.video.num_frames == 5


def test_what_cannot_be_split_says_why(tmp_path: Path, small_codec: Codec) -> None:
    path = changing(tmp_path / "out-2.mkv")
    with pytest.raises(ValueError, match='on_size_change="split" makes several files'):
        mptvc.encode_file(path, BytesIO(), codec=small_codec, on_size_change="split")
    with pytest.raises(ValueError, match="input and output are the same file"):
        mptvc.encode_file(path, tmp_path / "out.mkv", codec=small_codec, on_size_change="split", force=True)
    assert names(tmp_path) == ["out-2.mkv"]


def test_parts_that_times_do_not_tell_from_each_other_are_no_parts(
    tmp_path: Path, small_codec: Codec
) -> None:
    """The second stream starts 80 milliseconds before the first one ends."""
    joined = b""
    for first, (count, height, width) in ((0, (10, 48, 64)), (8, (6, 32, 32))):
        with av.open(tmp_path / "one.ts", "w") as out:
            video = out.add_stream("libx264", rate=25, height=height, width=width, pix_fmt="yuv420p")
            video.codec_context.max_b_frames = 0
            for number, pixels in enumerate(moving(count, height, width)):
                frame = VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = first + number
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        joined += (tmp_path / "one.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(joined)
    with pytest.raises(mptvc.VideoError, match="where times go back"):
        mptvc.encode_file(tmp_path / "a.ts", tmp_path / "a.mpt", codec=small_codec, on_size_change="split")
    assert names(tmp_path) == ["a.ts", "one.ts"]


def test_the_command_splits_and_names_all_files(tmp_path: Path, cli: Cli, weights: Path) -> None:
    changing(tmp_path / "a.mkv", [(4, 48, 64), (3, 32, 32)])
    options = ("--weights", weights, "--on-size-change")
    refused = cli("encode", "a.mkv", "-", *options, "split")
    assert (refused.code, is_one_error(refused)) == (USAGE, True)
    assert "--on-size-change split makes several files" in refused.err
    stopped = cli("encode", "a.mkv", "a.mpt", *options, "stop")
    assert stopped.code == FAILED
    assert "--on-size-change split a file of each" in stopped.err
    done = cli("encode", "a.mkv", "a.mpt", *options, "split", "--json")
    shown = json.loads(done.out)
    assert (shown["output"], shown["frames"]) == ("a.mpt", 4)
    assert [(part["output"], part["frames"]) for part in shown["others"]] == [("a-2.mpt", 3)]
    assert [line.split(": ")[0] for line in done.err.splitlines()] == ["warning", "a.mpt", "a-2.mpt"]
    assert names(tmp_path) == ["a-2.mpt", "a.mkv", "a.mpt"]


def test_a_part_replaces_no_file_of_another_video(tmp_path: Path, cli: Cli, weights: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a.mkv", "a-2.mkv"):
        changing(tmp_path / "videos" / name, [(4, 48, 64), (3, 32, 32)])
    command = ("encode", "videos", "--output-dir", "coded", "--weights", weights, "--on-size-change", "split")
    refused = cli(*command, "-f")
    assert (refused.code, is_one_error(refused)) == (USAGE, True)
    assert "coded/a-2.mpt might be replaced by a part of coded/a.mpt" in refused.err
    assert not (tmp_path / "coded").exists()
    done = cli(*command)
    assert (done.code, names(tmp_path / "coded")) == (FAILED, ["a-2-2.mpt", "a-2.mpt"])
    assert "coded/a-2.mpt exists" in done.err
