"""Folders of pictures and arrays are videos too; several inputs and folders go through one command."""

import json
import re
from fractions import Fraction
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from command_line import Cli
from patterns import moving, write_video

import mptvc
from mptvc.codec.codec import Codec
from mptvc.video.source import VideoSource
from mptvc.video.stills import pictures_of

FRAMES = moving(12, 32, 40)


def read(source: Path, rate: Fraction = Fraction(25), **options: bool) -> tuple[np.ndarray, mptvc.VideoInfo]:
    with VideoSource(source, frame_rate=rate, **options) as video:  # type: ignore[arg-type]
        frames = video.frames()
        pixels = np.stack([frame.pixels for frame in frames])
        outcome = frames.outcome()
    assert outcome.warnings == ()
    return pixels, outcome.video


@pytest.mark.parametrize("name", ["row", "100 %d", "in.npy", "in.y4m"])
def test_what_decode_writes_encode_reads(tmp_path: Path, name: str) -> None:
    source = write_video(tmp_path / name, FRAMES, mptvc.OutputOptions())
    pixels, video = read(source)
    assert (video.num_frames, video.frame_rate, list(video.time_steps)) == (12, 25, [])
    difference = np.abs(pixels.astype(int) - FRAMES)
    assert difference.max() <= (4 if name == "in.y4m" else 0)


@pytest.mark.parametrize("name", ["row", "in.npy"])
def test_the_frame_rate_is_the_callers(tmp_path: Path, small_codec: Codec, name: str) -> None:
    source = write_video(tmp_path / name, FRAMES, mptvc.OutputOptions())
    rate = Fraction(30000, 1001)
    report = mptvc.encode_file(source, tmp_path / "a.mpt", codec=small_codec, frame_rate=rate, duration=0.2)
    assert (report.header.video.frame_rate, report.header.video.num_frames) == (rate, 6)
    with pytest.raises(ValueError, match="frame_rate is a number above 0"):
        mptvc.encode_file(source, tmp_path / "b.mpt", codec=small_codec, frame_rate=0)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    written = write_video(tmp_path / "row", FRAMES, mptvc.OutputOptions())
    (tmp_path / "other").mkdir()
    for number, path in enumerate(sorted(written.iterdir())):
        copy(path, tmp_path / "other" / f"shot{number}.png")
    (tmp_path / "other" / ".hidden.png").write_bytes(b"")
    (tmp_path / "other" / "notes.txt").write_text("no picture")
    assert [path.stem for path in pictures_of(tmp_path / "other")] == [f"shot{i}" for i in range(12)]
    assert np.array_equal(read(tmp_path / "other")[0], FRAMES)


def test_a_damaged_picture_costs_itself_alone(tmp_path: Path) -> None:
    row = write_video(tmp_path / "row", FRAMES, mptvc.OutputOptions())
    (row / "frame_000005.png").write_bytes(b"damaged")
    with VideoSource(row) as video:
        frames = video.frames()
        assert len(list(frames)) == 11
        first, second = frames.outcome().warnings
    assert "packets that cannot be decoded, so that frames are missing: 1" in first
    assert second == "the source promises 12 frames, 11 were decoded"


def test_what_looks_like_a_picture_and_is_none_costs_no_other(tmp_path: Path) -> None:
    """A folder, a link that leads nowhere, and a picture of another kind."""
    row = write_video(tmp_path / "row", FRAMES, mptvc.OutputOptions())
    (row / "frame_000002_.png").mkdir()
    (row / "frame_000003.png").unlink()
    (row / "frame_000003.png").symlink_to("nowhere")
    (row / "frame_000004_.jpg").write_bytes(b"cover")
    with VideoSource(row) as video:
        frames = video.frames()
        assert np.array_equal([frame.pixels for frame in frames], np.delete(FRAMES, 2, 0))
        first, second, third = frames.outcome().warnings
    assert first == "pictures of another kind are left out: 1 (frame_000004_.jpg)"
    assert second.startswith("packets that cannot be decoded, so that frames are missing: 1")
    assert third == "the source promises 12 frames, 11 were decoded"
    with pytest.raises(mptvc.VideoError, match="of another kind are left out"):
        VideoSource(row, strict=True)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (FRAMES.astype(np.float32), "frames are uint8"),
        (FRAMES[..., 0], "frames are uint8"),
        (FRAMES[..., :2], "frames are uint8"),
        (np.asfortranarray(FRAMES), "in the order of C"),
        (FRAMES[:0], "frames are uint8|no array"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(mptvc.VideoError, match=said):
        VideoSource(tmp_path / "in.npy")


@pytest.mark.parametrize("data", [b"no array", b"\x93NUMPY\x01\x00", b"\x80\x04N."])
def test_what_is_no_array_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in.npy").write_bytes(data)
    with pytest.raises(mptvc.VideoError, match="no array"):
        VideoSource(tmp_path / "in.npy")


def test_an_archive_of_arrays_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", FRAMES)
    (tmp_path / "in.npz").rename(tmp_path / "in.npy")
    with pytest.raises(mptvc.VideoError, match="no array but an archive of arrays"):
        VideoSource(tmp_path / "in.npy")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mptvc.VideoError, match=r"the folder holds no \.png"):
        VideoSource(tmp_path)


