"""Files with prediction give the same symbols and pixels under every instruction set, thread count and type.

This file is also the program; as ``test_exactness.py``.
"""

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
from test_exactness import DTYPES, SETTINGS, Worker, ask_all, main, require_cuda, started
from test_loop_bits import moved

import mptvc
import mptvc.codec.loop_encoder
from mptvc.codec.clip_encoder import ClipEncoder
from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.slices import CodedSlice
from mptvc.model.activity import LARGEST
from mptvc.model.loop_model import Kind

SHOTS = [7, 1, 6]
#: How threads and types of the networks change from process to process.
THREADS = (1, 2)


class Recording(ClipEncoder):
    """Remembers the symbols that encoders have chosen, of every level."""

    made: tuple[Any, ...] = ()

    def _coded(self, level: int, *args: Any) -> list[CodedSlice]:
        coded = super()._coded(level, *args)
        for picture in chain.from_iterable(one.pictures for one in coded):
            side = [] if (s := picture.side) is None else [s.coefficients, s.choices, s.vectors]
            left, strength = picture.residual, torch.tensor(picture.strength)
            for symbols in (picture.fineness, *side, left.quartered, left.symbols, strength):
                self.made[level].update(np.ascontiguousarray(symbols.numpy()).tobytes())
        return coded


class Program:
    """What a process does for the tests."""

    def facts(self) -> str:
        """A hash of what floating point gives here."""
        rng = torch.Generator().manual_seed(0)
        product = torch.randn(300, 200, generator=rng) @ torch.randn(200, 300, generator=rng)
        return hashlib.sha256(product.numpy().tobytes()).hexdigest()

    def transform(self, threads: int) -> list[str]:
        """A hash of what is made of the largest symbols, for tokens of each size."""
        torch.set_num_threads(threads)
        rng, found = torch.Generator().manual_seed(0), []
        for patch in (4, 8, 16):
            kind = Kind(patch, restores=True)
            symbols = torch.randint(-LARGEST, LARGEST + 1, (999, kind.channels), generator=rng)
            latents = kind.restored(symbols, torch.randint(1, 999, (999,), generator=rng) / 256)
            pixels = kind.pixels(latents, torch.arange(999) % 2 == 0)
            assert kind.restoration is not None
            filters = kind.restoration.filters
            filters.copy_(torch.randint(-999, 999, filters.shape, generator=rng))
            picture = torch.randint(0, 256, (3, 8 * patch, 8 * patch), generator=rng, dtype=torch.uint8)
            coded, steps = torch.ones(8, 8, dtype=torch.bool), torch.full((8, 8), 99.0)
            restored = kind.restoration(picture, picture.flip(1), coded, steps)
            found += [hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in (pixels, restored)]
        return found

    def encode(self, frames: str, target: str, shots: list[int], threads: int, dtype: str) -> list[list[str]]:
        """Encode an array to a file; as ``digests_of`` it, but of the encoder's own symbols."""
        torch.set_num_threads(threads)
        mptvc.codec.loop_encoder.ClipEncoder = Recording  # type: ignore[misc]
        Recording.made = tuple(hashlib.sha256() for _ in range(3))
        codec = mptvc.load("codec", device="cpu", dtype=dtype, clip_frames=6)
        Path(target).write_bytes(data := codec.compress(np.load(frames), shots=shots))
        return [[digest.hexdigest() for digest in Recording.made], digests_of(codec, data)[1]]

    def read(self, source: str, threads: int, dtype: str) -> list[list[str]]:
        """As ``digests_of`` a file."""
        torch.set_num_threads(threads)
        return digests_of(mptvc.load("codec", device="cpu", dtype=dtype), Path(source).read_bytes())


def digests_of(codec: Codec, data: bytes) -> list[list[str]]:
    """SHA-256 of the symbols of each level, and of the pixels of each prefix."""
    pieces = Decompressor(codec.coder, BytesIO(data), len(data)).pieces
    symbols, pixels = ([hashlib.sha256() for _ in range(3)] for _ in range(2))
    for piece in chain.from_iterable(map(pieces, range(mptvc.probe(data).header.shots.num_clips))):
        for level in range(3):
            for array in piece.symbols(level):
                symbols[level].update(np.ascontiguousarray(array.cpu().numpy()).tobytes())
            pixels[level].update(piece.frames(level + 1).tobytes())
    return [[digest.hexdigest() for digest in digests] for digests in (symbols, pixels)]


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield started(stack, SETTINGS, __file__)


def test_every_setting_computes_the_same_transforms(workers: list[Worker]) -> None:
    asked = [{"threads": THREADS[i % 2]} for i in range(len(workers))]
    expected = Program().transform(threads=1)
    for worker, found in zip(workers, ask_all(workers, "transform", asked), strict=True):
        assert found == expected, worker.name


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


def test_pixels_are_the_same_everywhere_to_the_end_of_a_clip(workers: list[Worker], tmp_path: Path) -> None:
    frames, codec = moved(97, 0.3, 0.45, 32), mptvc.load("codec", device="cpu")
    (tmp_path / "a.mpt").write_bytes(data := codec.compress(frames))
    expected = digests_of(codec, data)
    assert expected[0] == mptvc.symbol_digests(data, codec=codec)
    asked = [
        {"source": str(tmp_path / "a.mpt"), "threads": THREADS[i // 2 % 2], "dtype": DTYPES[i % 2]}
        for i in range(len(workers))
    ]
    for worker, found in zip(workers, ask_all(workers, "read", asked), strict=True):
        assert found == expected, worker.name


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_cpu_and_cuda_make_the_same_symbols_and_pixels(precision: str) -> None:
    require_cuda()
    codecs = [mptvc.load("codec", device=device, clip_frames=6) for device in ("cpu", "cuda")]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        for maker in codecs:
            data = maker.compress(moved(sum(SHOTS), 1.3, -0.6, 48), shots=SHOTS)
            here, there = (digests_of(codec, data) for codec in codecs)
            assert here == there
    finally:
        torch.set_float32_matmul_precision(before)


if __name__ == "__main__":
    main(Program())
