"""Seconds, memory and floors of every stage of the pipeline, on generated frames.

The floor of a stage is the time that its matrix products take at the measured rate of large ones, or that its
inputs and outputs take at the measured rate of a copy, whichever is longer: no implementation of the same
arithmetic on the same machine can be faster.
"""

import time
from collections.abc import Callable, Iterator
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
from mptvc.codec.patches import ClipCoder
from mptvc.codec.rate import DEFAULT_RATE, RateControl
from mptvc.codec.stream import describe
from mptvc.codec.tiled_networks import TiledNetworks
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
    clips = codec.clips
    if not 1 <= min(frames) <= max(frames) <= clips.config.clip_frames:
        raise ValueError(f"frames is 1 to {clips.config.clip_frames}, found {frames}")
    coder, dtype = _TimedCoder(clips), clips.networks.dtype
    flops, copied = _matmul_rate(clips.device, dtype), _copy_rate(clips.device)
    written, read = _coder_rates(clips)
    result = BenchResult(
        str(clips.device),
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
            measured.peers.extend(time_peers(_pictures(width, height, count), coder.device, dtype))
        for stage in (*measured.encode.values(), *measured.decode.values()):
            stage.floor_s = max(stage.flops / flops, stage.bytes / copied)
        result.sizes.append(measured)
        if progress is not None:
            progress(done, len(jobs))
    return result


class _Stopwatch:
    """Keeps the time of the stages of a call, or counts their operations instead."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stages: dict[str, Stage] = {}
        self.counting = False

    def stage(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method as a part of a stage."""
        stage = self.stages.setdefault(name, Stage())
        if self.counting:
            with FlopCounterMode(display=False) as counter:
                result = method(*arguments)
            stage.flops += counter.get_total_flops()
            stage.bytes += _tensor_bytes([*arguments, result])
            return result
        with self._clock(stage):
            return method(*arguments)

    def run(self, method: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, Stage]]:
        """Call a method and return what its stages took, with its own time as ``total``."""
        self.stages = {}
        whole = Stage()
        with self._clock(whole):
            result = method(*arguments)
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


class _TimedNetworks(TiledNetworks):
    def __init__(self, networks: TiledNetworks, watch: _Stopwatch) -> None:
        super().__init__(networks.model, networks.dtype, networks.tile_batch)
        self._watch = watch

    def pyramid(self, *arguments: Any) -> Any:
        return self._watch.stage("pyramid", super().pyramid, *arguments)

    def analyse(self, *arguments: Any) -> Any:
        return self._watch.stage("analysis", super().analyse, *arguments)

    def synthesise(self, *arguments: Any) -> Any:
        return self._watch.stage("synthesis", super().synthesise, *arguments)


class _TimedCoder(ClipCoder):
    def __init__(self, clips: ClipCoder) -> None:
        super().__init__(clips.model, entropy_id=clips.entropy_id, weights_id=clips.weights_id)
        self._core = clips._core
        self.watch = _Stopwatch(clips.device)
        self.networks = _TimedNetworks(clips.networks, self.watch)

    def _code(self, *arguments: Any) -> Any:
        return self.watch.stage("entropy", super()._code, *arguments)


def _size(coder: _TimedCoder, width: int, height: int, frames: int) -> SizeResult:
    pictures = _pictures(width, height, frames)
    header = coder.header(describe(pictures, Fraction(25)), (frames,))
    plan = header.plan(0)
    coded = pictures[list(plan.frames)]
    _forget_peak(coder.device)

    def encode() -> tuple[Any, dict[str, Stage]]:
        control = RateControl(DEFAULT_RATE, header.levels)
        return coder.watch.run(coder.encode_clip, coded, header, plan.scenes, control)

    def decode(packets: list[bytes]) -> tuple[Any, dict[str, Stage]]:
        def both() -> None:
            symbols: list[torch.Tensor] = []
            for level, packet in enumerate(packets):
                symbols.append(coder.unpack_level(level, packet, header, symbols, 0))
            coder.decode_clip(symbols, header, 0)

        return coder.watch.run(both)

    coder.watch.counting = True
    levels, counted_encode = encode()
    packets = [coded.packet for coded in levels]
    _, counted_decode = decode(packets)
    coder.watch.counting = False
    _, timed_encode = encode()
    _, timed_decode = decode(packets)
    for timed, counted in ((timed_encode, counted_encode), (timed_decode, counted_decode)):
        for name, stage in timed.items():
            stage.flops, stage.bytes = counted[name].flops, counted[name].bytes
        parts = [stage for name, stage in timed.items() if name != "total"]
        timed["total"].flops = sum(stage.flops for stage in parts)
        timed["total"].bytes = sum(stage.bytes for stage in parts)
    return SizeResult(width, height, frames, timed_encode, timed_decode, _peak(coder.device))


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


def _coder_rates(clips: ClipCoder) -> tuple[float, float]:
    """Symbols a second that are written and read, in steps of the size that 480p has."""
    level = clips.model.level(len(clips.config.levels) - 1)
    tables = Tables(level.entropy_model.frequencies.cpu().numpy())
    rng = np.random.default_rng(0)
    step = 2**18
    rows = rng.integers(0, len(tables.models) // 2, (_CODED_SYMBOLS // step, step)).astype(np.uint8)
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