def test_commands_take_rows_several_inputs_and_folders(cli: Cli, tmp_path: Path, weights: Path) -> None:
    named = ("--weights", weights, "-q")
    write_video(tmp_path / "row", FRAMES, mptvc.OutputOptions())
    assert cli("encode", "row", *named, "--frame-rate", "50").code == 0
    assert mptvc.probe("row.mpt").header.video.frame_rate == 50
    write_video(tmp_path / "a.mkv", FRAMES)
    write_video(tmp_path / "b.npy", FRAMES)
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "c.mkv", FRAMES)
    assert cli("encode", "a.mkv", "b.npy", "row", "films", "--output-dir", "coded", *named).code == 0
    assert sorted(p.name for p in Path("coded").iterdir()) == ["a.mpt", "b.mpt", "c.mpt", "row.mpt"]
    assert len(json.loads(cli("info", "coded", "--json").out)) == 4
    assert cli("verify", "coded").out.count(": ok") == 4
    assert cli("decode", "coded", "--output-dir", "back", "--format", "mkv", *named).code == 0
    assert sorted(p.name for p in Path("back").iterdir()) == ["a.mkv", "b.mkv", "c.mkv", "row.mkv"]
    Path("coded/b.mpt").write_bytes(b"damaged")
    again = cli("decode", "coded", "--output-dir", "rows", "--format", "png", *named)
    assert (again.code, sorted(p.name for p in Path("rows").iterdir())) == (1, ["a", "c", "row"])
    assert "coded/b.mpt: not an mpt file" in again.err
    assert cli("verify", "coded", "-q").code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode", "a.mkv", "b.mkv", "c.mkv"], "several inputs need .* --output-dir"),
        (["encode", "a.mkv", "out.mpt", "--output-dir", "x"], "out.mpt is no input"),
        (["encode", "d/a.mkv", "a.mkv", "--output-dir", "x"], "both become x/a.mpt"),
        (["encode", "d", "out.mpt"], "d is a folder"),
        (["encode", "d/a.mkv", "--frame-rate", "often"], "--frame-rate is a number or a ratio"),
        (["decode", "d"], "d is a folder"),
        (["decode", "d", "--output-dir", "x"], "the folder holds no .mpt files"),
        (["decode", "a.mpt"], "name what a.mpt is decoded to"),
        (["decode", "a.mpt", "a.mkv", "--output-dir", "x"], "a.mpt is none"),
        (["info", "d"], "the folder holds no .mpt files"),
    ],
)
def test_what_commands_cannot_do_with_many_is_said(cli: Cli, arguments: list[str], said: str) -> None:
    Path("d").mkdir()
    Path("d/a.mkv").write_bytes(b"")
    result = cli(*arguments)
    assert result.code in (1, 2)
    assert re.search(said, result.err)


def test_a_part_is_compared_with_its_part_of_the_source(cli: Cli, tmp_path: Path, weights: Path) -> None:
    write_video(tmp_path / "in.mkv", FRAMES)
    part = ("--start", "0.2", "--duration", "0.16")
    assert cli("encode", "in.mkv", "a.mpt", *part, "--weights", weights, "-q").code == 0
    whole = cli("compare", "in.mkv", "a.mpt", "--weights", weights)
    assert (whole.code, "--start and --duration say which part" in whole.err) == (1, True)
    found = cli("compare", "in.mkv", "a.mpt", *part, "--weights", weights, "--json", "--html", "page.html")
    assert found.code == 0
    (versions,) = json.loads(found.out)[0]["files"].values()
    assert len(versions[0]["frames_rgb"]) == 4
    assert Path("page.html").stat().st_size > 1000
