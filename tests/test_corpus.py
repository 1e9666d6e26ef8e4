"""A corpus to shards: what is in them, that nothing changes their bytes, is lost or done twice."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from command_line import FAILED, USAGE, Cli, is_one_error
from fsspec.implementations.memory import MemoryFileSystem
from patterns import moving, write_video
from range_server import RangeServer
from safetensors.numpy import load

import mptvc
from mptvc.corpus.manifest import read_units
from mptvc.corpus.run import RunOptions, tokenize_corpus
from mptvc.corpus.tokenizer import TokenizerOptions
from mptvc.corpus.units import Share

VIDEOS = 5
NOTES = ".mptvc"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short videos, one of them below and with a dot in its name, and one broken."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    for number in range(VIDEOS - 1):
        write_video(folder / f"v{number}.mkv", moving(5 + number, 32, 32))
    write_video(folder / "below" / "v.4.mkv", moving(12, 32, 32))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video of 96 frames with three shots, between cuts that no clip would begin at."""
    frames = moving(96, 32, 32)
    frames[21:50] = 255 - frames[21:50]
    frames[50:] = np.roll(frames[50:], 90, -1) // 2
    return write_video(tmp_path_factory.mktemp("film") / "film.mkv", frames)


@pytest.fixture
def options(weights: Path) -> Callable[..., RunOptions]:
    def made(format: str = "webdataset", content: str = "tokens", **changes: Any) -> RunOptions:
        names = {name for name in changes if name in TokenizerOptions.__dataclass_fields__}
        coding = TokenizerOptions(
            weights=str(weights), content=content, device="cpu", **{name: changes.pop(name) for name in names}
        )
        return RunOptions(format=format, coding=coding, shard_units=changes.pop("shard_units", 2), **changes)

    return made


def outputs(folder: Path) -> dict[str, bytes]:
    """All files that a user sees, but the time that the run took."""
    files = (path for path in folder.rglob("*") if path.is_file() and NOTES not in path.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if not p.name.startswith("summary")}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_files_have_the_bytes_that_encoding_gives(
    videos: Path, weights: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    summary = tokenize_corpus([str(videos)], str(tmp_path / "out"), options("mpt", "mpt"))
    codec = mptvc.load(weights, device="cpu")
    for key in ("v0", "below/v.4"):
        mptvc.encode_file(videos / f"{key}.mkv", tmp_path / "one.mpt", codec=codec, force=True)
        assert (tmp_path / "out" / f"{key}.mpt").read_bytes() == (tmp_path / "one.mpt").read_bytes()
    assert (summary.videos, summary.failed) == (VIDEOS, 1)
    assert summary.failures == {"cannot be read as video": 1}
    assert summary.frames == sum(range(5, 9)) + 12
    assert summary.hours == pytest.approx(summary.frames / 25 / 3600)
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == ["below/v.4", "broken", "v0", "v1", "v2", "v3"]
    bad = found[1]
    assert bad["error"] == f"{bad['source']}: cannot be read as video: it is text"
    assert summary.size_bytes == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*.mpt"))


@pytest.mark.parametrize(
    ("rate", "is_exceeded", "levels"),
    [
        (mptvc.Rate(), False, 1),
        (mptvc.Rate(), False, None),
        (mptvc.Rate(quality=2), False, 1),
        (mptvc.Rate(bpp=(0.5, 2.0, 6.0)), False, None),
        (mptvc.Rate(bpp=(1e-3, 2e-3, 3e-3)), True, 1),
    ],
)
def test_tokens_have_the_bytes_that_exporting_a_file_gives(
    film: Path, weights: Path, tmp_path: Path, rate: mptvc.Rate, is_exceeded: bool, levels: int | None
) -> None:
    """Of several shots and clips, the last one not full; though no file is made and decoded again."""
    options = TokenizerOptions(weights=str(weights), levels=levels, rate=rate, device="cpu")
    (row,) = mptvc.Tokenizer(options)({"path": str(film), "end_s": 2.2})
    file, exported, codec = BytesIO(), tmp_path / "tokens", mptvc.load(weights, device="cpu")
    report = mptvc.encode_file(film, file, codec=codec, rate=rate, duration=2.2, sound=False)
    mptvc.export_tokens(file.getvalue(), exported, levels=levels, codec=codec)
    assert row["data"] == exported.read_bytes()
    assert row["sha256"] == sha256(row["data"]).hexdigest()
    assert row["size_bytes"] == len(row["data"])
    assert (row["frames"], row["slices"]) == (55, report.header.shots.num_slices)
    assert row["warnings"] == "; ".join(report.warnings)
    assert ("more than" in row["warnings"]) == is_exceeded
    assert report.header.shots.num_clips > 1


def test_a_prefix_of_levels_is_kept(videos: Path, tmp_path: Path, options: Callable[..., RunOptions]) -> None:
    tokenize_corpus([str(videos / "v0.mkv")], str(tmp_path / "out"), options("mpt", "mpt", levels=1))
    assert mptvc.probe(tmp_path / "out" / "v0.mpt").available.levels == 1


@pytest.fixture(scope="module")
def expected(videos: Path, weights: Path) -> dict[str, tuple[torch.Tensor, ...]]:
    """The tokens of every video."""
    codec = mptvc.load(weights, device="cpu")
    found = {}
    for path in videos.rglob("*.mkv"):
        with mptvc.VideoReader(_file(path, codec), codec=codec) as reader:
            found[path.relative_to(videos).with_suffix("").as_posix()] = reader.all_tokens()
    return found


def _file(path: Path, codec: mptvc.Codec) -> bytes:
    target = path.with_suffix(".tmp")
    mptvc.encode_file(path, target, codec=codec)
    data = target.read_bytes()
    target.unlink()
    return data


Tokens = dict[str, tuple[torch.Tensor, ...]]


def same(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> bool:
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted))


