"""Windows from many files, for threads and for workers of every kind."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from range_server import RangeServer
from torch.utils.data import DataLoader

import mptvc
from mptvc.codec.stored import write_weights
from mptvc.files import dataset
from mptvc.model.model import Model

#: More than stay open at a time.
FILES = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_model: Model) -> Path:
    """Small weights, and files of 12 frames that they code."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(3)
    write_weights(small_model, folder / "weights")
    codec = mptvc.load(folder / "weights", device="cpu")
    for number in range(FILES):
        frames = rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
        (folder / f"{number:02d}.mpt").write_bytes(codec.compress(frames))
    return folder


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mpt"))


@pytest.fixture(scope="module")
def whole(folder: Path, paths: list[Path]) -> np.ndarray:
    """All windows of four frames."""
    codec = mptvc.load(folder / "weights", device="cpu")
    return np.concatenate([codec.decompress(path.read_bytes()).frames for path in paths]).reshape(
        -1, 4, 16, 16, 3
    )


@pytest.fixture
def windows(folder: Path, paths: list[Path]) -> mptvc.VideoDataset:
    return mptvc.VideoDataset(paths, frames=4, weights=folder / "weights")


def wrong(windows: mptvc.VideoDataset, whole: np.ndarray, order: list[int], threads: int) -> list[int]:
    """Items that are not what they should be."""
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda index: windows[index], order)
        return [i for i, item in zip(order, found, strict=True) if not np.array_equal(item, whole[i])]


def test_threads_get_their_own_windows(windows: mptvc.VideoDataset, whole: np.ndarray) -> None:
    """Files were closed because there were too many while others still read from them."""
    assert len(windows) == len(whole) == 3 * FILES
    order = np.random.default_rng(1).integers(0, len(whole), 240).tolist()
    assert wrong(windows, whole, order, threads=6) == []


def test_threads_that_come_together_load_the_weights_once(
    windows: mptvc.VideoDataset, whole: np.ndarray
) -> None:
    dataset._codec.cache_clear()
    dataset._readers.forget()
    assert wrong(windows, whole, list(range(8)), threads=8) == []
    assert dataset._codec.cache_info().misses == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_get_their_own_windows(windows: mptvc.VideoDataset, whole: np.ndarray, method: str) -> None:
    """Of files that their parent has open too."""
    assert wrong(windows, whole, list(range(len(whole))), threads=3) == []
    loader = DataLoader(windows, batch_size=3, num_workers=2, multiprocessing_context=method)
    assert np.array_equal(torch.cat(list(loader)), whole)


def test_a_worker_does_not_wait_for_a_thread_that_it_has_not(
    windows: mptvc.VideoDataset, whole: np.ndarray
) -> None:
    """A process is forked while another thread takes a reader."""
    expected = torch.from_numpy(whole[5])
    process = multiprocessing.get_context("fork").Process(
        target=lambda: exit(0 if torch.equal(windows[5], expected) else 1)  # type: ignore[arg-type]
    )
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with dataset._readers._lock:
        process.start()
    process.join(60)
    torch.set_num_threads(torch_threads)
    code = process.exitcode
    process.kill()
    assert code == 0


def test_few_files_stay_open(windows: mptvc.VideoDataset, whole: np.ndarray) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        assert wrong(windows, whole, list(range(len(whole))), threads=4) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 8


def test_damage_names_its_file(folder: Path, tmp_path: Path, paths: list[Path]) -> None:
    data = bytearray(paths[0].read_bytes())
    data[-3] ^= 1
    damaged, gone = tmp_path / "damaged.mpt", tmp_path / "gone.mpt"
    damaged.write_bytes(data)
    gone.write_bytes(paths[1].read_bytes())
    windows = mptvc.VideoDataset([damaged, gone], frames=12, weights=folder / "weights")
    gone.unlink()
    for index, path, kind in ((0, damaged, mptvc.CorruptPacketError), (1, gone, mptvc.MptError)):
        with pytest.raises(kind, match=f"^{path}: ") as caught:
            windows[index]
        assert str(caught.value).count(str(path)) == 1


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer.running(folder) as running:
        yield running


def test_files_may_have_addresses(
    folder: Path, paths: list[Path], whole: np.ndarray, server: RangeServer
) -> None:
    addresses = [f"{server.url}/{path.name}" for path in paths[:3]]
    windows = mptvc.VideoDataset(addresses, frames=4, weights=folder / "weights")
    assert wrong(windows, whole, list(range(9)), threads=3) == []
