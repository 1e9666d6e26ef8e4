"""A corpus on a real Ray on this machine: two workers, one is killed, and the bytes of the local engine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patterns import moving, write_video
from safetensors.numpy import load

import mptvc
from mptvc.corpus.run import RunOptions, tokenize_corpus
from mptvc.corpus.tokenizer import TokenizerOptions

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"
)

VIDEOS, BROKEN = 60, 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")  # or it leaves a file in the user's home
    patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray

    yield ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=2**27,
        logging_level="error",
    )
    ray.shutdown()
    patch.undo()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty videos, three of them broken: no video at all, an empty file, one without its end."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(VIDEOS - BROKEN):
        write_video(folder / f"v{number:02}.mkv", moving(4 + number % 3, 32, 32))
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "cut.mkv").write_bytes((folder / "v00.mkv").read_bytes()[:300])
    return folder


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*folder.glob("*.tar"), folder / "rows.jsonl"]}


def kill_one_worker() -> None:
    """Of those that Ray has started for the data set."""
    for folder in Path("/proc").glob("[0-9]*"):
        if b"ray::MapWorker" in (folder / "cmdline").read_bytes():
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError("there is no worker")


@pytest.mark.usefixtures("cluster")
def test_ray_gives_the_bytes_of_the_local_engine_though_a_worker_is_killed(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    run = RunOptions(
        format="webdataset",
        coding=TokenizerOptions(weights=str(weights), levels=2, device="cpu"),
        shard_units=4,
        engine="ray",
        jobs=2,
    )
    seen: list[int] = []

    def kill_once(done: int, _total: int) -> None:
        if not seen:
            kill_one_worker()
        seen.append(done)

    summary = tokenize_corpus([str(videos)], str(tmp_path / "ray"), run, kill_once)
    assert (summary.videos, summary.failed, summary.done_now) == (VIDEOS - BROKEN, BROKEN, VIDEOS - BROKEN)
    assert sum(summary.failures.values()) == BROKEN
    assert seen[-1] == VIDEOS
    local = RunOptions(format="webdataset", coding=run.coding, shard_units=4)
    tokenize_corpus([str(videos)], str(tmp_path / "local"), local)
    whole = shards(tmp_path / "local")
    assert len(whole) == 16
    assert shards(tmp_path / "ray") == whole
    for number in (3, 11):  # what one engine left, another does
        (tmp_path / "ray" / ".mptvc" / "done" / f"shard-{number:06}.jsonl").unlink()
    assert tokenize_corpus([str(videos)], str(tmp_path / "ray"), local).done_now == 8
    assert shards(tmp_path / "ray") == whole


@pytest.mark.usefixtures("cluster")
def test_ray_data_takes_the_tokenizer_as_it_is(videos: Path, weights: Path) -> None:
    from ray import data

    options = TokenizerOptions(weights=str(weights), levels=1, device="cpu")
    rows = [{"path": str(videos / name), "label": name} for name in ("v00.mkv", "v01.mkv", "text.mp4")]
    how = {"fn_constructor_args": (options,), "concurrency": 1}
    flat = data.from_items(rows).flat_map(mptvc.Tokenizer, **how)
    batched = data.from_items(rows).map_batches(mptvc.Tokenizer, batch_size=2, **how)
    found = flat.union(batched).take_all()
    for name, frames in (("v00.mkv", 4), ("v01.mkv", 5)):
        twice = [row for row in found if row["label"] == name]
        assert [row["frames"] for row in twice] == [frames, frames]
        assert len({row["sha256"] for row in twice}) == 1
        assert load(twice[0]["data"])["level.0"].shape[0] == -(-frames // 4)
    assert [row["error_kind"] for row in found if row["error"]] == ["cannot be read as video"] * 2
