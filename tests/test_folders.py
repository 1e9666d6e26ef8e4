"""Folders of videos: a tree like the source's, and one bad file does not stop the rest."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path, PosixPath
from threading import Event

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from command_line import Cli
from patterns import moving

import mptvc
from mptvc.codec.codec import Codec
from mptvc.files.folders import find_videos, mirrored, sort_files, work_through
from mptvc.format.header import VideoInfo
from mptvc.video.sink import OutputOptions, VideoSink


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three videos, one of them below, one broken, and a text."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    info = VideoInfo(32, 32, 5, Fraction(25), Fraction(1, 25))
    for name in ("one.mkv", "below/two.mkv"):
        with VideoSink(folder / name, info, OutputOptions(codec="ffv1")) as sink:
            sink.write(np.arange(5 * 32 * 32 * 3).reshape(5, 32, 32, 3).astype(np.uint8))
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("no video either")
    return folder


def test_no_two_videos_share_an_output() -> None:
    source, target = Path("in"), Path("out")
    videos = [source / name for name in ("a.mp4", "a.mkv", "a.mp4.mp4", "b.mp4")]
    outputs = [path.name for path in mirrored(videos, source, target).values()]
    assert outputs == ["a.mp4.mpt", "a.mkv.mpt", "a.mp4.mp4.mpt", "b.mpt"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mptvc", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_broken_file_does_not_stop_the_rest(tree: Path, tmp_path: Path, codec: Codec, jobs: int) -> None:
    out = tmp_path / "out"
    options = ("--weights", "tokenizer", "--jobs", jobs, "--json")
    result = run("encode", tree, "-r", "--output-dir", out, *options)
    assert result.returncode == 1
    assert files(out) == ["below/two.mpt", "one.mpt"]
    assert "2 encoded, 0 skipped, 1 failed" in result.stderr
    assert result.stderr.count("error:") == 1
    assert "broken.mp4: cannot be read as video" in result.stderr
    summary = json.loads(result.stdout)
    assert list(summary["failed"]) == [str(tree / "broken.mp4")]
    mptvc.encode_file(tree / "one.mkv", tmp_path / "alone.mpt", codec=codec)
    digests = [mptvc.symbol_digests(path, codec=codec) for path in (out / "one.mpt", tmp_path / "alone.mpt")]
    assert digests[0] == digests[1]


def test_what_is_done_can_be_skipped(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.mpt").write_text("done before")
    (tree / "broken.mp4").unlink()
    result = run("encode", tree, "-r", "--output-dir", out, "--skip-existing")
    assert (result.returncode, result.stdout) == (0, "")
    assert "1 encoded, 1 skipped, 0 failed" in result.stderr
    assert (out / "one.mpt").read_text() == "done before"


def test_what_exists_is_kept_without_a_word_to_replace_it(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.mpt").write_text("done before")
    result = run("encode", tree, "--output-dir", out)
    assert result.returncode == 1
    assert "0 encoded, 0 skipped, 2 failed" in result.stderr
    assert files(out) == ["one.mpt"]


def test_a_folder_needs_a_folder_for_its_files(tree: Path) -> None:
    result = run("encode", tree)
    assert result.returncode == 2
    assert "--output-dir" in result.stderr


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    result = run("encode", tmp_path, "--output-dir", tmp_path / "out")
    assert result.returncode == 1
    assert "no video files found" in result.stderr


def test_videos_are_found_by_their_endings(tree: Path) -> None:
    (tree / "LOUD.MP4").write_bytes(b"")
    found = find_videos([tree], recursive=False)
    assert [path.name for path in found] == ["LOUD.MP4", "broken.mp4", "one.mkv"]
    assert len(find_videos([tree])) == 4


def test_every_video_that_ffmpeg_reads_is_found_and_the_rest_is_named(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "in"
    (folder / ".hidden").mkdir(parents=True)
    for suffix, codec in (
        ("mts", "mpeg2video"),
        ("vob", "mpeg2video"),
        ("flv", "flv"),
        ("wmv", "wmv2"),
        ("gif", "gif"),
    ):
        with av.open(folder / f"{suffix}.{suffix}", "w", format={"mts": "mpegts"}.get(suffix)) as out:
            pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            stream = out.add_stream(codec, rate=25, width=32, height=32, pix_fmt=pix_fmt)
            for pixels in moving(40 if suffix == "mts" else 4, 32, 32):
                frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    shutil.copy(folder / "flv.flv", folder / "no ending")
    shutil.copy(folder / "flv.flv", folder / "._x.mp4")
    shutil.copy(folder / "flv.flv", folder / ".hidden" / "x.mp4")
    with av.open(folder / "picture.png", "w") as out:
        stream = out.add_stream("png", width=32, height=32, pix_fmt="rgb24")
        out.mux(stream.encode(VideoFrame.from_ndarray(moving(1, 32, 32)[0], format="rgb24")))
    (folder / "notes.txt").write_text("no video")
    videos, others = sort_files([folder])
    assert [path.name for path in videos] == [
        "flv.flv",
        "gif.gif",
        "mts.mts",
        "no ending",
        "vob.vob",
        "wmv.wmv",
    ]
    assert [path.name for path in others] == ["notes.txt", "picture.png"]
    result = cli("encode", folder, "--output-dir", tmp_path / "out", "--weights", "tokenizer")
    assert result.code == 0
    assert "2 files left out as no video: notes.txt, picture.png" in result.err
    assert "6 encoded" in result.err


def test_a_video_of_several_names_is_found_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "same.mkv").symlink_to("one.mkv")
    (tree / "copy.mkv").write_bytes((tree / "one.mkv").read_bytes())
    (tree.parent / "link").symlink_to("in")
    everywhere = [Path("one.mkv"), Path("below/../one.mkv"), Path("below"), tree, Path("../link")]
    found = find_videos(everywhere)
    assert [str(path.relative_to(tree)) if path.is_absolute() else str(path) for path in found] == [
        "one.mkv",
        "below/two.mkv",
        "broken.mp4",
        "copy.mkv",
    ]


def test_outputs_of_equal_stems_keep_their_endings() -> None:
    videos = [Path("in/a.mp4"), Path("in/a.mkv"), Path("in/b/a.mkv")]
    outputs = mirrored(videos, Path("in"), Path("out"))
    assert [str(path) for path in outputs.values()] == ["out/a.mp4.mpt", "out/a.mkv.mpt", "out/b/a.mpt"]


class Counted(PosixPath):
    """A path that counts how often one is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = PosixPath.__hash__


def test_what_is_done_is_found_without_comparing_all_with_all(tmp_path: Path) -> None:
    """Resuming 20,000 videos took a minute before the first was encoded."""
    sources = [Counted(f"in/{i}.mp4") for i in range(1000)]
    outputs = {source: Counted(tmp_path / f"{source.stem}.mpt") for source in sources}
    for out in [*outputs.values()][::2]:
        out.touch()
    Counted.compared = 0

    def job(_source: Path, _out: Path, _stop: Event) -> tuple[str, ...]:
        return ()

    report = work_through(dict(outputs), job, skip_existing=True, jobs=2)
    assert report.skipped == tuple([*outputs.values()][::2])
    assert report.done == tuple([*outputs.values()][1::2])
    assert Counted.compared < 20 * len(sources)
