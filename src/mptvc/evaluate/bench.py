"""Seconds, memory and floors of every stage of the pipeline, on scenes that move more or less.

The floor of a stage is the time that its matrix products take at the measured rate of large ones, or that its
inputs and outputs take at the measured rate of a copy, whichever is longer: no implementation of the same
arithmetic on the same machine can be faster.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import torch

from mptvc.codec.codec import Codec
from mptvc.codec.coder import ClipCoder, CodedSection, Piece
from mptvc.codec.encoder import describe, make_encoder
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.patches import PatchCoder
from mptvc.codec.rate import DEFAULT_RATE
from mptvc.evaluate.bench_peers import PeerTime, time_peers
from mptvc.evaluate.scenes import SPEEDS, first_frames, scene_frames
from mptvc.evaluate.stopwatch import Stage, Stopwatch, take_counts
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.native import calls

#: Width and height that are measured.
SIZES = ((854, 480), (1920, 1080), (3840, 2160))
#: Scenes that are measured.
SCENES = tuple(SPEEDS)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CODED_SYMBOLS = 2_000_000


@dataclass(frozen=True)
class SizeResult:
    """What one scene costs at one size.

    Attributes:
        scene: Its name, or that of a video.
        width: Of the pictures.
        height: Of the pictures.
        frames: Number of frames that were coded.
        bpp: Bits per pixel of all levels.
        coded: With prediction, at each level the share of tokens where it left something.
        encode: Stages of encoding; ``total`` is all of it.
        decode: Stages of decoding all levels.
        peak_bytes: Largest resident memory, on CUDA the largest allocation of the device.
        peers: What others take for the same frames, where that was asked for.
    """

    scene: str
    width: int
    height: int
    frames: int
    bpp: float
    coded: tuple[float, ...]
    encode: dict[str, Stage]
    decode: dict[str, Stage]
    peak_bytes: int
    peers: list[PeerTime] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """Source pixels of all frames."""
        return self.width * self.height * self.frames

    def ns_per_pixel(self, stage: Stage) -> float:
        """Nanoseconds of a stage for each source pixel."""
        return 1e9 * stage.seconds / self.pixels


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
        sizes: A result for each scene, size and number of frames.
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
    scenes: tuple[str, ...] = SCENES,
    video: Path | None = None,
    peers: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Measure encoding and decoding of one clip of each scene at the smallest size, and of the last at each.

    Args:
        codec: What to measure.
        sizes: Width and height of each.
        frames: Numbers of frames to code, at most a clip; a pass before each warms up and counts. All but the
            last scene take the first number alone.
        scenes: Of ``mptvc.evaluate.scenes.SPEEDS``.
        video: Code the first frames of this video, in its size, instead of scenes.
        peers: Time other codecs on the frames of the last scene too and, with the extra of that name, a
            tokenizer.
        progress: Called after each scene, size and number of frames.

    Raises:
        ValueError: More frames than a clip has, or another scene.
        VideoError: The video cannot be read, or has fewer frames.
    """
    coder = codec.coder
    most = coder.shots((1,)).clip_frames
    if not 1 <= min(frames) <= max(frames) <= most:
        raise ValueError(f"frames= is 1 to {most}, found {frames}")
    if unknown := [scene for scene in scenes if scene not in SPEEDS]:
        raise ValueError(f"scenes= are of {', '.join(SPEEDS)}, found {unknown[0]}")
    shown = None if video is None else first_frames(video, max(frames))
    if video is not None and shown is not None:
        scenes, sizes = (video.name,), ((shown.shape[2], shown.shape[1]),)
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
    smallest = min(sizes, key=lambda size: size[0] * size[1])
    jobs = [(scene, smallest, frames[0]) for scene in scenes[:-1]]
    jobs += [(scenes[-1], size, count) for size, count in product(sizes, frames)]
    for done, (scene, (width, height), count) in enumerate(jobs, start=1):
        pictures = scene_frames(scene, count, height, width) if shown is None else shown[:count]
        measured = _measured(coder, scene, pictures)
        if peers and scene == scenes[-1]:
            measured.peers.extend(time_peers(pictures, device, dtype))
        for stage in (*measured.encode.values(), *measured.decode.values()):
            stage.floor_s = max(stage.flops / flops, stage.bytes / copied)
        result.sizes.append(measured)
        if progress is not None:
            progress(done, len(jobs))
    return result


def _measured(coder: ClipCoder, scene: str, pictures: np.ndarray) -> SizeResult:
    """Code one clip once to count, which warms up, and once to time."""
    frames, height, width, _ = pictures.shape
    layout = coder.layout(describe(pictures, Fraction(25)), (frames,))
    watch, shares = Stopwatch(coder.device), _CodedShares(coder.num_levels)
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
            if watch.counting:
                shares.add(piece)

    watch.counting = True
    with calls.off():  # operations are counted on tensors
        coded, counted_encode = watch.run(encode)
        sections = [section.data for section in coded]
        _, counted_decode = watch.run(decode)
    watch.counting = False
    timed = watch.run(encode)[1], watch.run(decode)[1]
    for stages, counted in zip(timed, (counted_encode, counted_decode), strict=True):
        take_counts(stages, counted)
    bpp = 8 * sum(map(len, sections)) / (width * height * frames)
    return SizeResult(scene, width, height, frames, bpp, shares.means(), *timed, _peak(coder.device))


class _CodedShares:
    """At each level the share of tokens where prediction left something."""

    def __init__(self, num_levels: int) -> None:
        self._frames: list[list[float]] = [[] for _ in range(num_levels)]

    def add(self, piece: Piece) -> None:
        for level, frame in product(range(piece.num_levels), range(piece.num_frames)):
            if (shown := piece.shown(level, frame)) is not None:
                self._frames[level].append(float(shown.coded.mean()))

    def means(self) -> tuple[float, ...]:
        return tuple(float(np.mean(shares)) for shares in self._frames if shares)


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
