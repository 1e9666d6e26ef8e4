"""Seconds, memory and floors of every stage of the pipeline, on generated frames.

The floor of a stage is the time that its matrix products take at the measured rate of large ones, or that its
inputs and outputs take at the measured rate of a copy, whichever is longer: no implementation of the same
arithmetic on the same machine can be faster.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mptvc.codec.codec import Codec
from mptvc.codec.coder import ClipCoder, CodedSection
from mptvc.codec.encoder import describe, make_encoder
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.patches import PatchCoder
from mptvc.codec.rate import DEFAULT_RATE
from mptvc.codec.stages import observed
from mptvc.evaluate.bench_peers import PeerTime, time_peers
from mptvc.evaluate.sample import sample_frames
from mptvc.format.packet import PacketReader, PacketWriter, Tables

#: Width and height that are measured.
SIZES = ((854, 480), (1920, 1080), (3840, 2160))
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CODED_SYMBOLS = 2_000_000


@dataclass
class Stage:
    """One stage of encoding or decoding.

    Attributes:
        seconds: Time spent.
        flops: Operations of its matrix products.
        bytes: Size of what goes in and comes out.
        floor_s: Time below which the stage cannot be on this machine.
    """

    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    floor_s: float = 0.0


@dataclass(frozen=True)
class SizeResult:
    """What one picture size costs.

    Attributes:
        width: Of the pictures.
        height: Of the pictures.
        frames: Number of frames that were coded.
        encode: Stages of encoding; ``total`` is all of it.
        decode: Stages of decoding all levels.
        peak_bytes: Largest resident memory, on CUDA the largest allocation of the device.
        peers: What others take for the same frames, where that was asked for.
    """

    width: int
    height: int
    frames: int
    encode: dict[str, Stage]
    decode: dict[str, Stage]
    peak_bytes: int
    peers: list[PeerTime] = field(default_factory=list)

    def ns_per_pixel(self, stage: Stage) -> float:
        """Nanoseconds of a stage for each source pixel."""
        return 1e9 * stage.seconds / (self.width * self.height * self.frames)


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark.

    Attributes:
        device: Where it ran.
        dtype: Type of the networks' matrix products.
        threads: Processor threads.
        flops_per_s: Rate of large matrix products.
        copy_bytes_per_s: Bytes read and written a second by a large copy.
        coded_per_s: Symbols that the entropy coder writes a second on one core.
        read_per_s: Symbols that it reads a second.
        sizes: A result for each size and number of frames.
    """

    device: str
    dtype: str
    threads: int
    flops_per_s: float
    copy_bytes_per_s: float
    coded_per_s: float
    read_per_s: float
    sizes: list[SizeResult] = field(default_factory=list)