@pytest.fixture
def careless() -> Iterator[None]:
    """Around libraries that leave files to be closed by whoever finds them."""
    yield
    gc.collect()


@pytest.mark.usefixtures("careless")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_the_shards(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions], expected: Tokens
) -> None:
    import webdataset as wds

    tokenize_corpus([str(videos)], str(tmp_path), options())
    shards = sorted(map(str, tmp_path.glob("*.tar")))
    assert len(shards) == 3
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode(mptvc.ShardDecoder()))
    assert {sample["json"]["key"] for sample in samples} == set(expected)
    for sample in samples:
        assert same(sample["safetensors"], expected[sample["json"]["key"]])
        assert sample["json"]["frames"]
        assert sample["json"]["error"] is None
    assert "below/v%2E4" in [sample["__key__"] for sample in samples]


@pytest.mark.usefixtures("careless")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_datasets_reads_parquet_shards(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions], expected: Tokens
) -> None:
    import datasets

    manifest = tmp_path / "list.csv"
    lines = [f"{key},{videos / key}.mkv,{number}" for number, key in enumerate(sorted(expected))]
    manifest.write_text("\n".join(["key,path,score", *lines]))
    tokenize_corpus([str(manifest)], str(tmp_path / "out"), options("parquet"))
    files = sorted(map(str, (tmp_path / "out").glob("*.parquet")))
    stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    decode = mptvc.ShardDecoder()
    found = list(stream)
    assert [row["score"] for row in found] == [str(number) for number in range(VIDEOS)]
    assert all(same(decode(".safetensors", row["data"]), expected[row["key"]]) for row in found)
    table = pq.read_table(files[0])
    assert table["sha256"][0].as_py() == rows(tmp_path / "out")[0]["sha256"]


@pytest.mark.parametrize("format", ["webdataset", "parquet", "safetensors", "mpt"])
@pytest.mark.parametrize("content", ["tokens", "mpt"])
def test_dataset_takes_a_folder_of_shards(
    videos: Path,
    weights: Path,
    tmp_path: Path,
    options: Callable[..., RunOptions],
    expected: Tokens,
    format: str,
    content: str,
) -> None:
    if (format, content) in (("safetensors", "mpt"), ("mpt", "tokens")):
        with pytest.raises(ValueError, match="files hold"):
            options(format, content)
        return
    tokenize_corpus([str(videos)], str(tmp_path), options(format, content))
    windows = mptvc.VideoDataset(tmp_path, frames=4, levels=2, tokens=True, weights=weights)
    wanted = [
        [level[i : i + 1] for level in expected[key][:2]] for key in sorted(expected) for i in range(99)
    ]
    wanted = [window for window in wanted if len(window[0])]
    assert len(windows) == len(wanted)
    assert all(same(windows[i], tuple(window)) for i, window in enumerate(wanted))
    if content == "mpt":
        assert mptvc.VideoDataset(tmp_path, frames=5, weights=weights)[0].shape == (5, 32, 32, 3)
    else:
        with pytest.raises(ValueError, match="holds tokens and no frames"):
            mptvc.VideoDataset(tmp_path, frames=4)


def test_shards_of_weights_with_prediction_hold_files(videos: Path, tmp_path: Path) -> None:
    coding = TokenizerOptions(weights="codec", device="cpu")
    with pytest.raises(mptvc.WeightsError, match="no plain grid"):
        mptvc.Tokenizer(coding)
    run = RunOptions(format="webdataset", coding=replace(coding, content="mpt"))
    tokenize_corpus([str(videos / "v0.mkv")], str(tmp_path), run)
    (row,) = rows(tmp_path)
    assert (row["slices"], row["content"]) == (None, "mpt")
    assert mptvc.VideoDataset(tmp_path, frames=5)[0].shape == (5, 32, 32, 3)
    with pytest.raises(mptvc.WeightsError, match="no plain grid"):
        mptvc.VideoDataset(tmp_path, frames=4, tokens=True)


