"""The tables, networks and filters of a closed loop, fitted to what it codes of training shots."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, pairwise, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mptvc.codec.loop_coder import picture_tensor
from mptvc.codec.memory import keep_freed_memory
from mptvc.codec.pictures import CodedPicture
from mptvc.codec.slice_motion import LumaPyramid, Pyramid, SliceMotion
from mptvc.codec.slices import ClipLoop
from mptvc.codec.tables import LevelTables
from mptvc.errors import VideoError
from mptvc.format.geometry import LoopShots
from mptvc.format.slices import CHAIN, KINDS, turns
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.loop_model import LoopModel
from mptvc.model.motion import BLOCK
from mptvc.train.envelope_fit import EnvelopeTrainer, Tokens
from mptvc.train.loop_tables import ActivityCounter, Counter, FinenessCounter, SideCounter
from mptvc.train.restoration_fit import RestorationCounter
from mptvc.video.scaling import scaled
from mptvc.video.source import VideoSource

#: Frames of a shot that are coded, and that say what is built on these.
_FRAMES, _AHEAD = 17, 65
#: Height and width of the part that is used; how much smaller resized ones are.
_CROP, _SCALE = (256, 384), 0.8
#: Gains at which each shot is coded: 0.02, 0.15 and 0.6 bits per pixel lie about as far apart.
_GAINS = (17, 0, -15)
#: What was counted, and tokens of each level: in arrays, as processes share each tensor by an open file.
_Found = tuple[list[np.ndarray], list[Tokens]]


class LoopCounter:
    """Counts what a closed loop codes.

    Args:
        model: Its tables say what is worth coding.
    """

    def __init__(self, model: LoopModel) -> None:
        self._model, self._levels = model, [model.level(k) for k in range(len(model.config.levels))]
        self._opening = [ActivityCounter(level.opening.entropy_model) for level in self._levels]
        self._predicted = [
            [ActivityCounter(level.predicted(is_between).entropy_model) for is_between in (False, True)]
            for level in self._levels
        ]
        self._side = [
            [SideCounter(level.predicted(is_between).side) for is_between in (False, True)]
            for level in self._levels
        ]
        self._fineness = [FinenessCounter(level.fineness) for level in self._levels if level.fineness]
        self._envelopes = [EnvelopeTrainer(level.envelope, level.key.entropy_model) for level in self._levels]
        self._restored: list[tuple[Tensor, ...]] = []  # what filters were given, picture by picture
        self._restoration = [
            [
                RestorationCounter(kind.restoration, config.step)
                for kind in (level.opening, level.key, level.between)
                if kind.restoration is not None
            ]
            for level, config in zip(self._levels, model.config.levels, strict=True)
        ]
        for counter in chain.from_iterable(self._restoration):
            counter.restoration.register_forward_pre_hook(self._note_restored)
        self._before: Tensor | None = None  # fineness of the key before

    def add(self, frames: np.ndarray) -> None:
        """Code the first frames of a shot, uint8 ``[T, H, W, 3]``, as a clip at several gains, and count."""
        config, device = self._model.config, self._levels[0].key.dct.device
        multiple = config.multiple
        height, width = (-(-side // multiple) * multiple for side in frames.shape[1:3])
        size = height, width
        pyramids = [Pyramid(picture_tensor(frame, size, device), config) for frame in frames]
        luma = [None, *map(LumaPyramid, pyramids)]
        motions = [later.motion_from(earlier) for earlier, later in pairwise(luma) if later]
        count = min(_FRAMES, len(frames))
        slices = LoopShots((count,), count).slices(0)
        for gain, kind in product(_GAINS, (CHAIN, KINDS - 1)):
            loop = ClipLoop([LevelTables(level) for level in self._levels], config, size)
            for place in slices:
                before = pyramids[place.start - 1] if place.start else None
                motion = SliceMotion(pyramids[place.start : place.stop], motions[place.start :], before)
                coarser: list[CodedPicture] = []
                for level in range(len(self._levels)):
                    coarser = loop.encode(level, motion, coarser, kind, gain).pictures
                    for picture in coarser:
                        self._count(level, picture)
                    order = [turn.index for turn in turns(kind, len(coarser))] if place.start else [0]
                    self._count_restored(level, motion, [(index, coarser[index]) for index in order])

    def _count(self, level: int, coded: CodedPicture) -> None:
        if level == 0 and not coded.is_between:
            self._fineness[0].add(coded.fineness, None if coded.side is None else self._before)
            self._before = coded.fineness
        self._envelopes[level].add(coded.residual, coded.context)
        if coded.side is None:
            self._opening[level].add(coded.residual, coded.context)
        else:
            self._predicted[level][coded.is_between].add(coded.residual, coded.context)
            self._side[level][coded.is_between].add(coded.side, coded.known)

    def _note_restored(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        """Keep what filters are given when they are tried, not when their strength is known."""
        picture, prediction, coded, steps, *strength = given
        if not strength:
            self._restored.append((picture, prediction, coded, steps))

    def _count_restored(
        self, level: int, motion: SliceMotion, coded: Sequence[tuple[int, CodedPicture]]
    ) -> None:
        """Count what filters did in pictures of a slice, which come in coding order with their places."""
        if not self._restoration[level]:
            return
        filtered = [(index, picture) for index, picture in coded if picture.coded.any()]
        for (index, picture), given in zip(filtered, self._restored, strict=True):
            number = 0 if picture.side is None else 1 + picture.is_between
            self._restoration[level][number].add(given, motion.pyramids[index].pictures[level])
        self._restored.clear()

    @property
    def found(self) -> _Found:
        """All that was counted, and tokens of each level."""
        counts = [counts for counter in self._counters for counts in counter.counts]
        return counts, [envelope.tokens for envelope in self._envelopes]

    def merge(self, found: _Found) -> None:
        """Count what another one has ``found``."""
        (mine, _), (counts, tokens) = self.found, found
        for into, theirs in zip(mine, counts, strict=True):
            into += theirs
        for envelope, some in zip(self._envelopes, tokens, strict=True):
            envelope.tokens += some

    @property
    def _counters(self) -> list[Counter]:
        """Those of all levels and kinds."""
        predicted = [counter for pair in self._predicted for counter in pair]
        side = chain.from_iterable(self._side)
        return [*self._opening, *self._fineness, *predicted, *side, *chain.from_iterable(self._restoration)]

    def fit(self) -> None:
        """Give the model tables that code what was counted in few bits, as far as counts can be trusted."""
        for fineness in self._fineness:
            fineness.fit()
        for opening in self._opening:
            opening.fit()
        for level, sides in zip(self._predicted, self._side, strict=True):
            for counter, side in zip(level, sides, strict=True):
                counter.fit()
                side.fit()

    def train(self) -> None:
        """Train the networks that say where symbols are, and filters; tables from before no longer fit."""
        for envelope in self._envelopes:
            envelope.train()
        for counters in self._restoration:
            RestorationCounter.fit(counters)


def default_loop_config() -> LoopConfig:
    """Level 0 at half size, the others at the source's; steps for about 0.02, 0.15 and 0.6 bits per pixel."""
    coarsest, middle = (LoopLevelConfig(step, detail=2, restoration=True) for step in (130.0, 38.0))
    finest = LoopLevelConfig(13.0, fineness=0.25, smoothing=1.5, restoration=True)
    return LoopConfig((coarsest, middle, finest), camera_path=True, coded_flags=True)