def bench(
    codec: Codec,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    *,
    frames: tuple[int, ...] = (16,),
    peers: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Measure encoding and decoding of one clip at each size.

    Args:
        codec: What to measure.
        sizes: Width and height of each.
        frames: Numbers of frames to code, at most a clip; a pass before each warms up and counts.
        peers: Time other codecs and a tokenizer on the same frames too.
        progress: Called after each size and number of frames.

    Raises:
        ValueError: More frames than a clip has.
        MptError: ``peers`` needs the extra of that name.
    """
    coder = codec.coder
    most = coder.shots((1,)).clip_frames
    if not 1 <= min(frames) <= max(frames) <= most:
        raise ValueError(f"frames= is 1 to {most}, found {frames}")
    device, dtype = coder.device, coder.dtype
    flops, copied = _matmul_rate(device, dtype), _copy_rate(device)
    written, read = _coder_rates(coder)
    result = BenchResult(
        str(device),
        str(dtype).removeprefix("torch."),
        torch.get_num_threads(),
        flops,
        copied,
        written,
        read,
    )
    jobs = list(product(sizes, frames))
    for done, ((width, height), count) in enumerate(jobs, start=1):
        measured = _size(coder, width, height, count)
        if peers:
            measured.peers.extend(time_peers(_pictures(width, height, count), device, dtype))
        for stage in (*measured.encode.values(), *measured.decode.values()):
            stage.floor_s = max(stage.flops / flops, stage.bytes / copied)
        result.sizes.append(measured)
        if progress is not None:
            progress(done, len(jobs))
    return result


class _Stopwatch:
    """Observes the stages of a call: keeps the time of each, or counts its operations instead."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stages: dict[str, Stage] = {}
        self.counting = False

    def __call__(self, stage: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a stage's work."""
        found = self.stages.setdefault(stage, Stage())
        if not self.counting:
            with self._clock(found):
                return work(*args, **kwargs)
        with FlopCounterMode(display=False) as counter:
            result = work(*args, **kwargs)
        found.flops += counter.get_total_flops()
        found.bytes += _tensor_bytes([*args, *kwargs.values(), result])
        return result

    def run(self, work: Callable[[], Any]) -> tuple[Any, dict[str, Stage]]:
        """Call a function and return what its stages took, with all of its time as ``total``."""
        self.stages, whole = {}, Stage()
        with observed(self), self._clock(whole):
            result = work()
        return result, {**self.stages, "total": whole}

    @contextmanager
    def _clock(self, stage: Stage) -> Iterator[None]:
        started = self._now()
        yield
        stage.seconds += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _size(coder: ClipCoder, width: int, height: int, frames: int) -> SizeResult:
    """Code one clip once to count, which warms up, and once to time."""
    pictures = _pictures(width, height, frames)
    layout = coder.layout(describe(pictures, Fraction(25)), (frames,))
    watch = _Stopwatch(coder.device)
    _forget_peak(coder.device)

    def encode() -> Sequence[CodedSection]:
        encoder = make_encoder(coder, DEFAULT_RATE)
        for picture in pictures:
            encoder.add(picture)
        (sections,) = encoder.finish()
        return sections

    def damaged(_level: int, error: ValueError) -> None:
        raise error

    def decode() -> None:
        for piece in coder.pieces(sections, layout, 0, damaged):
            piece.frames(piece.num_levels)

    watch.counting = True
    coded, counted_encode = watch.run(encode)
    sections = [section.data for section in coded]
    _, counted_decode = watch.run(decode)
    watch.counting = False
    timed = watch.run(encode)[1], watch.run(decode)[1]
    for stages, counted in zip(timed, (counted_encode, counted_decode), strict=True):
        _take_counts(stages, counted)
    return SizeResult(width, height, frames, *timed, _peak(coder.device))


def _take_counts(timed: dict[str, Stage], counted: dict[str, Stage]) -> None:
    """Put operations and bytes beside the times of stages, and their sums beside the total."""
    parts = [name for name in timed if name != "total"]
    for name in parts:
        timed[name].flops, timed[name].bytes = counted[name].flops, counted[name].bytes
    timed["total"].flops = sum(timed[name].flops for name in parts)
    timed["total"].bytes = sum(timed[name].bytes for name in parts)


def _pictures(width: int, height: int, frames: int) -> np.ndarray:
    """The sample's frames, repeated to the size and mirrored so that no seam shows."""
    sample = sample_frames()[:frames]
    _, h, w, _ = sample.shape
    rows, columns = (np.arange(side) for side in (height, width))
    rows, columns = (np.abs((i + n) % (2 * n) - n).clip(0, n - 1) for i, n in ((rows, h), (columns, w)))
    return np.ascontiguousarray(sample[:, rows[:, None], columns])


def _tensor_bytes(values: list[Any]) -> int:
    """Bytes of all tensors among values and lists of them."""
    flat = [v for value in values for v in (value if isinstance(value, list | tuple) else [value])]
    return sum(v.numel() * v.element_size() for v in flat if isinstance(v, torch.Tensor))


def _best_seconds(device: torch.device, work: Callable[[], object]) -> float:
    """The shortest of seven runs after a warm-up."""
    times = []
    for _ in range(8):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best_seconds(device, lambda: a @ b)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(2**26, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() * source.element_size() / _best_seconds(device, lambda: target.copy_(source))


def _coder_rates(coder: ClipCoder) -> tuple[float, float]:
    """Symbols a second that are written and read, in steps of the size that 480p has."""
    tables = Tables(_symbol_frequencies(coder).cpu().numpy())
    rng = np.random.default_rng(0)
    step = 2**18
    rows = rng.integers(0, len(tables) // 2, (_CODED_SYMBOLS // step, step)).astype(np.uint8)
    symbols = np.rint(rng.laplace(scale=0.4, size=rows.shape)).astype(np.int16)
    started = time.perf_counter()
    writer = PacketWriter(tables)
    for r, s in zip(rows, symbols, strict=True):
        writer(r, s)
    packet = writer.finish()
    written = time.perf_counter()
    reader = PacketReader(tables, packet)
    for r in rows:
        reader(r)
    read = time.perf_counter()
    return rows.size / (written - started), rows.size / (read - written)


def _symbol_frequencies(coder: ClipCoder) -> torch.Tensor:
    """Tables of the finest level's symbols."""
    if isinstance(coder, LoopCoder):
        return coder.model.level(coder.num_levels - 1).key.entropy_model.symbol_frequencies
    if isinstance(coder, PatchCoder):
        return coder.model.level(coder.num_levels - 1).entropy_model.frequencies
    raise TypeError(f"{type(coder).__name__} is none of the forms")


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")  # the kernel's way to restart the high-water mark


def _peak(device: torch.device) -> int:
    """Largest memory since ``_forget_peak`` in bytes; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():
        return 0
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])
