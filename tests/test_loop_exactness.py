"""Files with prediction under every instruction set, thread count and type; this file is also the program."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_exactness import DTYPES, SETTINGS, Worker, ask_all, main, started
from test_loop_bits import moved

import mptvc
import mptvc.codec.loop_encoder
from mptvc.codec.decoder import Decompressor
from mptvc.codec.loop_encoder import _ClipEncoder
from mptvc.codec.slices import CodedSlice

SHOTS = [7, 1, 6]
#: How threads and types of the networks change from process to process.
THREADS = (1, 2)
#: Decibels by which a decoder's pixels may change what a video is worth, over a whole clip.
TOLERANCE_DB = 0.1


class Recording(_ClipEncoder):
    """Remembers the symbols that encoders have chosen, of every level."""

    made: tuple[Any, ...] = ()

    def _code_level(self, level: int, *args: Any) -> list[CodedSlice]:
        coded = super()._code_level(level, *args)
        for picture in chain.from_iterable(one.pictures for one in coded):
            side = [] if (s := picture.side) is None else [s.coefficients, s.choices, s.vectors]
            for symbols in (picture.fineness, *side, picture.symbols):
                self.made[level].update(np.ascontiguousarray(symbols.numpy()).tobytes())
        return coded


class Program:
    """What a process does for the tests."""

    def facts(self) -> str:
        """A hash of what floating point gives here."""
        rng = torch.Generator().manual_seed(0)
        product = torch.randn(300, 200, generator=rng) @ torch.randn(200, 300, generator=rng)
        return hashlib.sha256(product.numpy().tobytes()).hexdigest()

    def encode(self, frames: str, target: str, shots: list[int], threads: int, dtype: str) -> list[str]:
        """Encode an array to a file; digests of the encoder's own symbols."""
        torch.set_num_threads(threads)
        mptvc.codec.loop_encoder._ClipEncoder = Recording  # type: ignore[misc]
        Recording.made = tuple(hashlib.sha256() for _ in range(3))
        codec = mptvc.load("codec", device="cpu", dtype=dtype, clip_frames=6)
        Path(target).write_bytes(codec.compress(np.load(frames), shots=shots))
        return [digest.hexdigest() for digest in Recording.made]

    def read(self, source: str, threads: int, dtype: str) -> list[str]:
        """Digests of a file's symbols."""
        torch.set_num_threads(threads)
        return mptvc.symbol_digests(source, codec=mptvc.load("codec", device="cpu", dtype=dtype))

    def psnr(self, source: str, frames: str, threads: int, dtype: str) -> list[float]:
        """Decibels of every prefix."""
        torch.set_num_threads(threads)
        codec, wanted = mptvc.load("codec", device="cpu", dtype=dtype), np.load(frames).astype(np.float64)
        data = Path(source).read_bytes()
        pieces = list(Decompressor(codec.coder, BytesIO(data), len(data)).pieces(0))
        found = (np.concatenate([piece.frames(k) for piece in pieces]) for k in (1, 2, 3))
        return [float(10 * np.log10(255**2 / np.square(f - wanted).mean())) for f in found]


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield started(stack, SETTINGS, __file__)


def test_files_of_every_setting_are_read_by_every_other(workers: list[Worker], tmp_path: Path) -> None:
    if len(workers) > 1:
        assert len(set(ask_all(workers, "facts", [{}] * len(workers)))) > 1, "all compute the same way"
    np.save(tmp_path / "frames.npy", moved(sum(SHOTS), 1.3, -0.6, 48))
    files = [str(tmp_path / f"{worker.name}.mpt") for worker in workers]
    setting = {"frames": str(tmp_path / "frames.npy"), "shots": SHOTS}
    asked = [
        setting | {"target": file, "threads": THREADS[i % 2], "dtype": DTYPES[i // 2 % 2]}
        for i, file in enumerate(files)
    ]
    made = ask_all(workers, "encode", asked)
    for turn, (file, digests) in enumerate(zip(files, made, strict=True)):
        asked = [
            {"source": file, "threads": THREADS[(turn + i) % 2], "dtype": DTYPES[(turn + i) // 2 % 2]}
            for i in range(len(workers))
        ]
        for worker, found in zip(workers, ask_all(workers, "read", asked), strict=True):
            assert found == digests, f"{file} read by {worker.name}"


def test_pixels_elsewhere_are_worth_as_much_at_the_end_of_a_clip(
    workers: list[Worker], tmp_path: Path
) -> None:
    frames = moved(97, 0.3, 0.45, 32)
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "a.mpt").write_bytes(mptvc.load("codec", device="cpu").compress(frames))
    setting = {"source": str(tmp_path / "a.mpt"), "frames": str(tmp_path / "frames.npy"), "threads": 1}
    asked = [setting | {"dtype": DTYPES[i % 2]} for i in range(len(workers))]
    for levels in zip(*ask_all(workers, "psnr", asked), strict=True):
        assert max(levels) - min(levels) < TOLERANCE_DB


if __name__ == "__main__":
    main(Program())