@torch.no_grad()
def fit_tables(
    model: LoopModel,
    videos: Sequence[Path],
    progress: Callable[[int, int], None] | None = None,
    *,
    jobs: int = 1,
) -> list[str]:
    """Fit the tables of a model to videos: to a quarter, half, all and all of them, as choices follow tables.

    After each round but the last the networks that say where symbols are are trained.

    Args:
        model: The model.
        videos: Video files, of each of which the start of the first shot is used.
        progress: Called after each video with the videos that are done and all of them.
        jobs: Videos that are coded at once, each in a process of its own; they change nothing of the result.

    Returns:
        What went wrong with videos that could not be read.

    Raises:
        VideoError: None could be read.
    """
    failures: dict[Path, str] = {}
    rounds = [list(videos)[::apart] for apart in (4, 2, 1, 1)]
    done, total = 0, sum(map(len, rounds))
    with _counting(jobs) as counted:
        for number, chosen in enumerate(rounds, 1):
            counter, num_counted = LoopCounter(model), 0
            resized = [video in rounds[1] for video in chosen]
            for video, found in zip(chosen, counted(model, chosen, resized), strict=True):
                if isinstance(found, VideoError):
                    failures[video] = str(found)
                else:
                    counter.merge(found)
                    num_counted += 1
                done += 1
                if progress is not None:
                    progress(done, total)
            if not num_counted:
                raise VideoError(next(iter(failures.values()), "no video is given"))
            counter.fit()
            if number < len(rounds):
                counter.train()
    return list(failures.values())


#: What a model codes of each of several videos, resized or not, or why one cannot be read; in their order.
_Counted = Callable[[LoopModel, Sequence[Path], Sequence[bool]], Iterator[_Found | VideoError]]


@contextmanager
def _counting(jobs: int) -> Iterator[_Counted]:
    """Count in this process, or in so many others."""
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _settle) if jobs > 1 else None

    def counted(
        model: LoopModel, videos: Sequence[Path], resized: Sequence[bool]
    ) -> Iterator[_Found | VideoError]:
        weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
        count = partial(_counted, model.config, weights)
        return map(count, videos, resized) if pool is None else pool.map(count, videos, resized)

    try:
        yield counted
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _settle() -> None:
    """Be one of several processes, each of which has a processor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked says when to stop
    torch.set_num_threads(1)
    keep_freed_memory()


@torch.no_grad()
def _counted(
    config: LoopConfig, weights: dict[str, np.ndarray], video: Path, is_resized: bool
) -> _Found | VideoError:
    """What a model codes of a video, or why it cannot be read."""
    model = LoopModel(config).eval()
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
    counter = LoopCounter(model)
    try:
        counter.add(_start_of(video, is_resized=is_resized))
    except VideoError as error:
        return error
    return counter.found


def _start_of(video: Path, *, is_resized: bool) -> np.ndarray:
    """The middle of the first frames of a video's first shot, uint8 ``[T, H, W, 3]``.

    Resized ones have lost the grid of the codec that made the file.
    """
    with VideoSource(video, force_8bit=True) as source:
        frames: list[np.ndarray] = []
        for frame in islice(source.frames(), _AHEAD):
            if frames and frame.is_cut:
                break
            pixels = frame.pixels
            if is_resized and min(pixels.shape[:2]) >= 2 * BLOCK:
                pixels = scaled(pixels, _SCALE)
            top, left = (max(0, (have - want) // 2) for have, want in zip(pixels.shape, _CROP, strict=False))
            frames.append(pixels[top : top + _CROP[0], left : left + _CROP[1]].copy())
    return np.stack(frames)