def test_rows_and_batches_of_any_engine(videos: Path, weights: Path) -> None:
    tokenizer = mptvc.Tokenizer(TokenizerOptions(weights=str(weights), levels=1, device="cpu"))
    rows = [{"path": str(videos / name), "label": name} for name in ("v0.mkv", "broken.mp4")]
    one, bad = (tokenizer(row)[0] for row in rows)
    assert sorted(load(one["data"])) == ["header", "level.0"]
    assert (one["label"], one["frames"], one["error"]) == ("v0.mkv", 5, None)
    assert (bad["data"], bad["error_kind"]) == (None, "cannot be read as video")
    batch = {"path": np.array([r["path"] for r in rows], object), "end_s": np.array([0.1, np.nan])}
    assert tokenizer(batch)["frames"] == [3, None]


@pytest.mark.parametrize("form", ["small", "codec"])
def test_a_joined_film_is_the_film_in_one_piece(
    film: Path, weights: Path, tmp_path: Path, options: Callable[..., RunOptions], form: str
) -> None:
    """Its first frames, to be quick."""
    name, clip, count = (str(weights), None, 64) if form == "small" else ("codec", 10, 30)
    run = options("mpt", "mpt", unit_s=0.6, joins=True)
    run = replace(run, coding=replace(run.coding, weights=name, clip_frames=clip))
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(json.dumps({"key": "film", "path": str(film), "end_s": count / 25}))
    summary = tokenize_corpus([str(manifest)], str(tmp_path / "out"), run)
    codec = mptvc.load(name, device="cpu", clip_frames=clip)
    mptvc.encode_file(film, tmp_path / "one.mpt", codec=codec, duration=count / 25)
    assert len(mptvc.probe(tmp_path / "one.mpt").header.shots.lengths) > 1
    assert (tmp_path / "out" / "film.mpt").read_bytes() == (tmp_path / "one.mpt").read_bytes()
    assert (summary.videos, summary.frames, summary.done_now) == (1, count, 1)
    done = [path.name for path in (tmp_path / "out" / NOTES / "done").iterdir()]
    assert len(done) >= 4  # the film, its parts, and what joined them
    assert not list((tmp_path / "out" / NOTES / "parts").iterdir())


