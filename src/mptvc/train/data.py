"""Training crops from array shards: one ``.npy`` of uint8 ``[T, H, W, 3]`` per shot.

Needs numpy and torch only, so that it runs on a machine without a video library; `shards` makes
the arrays from videos.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mptvc.errors import VideoError
from mptvc.train.config import CropShape


@dataclass(frozen=True)
class Shot:
    """A shard: the pixels of one shot.

    Attributes:
        path: A ``.npy`` of uint8 ``[T, H, W, 3]``.
        shape: ``(T, H, W, 3)``.
    """

    path: Path
    shape: tuple[int, ...]

    def pixels(self) -> np.ndarray:
        """The array, memory-mapped while it is in use: a process may not hold thousands open."""
        array: np.ndarray = np.load(self.path, mmap_mode="r")
        return array


class CropSampler:
    """Random crops of shots, with flips, time reversal, frame skips, halved size and joined shots.

    Args:
        shots: Where crops are taken from, the longer the more often.
        seed: Start of the random stream; a batch depends on it and on its own number alone, so a
            resumed run draws what an uninterrupted one would.
        patch_frames: Joined shots meet at a multiple of this many frames.

    Attributes:
        num_pixels: Of all frames of all shots.
    """

    def __init__(self, shots: list[Shot], seed: int, patch_frames: int) -> None:
        if not shots:
            raise VideoError("no shots to train on")
        self.shots, self.patch_frames, self.seed = shots, patch_frames, seed
        lengths = np.array([shot.shape[0] for shot in shots], dtype=np.float64)
        self.weights = lengths**0.5 / (lengths**0.5).sum()
        self.num_pixels = sum(math.prod(shot.shape[:3]) for shot in shots)

    def batch(self, shape: CropShape, number: int) -> tuple[Tensor, Tensor]:
        """Draw batch ``number``.

        Returns:
            Pixels uint8 ``[B, 3, T, size, size]`` and shot numbers ``[B, T / patch_frames]``.
        """
        rng = np.random.default_rng((self.seed, number))
        clips, shots = zip(*(self._clip(rng, shape) for _ in range(shape.batch)), strict=True)
        return torch.stack(clips), torch.stack(shots)

    def batches(self, shape: CropShape, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw batches from number ``first`` on, each while its predecessor is in use."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.batch, shape, first)
            while True:
                first += 1
                batch, coming = coming.result(), pool.submit(self.batch, shape, first)
                yield batch

    def _clip(self, rng: np.random.Generator, shape: CropShape) -> tuple[Tensor, Tensor]:
        slices = shape.frames // self.patch_frames
        cut = int(rng.integers(1, slices)) if slices > 1 and rng.random() < 0.15 else 0
        shots = (torch.arange(slices) >= cut).long() if cut else torch.zeros(slices).long()
        parts = [cut * self.patch_frames, (slices - cut) * self.patch_frames]
        frames = [self._shot(rng, n, shape.size) for n in parts if n]
        clip = torch.from_numpy(np.concatenate(frames)).permute(3, 0, 1, 2)
        return clip.contiguous(), shots

    def _shot(self, rng: np.random.Generator, frames: int, size: int) -> np.ndarray:
        """One augmented crop ``[frames, size, size, 3]``."""
        shot = self.shots[rng.choice(len(self.shots), p=self.weights)].pixels()
        halve = min(shot.shape[1:3]) >= 2 * size and rng.random() < 0.2
        window = 2 * size if halve else size
        skip = 2 if len(shot) >= 2 * frames and rng.random() < 0.15 else 1
        start = int(rng.integers(0, max(1, len(shot) - frames * skip + 1)))
        clip = shot[start : start + frames * skip : skip]
        top, left = (int(rng.integers(0, max(1, s - window + 1))) for s in shot.shape[1:3])
        clip = np.asarray(clip[:, top : top + window, left : left + window])
        if halve:
            pairs = clip[:, ::2].astype(np.uint16) + clip[:, 1::2]
            clip = ((pairs[:, :, ::2] + pairs[:, :, 1::2] + 2) >> 2).astype(np.uint8)
        clip = pad_to(clip, frames, size, size)
        if rng.random() < 0.5:
            clip = clip[:, :, ::-1]
        if rng.random() < 0.3:
            clip = clip[::-1]
        return clip


def pad_to(clip: np.ndarray, frames: int, height: int, width: int) -> np.ndarray:
    """Repeat the last frame, row and column of ``[T, H, W, 3]`` up to the wanted shape."""
    t, h, w, _ = clip.shape
    pads = ((0, frames - t), (0, height - h), (0, width - w), (0, 0))
    return np.pad(clip, pads, mode="edge")


def find_shards(folder: Path, names: frozenset[str] | None = None) -> dict[str, Shot]:
    """Shards of a folder by name, all or those that are named.

    Raises:
        VideoError: The folder holds no shards.
    """
    paths = (path for path in sorted(folder.glob("*.npy")) if names is None or path.stem in names)
    shots = {path.stem: Shot(path, np.load(path, mmap_mode="r").shape) for path in paths}
    if not shots:
        raise VideoError(f"no .npy shards in {folder}")
    return shots


def to_video(pixels: Tensor) -> Tensor:
    """Pixels uint8 to float in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)
