"""The tables of a closed loop, fitted to what it codes of training shots."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import torch

from mptvc.codec.keys import CodedKey
from mptvc.codec.loop import LevelTables
from mptvc.codec.loop_coder import picture_tensor
from mptvc.codec.slices import ClipLoop, LumaPyramid, Pyramid
from mptvc.format.geometry import LoopShots
from mptvc.model.loop_model import LoopModel
from mptvc.train.loop_tables import ActivityCounter, SideCounter

#: Gains at which each shot is coded: 0.02, 0.15 and 0.6 bits per pixel lie about as far apart.
_GAINS = (17, 0, -15)


class LoopCounter:
    """Counts what a closed loop codes.

    Args:
        model: Its tables do not matter until ``fit``: they change nothing of what is coded.
    """

    def __init__(self, model: LoopModel) -> None:
        self._model, self._levels = model, [model.level(k) for k in range(len(model.config.levels))]
        self._opening = [ActivityCounter(level.opening.entropy_model) for level in self._levels]
        self._key = [ActivityCounter(level.key.entropy_model) for level in self._levels]
        self._side = [SideCounter(level.side) for level in self._levels]

    def add(self, frames: np.ndarray) -> None:
        """Code the frames of a shot, uint8 ``[T, H, W, 3]``, as a clip at several gains, and count."""
        config, device = self._model.config, self._levels[0].key.dct.device
        multiple = config.multiple
        height, width = (-(-side // multiple) * multiple for side in frames.shape[1:3])
        size = height, width
        pyramids = [Pyramid(picture_tensor(frame, size, device), config) for frame in frames]
        luma = [None, *map(LumaPyramid, pyramids)]
        motions = [later.motion_from(earlier) for earlier, later in pairwise(luma) if later]
        slices = LoopShots((len(frames),), len(frames)).slices(0)
        for gain in _GAINS:
            loop = ClipLoop([LevelTables(level) for level in self._levels], config, size)
            before: list[CodedKey | None] = [None] * len(self._levels)
            for place in slices:
                at = slice(place.start, place.stop)
                coarser: list[CodedKey] = []
                for level in range(len(self._levels)):
                    keys = loop.encode(level, pyramids[at], motions[at], coarser, gain).keys
                    for index, key in enumerate(keys):
                        self._count(level, key, before[level], coarser[index] if coarser else None)
                        before[level] = key
                    coarser = keys

    def _count(self, level: int, key: CodedKey, before: CodedKey | None, coarser: CodedKey | None) -> None:
        counter = self._opening if key.side is None else self._key
        counter[level].add(key.symbols, key.context)
        if key.side is not None:
            past = None if before is None else before.side
            self._side[level].add(key.side, past, None if coarser is None else coarser.side)

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        for level in zip(self._opening, self._key, self._side, strict=True):
            for counter in level:
                counter.fit()


@torch.no_grad()
def fit_tables(
    model: LoopModel, shots: Iterable[np.ndarray], progress: Callable[[int], None] | None = None
) -> None:
    """Fit the tables of a model.

    Args:
        model: The model.
        shots: Frames of each shot, uint8 ``[T, H, W, 3]``.
        progress: Called after each shot with the shots that are done.
    """
    counter = LoopCounter(model)
    for done, frames in enumerate(shots, start=1):
        counter.add(frames)
        if progress is not None:
            progress(done)
    counter.fit()