def test_parts_may_keep_their_own_keys(
    film: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    summary = tokenize_corpus([str(film)], str(tmp_path), options(unit_s=1.0))
    found = rows(tmp_path)
    assert [row["key"] for row in found] == [f"film/{number:05}" for number in range(len(found))]
    assert summary.videos == len(found) > 2
    assert sum(row["frames"] for row in found) == 96
    assert len(list(tmp_path.glob("*.tar"))) == -(-len(found) // 2)


def test_a_film_that_is_lost_on_the_way_is_one_error_and_can_be_done_again(
    film: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    source = tmp_path / "film.mkv"
    source.write_bytes(film.read_bytes())
    run = options("mpt", "mpt", unit_s=1.0, joins=True, max_errors="1")
    out = tmp_path / "out"
    summary = tokenize_corpus([str(source)], str(out), run, lambda *_: source.unlink(missing_ok=True))
    assert (summary.videos, summary.failures) == (0, {"no such file": 1})
    assert not (out / "film.mpt").exists()
    source.write_bytes(film.read_bytes())
    assert tokenize_corpus([str(source)], str(out), run).videos == 0
    assert tokenize_corpus([str(source)], str(out), replace(run, retries=True)).videos == 1
    assert (out / "film.mpt").exists()


# What stops a run


@pytest.fixture(scope="module")
def whole(videos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run of tar shards gives that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    coding = TokenizerOptions(weights=str(weights), device="cpu")
    tokenize_corpus([str(videos)], str(folder), RunOptions(format="webdataset", coding=coding, shard_units=2))
    return outputs(folder)


def appeared(process: "subprocess.Popen[bytes]", out: Path, pattern: str) -> None:
    """Wait until a process has made a file."""
    until = time.monotonic() + 60
    while not list(out.glob(pattern)):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_goes_on_without_a_trace(
    videos: Path,
    weights: Path,
    tmp_path: Path,
    options: Callable[..., RunOptions],
    whole: dict[str, bytes],
    jobs: int,
) -> None:
    """In the middle of a unit, which its note tells, or soon after."""
    out = tmp_path / "out"
    arguments = [
        "--format",
        "webdataset",
        "--weights",
        str(weights),
        "--shard-units",
        "2",
        "--jobs",
        str(jobs),
    ]
    command = [sys.executable, "-m", "mptvc", "tokenize", str(videos), "--out", str(out), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        appeared(process, out, f"{NOTES}/tries/*.json")
        process.kill()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    run = options()
    tokenize_corpus([str(videos)], str(out), run)
    assert {path: path.stat().st_mtime_ns for path in before} == before or jobs == 2
    assert outputs(out) == whole
    assert not list(out.rglob("*.part"))


def test_a_second_run_does_only_what_is_missing(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    out, run = tmp_path / "out", options()
    tokenize_corpus([str(videos)], str(out), run)
    before = outputs(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    (out / NOTES / "done" / "shard-000001.jsonl").unlink()
    summary = tokenize_corpus([str(videos)], str(out), run)
    assert outputs(out) == before
    changed = [path.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == ["shard-000001.tar"]
    assert (summary.videos, summary.done_now) == (VIDEOS, 2)
    more = write_video(tmp_path / "more.mkv", moving(5, 32, 32))
    summary = tokenize_corpus([str(videos), str(more)], str(out), run)
    assert (summary.videos, summary.done_now) == (VIDEOS + 1, 1)
    assert {name: data for name, data in outputs(out).items() if name in before and ".tar" in name} == {
        name: data for name, data in before.items() if ".tar" in name
    }


def test_a_worker_that_dies_is_replaced_and_a_video_that_kills_is_an_error(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Whoever finds three notes that a unit was begun does not begin it again."""
    run, out = options(), tmp_path / "out"
    (out / NOTES / "tries").mkdir(parents=True)
    (out / NOTES / "tries" / "shard-000001.json").write_text(json.dumps({"1": 3}))
    summary = tokenize_corpus([str(videos)], str(out), run)
    assert summary.failures == {"cannot be read as video": 1, "workers died": 1}
    assert not list((out / NOTES / "tries").iterdir())


def test_what_stopped_workers_left_is_no_videos_fault(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Actors of an interrupted run are ended without a word: their notes and half files go with the run."""
    out = tmp_path / "out"
    note, half = out / NOTES / "tries" / "shard-000001.json", out / ".shard-000001.tar.0123abcd.part"

    def interrupt(*_: int) -> None:
        note.write_text('{"0": 1}')
        half.touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize_corpus([str(videos)], str(out), options(), interrupt)
    assert not note.exists()
    assert not half.exists()
    assert (out / "shard-000000.tar").exists()


def test_processes_give_the_bytes_of_this_one_though_a_worker_is_killed(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    out = tmp_path / "out"

    def kill(done: int, _total: int) -> None:
        if done == 1:
            children = [
                int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if is_worker(path)
            ]
            os.kill(children[0], signal.SIGKILL)

    tokenize_corpus([str(videos)], str(out), options(jobs=2, shard_units=1), kill)
    tokenize_corpus([str(videos)], str(tmp_path / "whole"), options(shard_units=1))
    assert outputs(out) == outputs(tmp_path / "whole")


def is_worker(stat: Path) -> bool:
    """Whether a process is a worker of this one."""
    try:
        parent = int(stat.read_text().rpartition(")")[2].split()[1])
        return parent == os.getpid() and b"spawn_main" in (stat.parent / "cmdline").read_bytes()
    except OSError:
        return False


def test_two_runs_on_one_folder_do_not_mix(
    videos: Path, weights: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    out, run = tmp_path / "out", options()
    refused = []

    def second(*_: int) -> None:
        with pytest.raises(mptvc.MptError) as error:
            tokenize_corpus([str(videos)], str(out), run)
        refused.append(str(error.value))

    tokenize_corpus([str(videos)], str(out), run, second)
    assert all("another run is at work" in text for text in refused)
    assert len(refused) == 3
    with pytest.raises(ValueError, match="was begun with format webdataset"):
        tokenize_corpus([str(videos)], str(out), options("parquet"))
    with pytest.raises(mptvc.MptError, match="holds a run already"):
        tokenize_corpus([str(videos)], str(out), replace(run, resumes=False))
    with pytest.raises(mptvc.MptError, match="holds other files"):
        tokenize_corpus([str(videos)], str(videos), run)


def test_shares_are_done_apart_and_make_the_whole(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    found = [
        tokenize_corpus([str(videos)], str(tmp_path), options(share=Share(index, 3))).videos
        for index in range(3)
    ]
    assert sum(found) == VIDEOS
    files = tmp_path.glob("rows-*-of-00003.jsonl")
    keys = [json.loads(line)["key"] for path in files for line in path.read_text().splitlines()]
    assert sorted(keys) == ["below/v.4", "broken", "v0", "v1", "v2", "v3"]
    with pytest.raises(ValueError, match="was begun with shares 3"):
        tokenize_corpus([str(videos)], str(tmp_path), options(share=Share(0, 2)))


def test_a_full_disk_stops_the_run_and_leaves_no_half_shard(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "sys.argv[0] = 'mptvc'\n"
        "from mptvc.cli.main import main\n"
        "main()"
    )
    arguments = ["tokenize", videos, "--out", out, "--format", "webdataset", "--weights", weights]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == FAILED
    assert done.stderr.startswith("error: cannot write ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in out.iterdir() if path.name != NOTES] == ["tokenize.json"]
    assert not list(out.rglob("*.part"))


def make_bad_videos(folder: Path) -> dict[str, str | None]:
    """A video for each way to be bad, and the kind of its failure; None where it is coded with a warning."""
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all")
    with av.open(folder / "sound.mkv", "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        samples = AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        out.mux(stream.encode(samples))
    for name, size in (("small.ts", 32), ("wide.ts", 64)):
        write_encoded(folder / name, "libx264", "yuv420p", size)
    (folder / "grows.ts").write_bytes((folder / "small.ts").read_bytes() + (folder / "wide.ts").read_bytes())
    write_encoded(folder / "deep.mkv", "ffv1", "yuv420p10le", 32)
    write_encoded(folder / "alpha.mkv", "ffv1", "yuva444p", 32)
    whole = write_encoded(folder / "whole.mkv", "ffv1", "yuv420p", 32, frames=40).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    write_video(folder / "tiny.mkv", moving(1, 1, 1))
    refused = {
        "empty": "cannot be read as video",
        "text": "cannot be read as video",
        "sound": "no video stream",
        "grows": "frame N is NxN after NxN",
        "deep": "10-bit video",
    }
    return refused | dict.fromkeys(("small", "wide", "alpha", "whole", "cut", "tiny"))


def write_encoded(path: Path, codec: str, pix_fmt: str, size: int, frames: int = 6) -> Path:
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = size, 32, pix_fmt
        for number, pixels in enumerate(moving(frames, 32, size)):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_every_kind_of_bad_video_is_a_row(tmp_path: Path, options: Callable[..., RunOptions]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    expected = make_bad_videos(source)
    tokenize_corpus([str(source)], str(tmp_path / "out"), options())
    found = {row["key"]: row for row in rows(tmp_path / "out")}
    assert {key: row["error_kind"] for key, row in found.items()} == expected
    assert all(row["error"].startswith(f"{row['source']}: ") for row in found.values() if row["error"])
    assert [key for key, row in found.items() if row["warnings"]] == ["cut"]
    assert found["tiny"]["frames"] == 1
    strict = options(strict=True)
    tokenize_corpus([str(source)], str(tmp_path / "strict"), strict)
    bad = [row["key"] for row in rows(tmp_path / "strict") if row["error"]]
    assert bad == sorted(key for key, kind in expected.items() if kind or key == "cut")


def test_an_interrupted_command_leaves_no_half_file_and_no_process(
    videos: Path,
    weights: Path,
    tmp_path: Path,
    options: Callable[..., RunOptions],
    whole: dict[str, bytes],
) -> None:
    out = tmp_path / "out"
    arguments = ["--format", "webdataset", "--weights", str(weights), "--shard-units", "2", "--jobs", "2"]
    command = [sys.executable, "-m", "mptvc", "tokenize", str(videos), "--out", str(out), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        appeared(process, out, f"{NOTES}/tries/*.json")
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode in (130, FAILED)  # one video is broken, if it came too late
    assert process.returncode == FAILED or error == b"error: interrupted\n"
    assert not list(out.rglob("*.part"))
    assert not [path for path in Path("/proc").glob("[0-9]*") if str(out).encode() in command_line(path)]
    tokenize_corpus([str(videos)], str(out), options())
    assert outputs(out) == whole


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_too_many_errors_stop_the_run(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    with pytest.raises(mptvc.MptError, match="1 videos failed, more than the 1% of max_errors=;"):
        tokenize_corpus([str(videos)], str(tmp_path), options(max_errors="1%"))
    assert tokenize_corpus([str(videos)], str(tmp_path), options(max_errors="20%")).failed == 1


# Which videos


def keys(*sources: object) -> list[str]:
    return [unit.key for unit in read_units(map(str, sources))]


def test_sources_are_folders_patterns_lists_and_manifests(videos: Path, tmp_path: Path) -> None:
    every = ["below/v.4", "broken", "v0", "v1", "v2", "v3"]
    assert sorted(keys(videos)) == sorted(keys(videos, videos)) == every
    assert keys(videos / "v[01].mkv") == ["v0", "v1"]
    assert keys(videos.parent / f"{videos.name[:-1]}?" / "v1.mkv") == [f"{videos.name}/v1"]
    (videos.parent / "list.txt").write_text(f"\n{videos.name}/v0.mkv\n{videos}/v1.mkv\n")
    units = read_units([str(videos.parent / "list.txt")])
    assert [unit.path for unit in units] == [str(videos / "v0.mkv"), str(videos / "v1.mkv")]
    assert [unit.source for unit in units] == [f"{videos.name}/v0.mkv", str(videos / "v1.mkv")]
    assert units[0].key == f"{videos.name}/v0"
    rows = [{"key": "a", "path": "v0.mkv", "start_s": 0.1, "end_s": None, "tags": [1], "n": 2}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    for name in ("m.jsonl", "m.parquet"):
        (unit,) = read_units([str(tmp_path / name)])
        assert (unit.key, unit.start_s, unit.end_s) == ("a", 0.1, None)
        assert unit.extra == {"tags": "[1]", "n": 2}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "key,file\na,b.mkv\n", "row 1 has no path"),
        ("m.csv", "key,path,frames\na,b.mkv,3\n", "frames is a column of the results"),
        ("m.csv", "key,path\n../a,b.mkv\n", "'../a' is no key"),
        ("m.csv", "key,path\n.mptvc/a,b.mkv\n", "is no key"),
        ("m.csv", "key,path\na/.b,b.mkv\n", "is no key"),
        ("m.csv", "key,path\na//b,b.mkv\n", "is no key"),
        ("m.csv", f"key,path\n{'日' * 70},b.mkv\n", "too long a key"),
        ("m.csv", f"key,path\n{'abcdefghi/' * 100}a,b.mkv\n", "too long a key"),
        ("m.csv", "key,path\na,b.mkv,c\n", "row 1 has more fields than there are columns"),
        ("m.csv", f"path\n{'a' * 200_000}\n", "no CSV"),
        ("m.jsonl", '{"path": "a.mkv", "key": "a\\ud800"}', "is no key"),
        ("m.jsonl", '{"path": "a.mkv", "start_s": true}', "start_s is 0 or more seconds"),
        ("m.csv", "key,path\na,b.mkv\na,c.mkv\n", "the key a is that of"),
        ("m.csv", "key,path,start_s\na,b.mkv,soon\n", "start_s is 0 or more seconds, found 'soon'"),
        ("m.csv", "key,path,start_s,end_s\na,b.mkv,3,2\n", "end_s is above start_s"),
        ("m.jsonl", "{", "line 1 is no JSON"),
        ("m.jsonl", "[1]", "line 1 is no object"),
        ("m.parquet", "PAR1", "no Parquet file"),
        ("m.txt", "", "no video files found"),
        ("m.txt", None, "No such file"),
    ],
)
def test_a_bad_manifest_is_one_clear_error(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, mptvc.VideoError)) as error:
        read_units([str(tmp_path / name)])
    assert message in str(error.value)


def test_names_of_files_become_keys_whatever_they_are(videos: Path, tmp_path: Path) -> None:
    """What no key may hold is replaced, and what is too long for one is cut: one file stops no corpus."""
    for name in (os.fsdecode(b"b\xffad"), "back\\slash", "n" * 240, "x\ny"):
        (tmp_path / f"{name}.mkv").write_bytes((videos / "v0.mkv").read_bytes())
    long, *others = sorted(keys(tmp_path), key=len, reverse=True)
    assert sorted(others) == ["b_ad", "back_slash", "x_y"]
    assert (long[:190], len(long)) == ("n" * 190, 199)
    listed = tmp_path / "list.txt"
    listed.write_text("/far/.cache/film.mkv\n")
    assert keys(listed) == ["far/_cache/film"]


def test_further_columns_hold_what_every_format_holds(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Numbers that JSON or a table cannot hold, and half characters."""
    manifest = tmp_path / "m.jsonl"
    line = (
        '{"path": "%s", "key": "a", "n": NaN, "f": Infinity, "big": 99999999999999999999, "text": "x\\ud800"}'
    )
    manifest.write_text(line % (videos / "v0.mkv"))
    for format in ("parquet", "webdataset"):
        tokenize_corpus([str(manifest)], str(tmp_path / format), options(format))
        (row,) = rows(tmp_path / format)
        found = (row["n"], row["f"], row["big"], row["text"])
        assert found == (None, None, "99999999999999999999", "x?")


def test_an_empty_name_is_no_folder(videos: Path, tmp_path: Path, options: Callable[..., RunOptions]) -> None:
    """Such as that of a variable that is not set: it would be the current one."""
    for sources, out in ((["", str(videos)], str(tmp_path)), ([str(videos)], "")):
        with pytest.raises(ValueError, match="found an empty name"):
            tokenize_corpus(sources, out, options())


def test_where_a_corpus_lies_changes_no_byte(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Nor does a move on the way keep a run from going on; other videos of the same names do."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(videos, here)
    run, out = options(), tmp_path / "out"
    tokenize_corpus([str(here)], str(out), run)
    assert str(tmp_path) not in (out / "rows.jsonl").read_text()
    before = outputs(out)
    shutil.copytree(here, there)
    with pytest.raises(ValueError, match=f"below/v.4 was {here}/below/v.4.mkv before"):
        tokenize_corpus([str(there)], str(out), run)
    shutil.rmtree(here)
    (out / NOTES / "done" / "shard-000001.jsonl").unlink()
    assert tokenize_corpus([str(there)], str(out), run).done_now == 2
    assert outputs(out) == before


def test_weights_may_have_another_name_and_no_other_value(
    videos: Path, weights: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    run, moved = options(), tmp_path / "moved"
    tokenize_corpus([str(videos)], str(tmp_path / "out"), run)
    shutil.copytree(weights, moved)
    again = replace(run, coding=replace(run.coding, weights=str(moved)))
    assert tokenize_corpus([str(videos)], str(tmp_path / "out"), again).done_now == 0
    other = replace(run, coding=replace(run.coding, weights="tokenizer"))
    with pytest.raises(ValueError, match=f"was begun with weights {weights}, now it is tokenizer"):
        tokenize_corpus([str(videos)], str(tmp_path / "out"), other)
    (tmp_path / "out" / "tokenize.json").write_text("{")
    with pytest.raises(mptvc.MptError, match=r"tokenize\.json is damaged"):
        tokenize_corpus([str(videos)], str(tmp_path / "out"), run)


def test_a_part_of_a_film_has_a_key_that_no_video_has(
    film: Path, videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"key,path\nfilm,{film}\nfilm/00001,{videos}/v0.mkv\n")
    with pytest.raises(ValueError, match="film/00001 may be the key of a part of film"):
        tokenize_corpus([str(manifest)], str(tmp_path / "out"), options("safetensors"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_or_a_folder_in_a_list_is_an_error_at_once(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Nobody would ever write into it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "list.txt").write_text(f"pipe\n{videos}\n")
    summary = tokenize_corpus([str(tmp_path / "list.txt")], str(tmp_path / "out"), options())
    assert summary.failures == {"no file but a folder, a device or a pipe": 2}


def test_sound_is_said_to_be_left_out(
    tmp_path: Path, options: Callable[..., RunOptions], cli: Cli, weights: Path
) -> None:
    with av.open(tmp_path / "talks.mkv", "w") as out:
        stream, voice = out.add_stream("ffv1", rate=25), out.add_stream("pcm_s16le", rate=8000)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for pixels in moving(5, 32, 32):
            out.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode(None))
        samples = AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        out.mux(voice.encode(samples))
    for format, content, warning in (
        ("mpt", "mpt", "sound and subtitles are left out"),
        ("webdataset", "tokens", ""),
    ):
        tokenize_corpus([str(tmp_path / "talks.mkv")], str(tmp_path / format), options(format, content))
        (row,) = rows(tmp_path / format)
        assert (row["frames"], row["warnings"]) == (5, warning)


def test_a_manifest_names_spans_and_columns_that_travel_along(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        f"key,path,start_s,end_s,caption\na,{videos}/v3.mkv,0.08,0.2,first\nb,{videos}/v3.mkv,,,\n"
    )
    tokenize_corpus([str(manifest)], str(tmp_path / "out"), options())
    a, b = rows(tmp_path / "out")
    assert (a["frames"], a["caption"], a["start_s"], a["end_s"]) == (3, "first", 0.08, pytest.approx(0.2))
    assert (b["frames"], b["caption"]) == (8, "")


# Addresses


def test_videos_behind_addresses(
    videos: Path, tmp_path: Path, server: RangeServer, options: Callable[..., RunOptions]
) -> None:
    (tmp_path / "v0.mkv").write_bytes((videos / "v0.mkv").read_bytes())
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{server.url}/v0.mkv\n{server.url}/missing.mkv\n")
    tokenize_corpus([str(manifest)], str(tmp_path / "out"), options("mpt", "mpt"))
    good, bad = sorted(rows(tmp_path / "out"), key=lambda row: row["frames"] or 99)
    assert (good["frames"], good["error"]) == (5, None)
    assert bad["error"] == f"{server.url}/missing.mkv: 404 Not Found"
    assert bad["error_kind"] == "404 Not Found"
    (tmp_path / "list.csv").write_text("path,key\nv0.mkv,far\n")
    assert (
        tokenize_corpus([f"{server.url}/list.csv"], str(tmp_path / "far"), options("mpt", "mpt")).videos == 1
    )
    assert [(row["key"], row["source"]) for row in rows(tmp_path / "far")] == [("far", "v0.mkv")]
    assert (tmp_path / "far" / "far.mpt").read_bytes() == (tmp_path / "out" / good["file"]).read_bytes()


class Far(MemoryFileSystem):
    """A store whose open files have a method ``url``, as those of the Hub have."""

    protocol = "far"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("far://").strip("/")

    def _open(self, path: str, *arguments: Any, **more: Any) -> Any:
        return FarFile(super()._open(path, *arguments, **more).getvalue())


class FarFile(BytesIO):
    def url(self) -> str:
        return "https://far.invalid"

    def read(self, size: int | None = -1, /) -> bytes:
        assert self.url().startswith("https://")
        return super().read(size)


def test_a_store_keeps_what_its_files_have(
    videos: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    fsspec.register_implementation("far", Far, clobber=True)
    MemoryFileSystem().pipe("/far/v0.mkv", (videos / "v0.mkv").read_bytes())
    MemoryFileSystem().pipe("/far/text.mp4", b"no video")
    tokenize_corpus(["far://far"], str(tmp_path / "out"), options("mpt", "mpt"))
    bad, good = rows(tmp_path / "out")
    assert (good["frames"], good["error"]) == (5, None)
    assert bad["error"].startswith("text.mp4: cannot be read as video")


def test_an_address_holds_what_a_folder_would(
    videos: Path, film: Path, tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    """Through a file system of fsspec; a second run finds what the first has done."""
    memory = fsspec.filesystem("memory")
    for path in videos.rglob("*.m*"):
        memory.pipe(f"/videos/{path.relative_to(videos)}", path.read_bytes())
    memory.pipe("/videos/film.mkv", film.read_bytes())
    run = options("mpt", "mpt", unit_s=1.0, joins=True)
    for again in (False, True):
        summary = tokenize_corpus(["memory://videos"], "memory://out", run)
        assert (summary.videos, summary.done_now) == (VIDEOS + 1, 0 if again else VIDEOS + 1)
    tokenize_corpus([str(videos), str(film)], str(tmp_path / "local"), run)
    local = {name: data for name, data in outputs(tmp_path / "local").items() if name != "rows.jsonl"}
    assert {name: memory.cat(f"/out/{name}") for name in local} == local
    assert memory.exists("/out/rows.jsonl")
    assert not memory.find("/out/.mptvc/parts")
    with pytest.raises(mptvc.MptError, match="holds other files"):
        tokenize_corpus([str(videos)], "memory://videos", run)
    assert tokenize_corpus(["memory://videos/v[01].mkv"], "memory://few", run).videos == 2
    assert tokenize_corpus([str(videos / "v0.mkv")], f"file://{tmp_path}/file", run).videos == 1


class Buckets(MemoryFileSystem):
    """A store that makes a bucket where a folder is asked for, as those of clouds do."""

    protocol = ("gs", "gcs")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")

    def put_file(self, lpath: str, rpath: str, *arguments: Any, **more: Any) -> None:
        if not self.exists("/" + rpath.split("/")[1]):
            raise FileNotFoundError("The specified bucket does not exist")
        super().put_file(lpath, rpath, *arguments, **more)


def test_a_bucket_that_is_not_there_is_an_error_before_any_work_and_is_not_made(
    videos: Path, options: Callable[..., RunOptions]
) -> None:
    fsspec.register_implementation("gs", Buckets, clobber=True)
    done: list[int] = []
    with pytest.raises(
        mptvc.MptError, match=r"^gs://misspelled/out: there is no such bucket; make it first$"
    ):
        tokenize_corpus([str(videos / "v0.mkv")], "gs://misspelled/out", options(), lambda *_: done.append(1))
    assert not done
    memory = fsspec.filesystem("memory")
    assert not memory.exists("/misspelled")
    memory.mkdir("/spelled")
    assert tokenize_corpus([str(videos / "v0.mkv")], "gs://spelled/out", options()).videos == 1
    assert memory.exists("/spelled/out/shard-000000.tar")


def test_an_unknown_kind_of_address_is_one_clear_error(
    tmp_path: Path, options: Callable[..., RunOptions]
) -> None:
    with pytest.raises(mptvc.MptError, match="nowhere"):
        tokenize_corpus(["nowhere://bucket/videos"], str(tmp_path), options())


# The command


def test_the_command_says_what_it_did(cli: Cli, videos: Path, weights: Path, tmp_path: Path) -> None:
    arguments = [videos, "--out", "out", "--format", "parquet", "--weights", weights, "--levels", 1]
    dry = cli("tokenize", *arguments, "--dry-run", "--json")
    assert json.loads(dry.out) == {"videos": 6, "tasks": 1, "missing": 1}
    assert not (tmp_path / "out").exists()
    assert is_one_error(cli("tokenize", *arguments, "--levels", 4, "--dry-run"))
    result = cli("tokenize", *arguments, "--json")
    summary = json.loads(result.out)
    assert result.code == FAILED  # one video is broken
    assert (summary["videos"], summary["failed"]) == (VIDEOS, 1)
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {**stored, "output": "out"} == summary
    shown = cli("tokenize", *arguments)
    assert "5 videos done, 0 now, 1 failed" in shown.err
    assert "cannot be read as video" in shown.err
    assert json.loads(cli("tokenize", *arguments, "--dry-run", "--json").out)["missing"] == 0
    other = cli("tokenize", *arguments, "--quality", 2, "--dry-run")
    assert is_one_error(other)
    assert "was begun with quality 0.0, now it is 2.0" in other.err
    (tmp_path / "file").touch()
    assert "file is no folder" in cli("tokenize", videos, "--out", "file", "--dry-run").err
    lost = cli("tokenize", videos, "--out", "/dev/null/out", "--weights", weights)
    assert is_one_error(lost)
    assert "cannot make /dev/null/out" in lost.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "4/4"), "--shard is I/N with I from 0"),
        (("--shard", "4"), "--shard is I/N"),
        (("--max-errors", "few"), "--max-errors is a number or a share"),
        (("--format", "safetensors", "--content", "mpt"), "files hold"),
        (("--format", "parquet", "--parts", "join"), "joined in .mpt files"),
        (("--levels", "4"), "--levels is 1 to 3"),
        (("--bpp", "0.1"), "bits per pixel are 3 numbers"),
    ],
)
def test_wrong_options_are_one_error(
    cli: Cli, videos: Path, weights: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = cli("tokenize", videos, "--out", "out", "--weights", weights, *arguments)
    assert result.code == USAGE
    assert is_one_error(result)
    assert message in result.err
