"""Files give the same symbols under every instruction set, thread count, type and tile batch.

A process chooses its instruction set when it loads torch, so each setting has a process of its own: this
file run as a program. The campaign compares every table row of real video; run it with
``pytest -m slow tests/test_exactness.py``.
"""

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor

import mptvc
import mptvc.codec.patches
import mptvc.model.entropy_model
from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.encoder import Compressor
from mptvc.codec.patches import CodedLevel, PatchCoder
from mptvc.errors import CorruptPacketError
from mptvc.files.digests import symbol_digests
from mptvc.format.bitstream import read_header
from mptvc.format.packet import PacketReader, PacketWriter
from mptvc.model.model import Model
from mptvc.video.source import VideoSource

TILE = (128, 128)
DTYPES = ("float32", "bfloat16")
WRONG = "this machine computes the entropy model wrongly"
ALL = 1000

#: Instruction sets by name; torch, oneDNN and MKL are told apart. Each allows what the machine has at most.
#: The weakest does without compiled kernels.
SETTINGS = {
    "default": (
        "default",
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MPTVC_NATIVE": "0"},
    ),
    "avx2": ("avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    "avx512": ("avx512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"}),
    "amx": ("avx512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "MKL_CBWR": "COMPATIBLE"}),
}
MORE_SETTINGS = {
    "bf16": ("avx512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "MKL_CBWR": "AUTO"}),
    "mixed": ("default", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
}
ORDER = ("default", "avx2", "avx512")

#: By how much pixels may differ from those of float32 elsewhere, and in what share of all values. Found with
#: real video: 1 and 0.007 % between instruction sets, 3 and 35 % with bfloat16.
TOLERANCE = {"float32": (1, 0.001), "bfloat16": (6, 0.6)}

#: Rows of real video that each decoder of the campaign compares with those of the encoders.
CAMPAIGN_ROWS = 10**8


# The program: functions by name, called through standard input and output


def coder_of(
    codec: Codec, dtype: str = "float32", tile_batch: int = 1, tile: tuple[int, int] | None = TILE
) -> "RecordingCoder":
    """The packaged weights with other settings."""
    clips = codec.coder
    return RecordingCoder(
        codec.model,
        entropy_id=clips.entropy_id,
        weights_id=clips.weights_id,
        dtype=getattr(torch, dtype),
        tile=tile,
        tile_batch=tile_batch,
    )


class RecordingCoder(PatchCoder):
    """Remembers the symbols that the encoder has chosen."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.made: list[list[Tensor]] = []

    def encode_clip(self, *args: Any, **settings: Any) -> list[CodedLevel]:
        levels = super().encode_clip(*args, **settings)
        self.made.append([coded.symbols for coded in levels])
        return levels


def digests_of(coder: PatchCoder, clips: list[list[Tensor]]) -> list[str]:
    """What ``symbol_digests`` gives for the symbols of these clips."""
    levels = []
    for level, parts in enumerate(zip(*clips, strict=True)):
        symbols = coder.model.level(level).fsq.to_symbols(torch.cat(parts).to(coder.device))
        levels.append(hashlib.sha256(symbols.cpu().numpy().tobytes()).hexdigest())
    return levels


class Rows:
    """Stands between an entropy model and its coder: records rows, or compares them with recorded ones."""

    def __init__(self) -> None:
        self.recorded: list[np.ndarray] = []
        self.expected = np.empty(0, np.uint8)
        self.count = self.mismatches = 0

    def record(self, rows: np.ndarray) -> None:
        self.recorded.append(rows.copy())
        self.count += len(rows)

    def compare(self, rows: np.ndarray) -> None:
        expected = self.expected[self.count : self.count + len(rows)]
        same = int(np.count_nonzero(rows[: len(expected)] == expected))
        self.mismatches += len(rows) - same
        self.count += len(rows)

    def writer(self) -> type[PacketWriter]:
        record = self.record

        class Writer(PacketWriter):
            def __call__(
                self, rows: np.ndarray, symbols: np.ndarray | None, *means: np.ndarray
            ) -> np.ndarray:
                record(rows)
                return super().__call__(rows, symbols, *means)

        return Writer

    def reader(self) -> type[PacketReader]:
        compare = self.compare

        class Reader(PacketReader):
            def __call__(
                self, rows: np.ndarray, symbols: np.ndarray | None = None, *means: np.ndarray
            ) -> np.ndarray:
                compare(rows)
                return super().__call__(rows, symbols, *means)

        return Reader


class Program:
    """What a process does for the tests."""

    def __init__(self) -> None:
        self.codec = mptvc.load("tokenizer", device="cpu", dtype="float32")

    def facts(self) -> dict[str, str]:
        """The instruction set that torch reports, and a hash of a product of each type."""
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(200, 300, generator=generator), torch.randn(300, 200, generator=generator)
        products = [(a @ b), (a.bfloat16() @ b.bfloat16()).float(), torch.softmax(a, -1)]
        hashes = [hashlib.sha256(p.numpy().tobytes()).hexdigest()[:8] for p in products]
        return {"capability": torch.backends.cpu.get_cpu_capability().lower(), "arithmetic": "-".join(hashes)}

    def encode(
        self, frames: str, target: str, shots: list[int], threads: int, dtype: str, tile_batch: int
    ) -> list[str]:
        """Encode an array to a file; digests of the encoder's own symbols."""
        torch.set_num_threads(threads)
        coder = coder_of(self.codec, dtype, tile_batch)
        Path(target).write_bytes(Codec(coder).compress(np.load(frames, allow_pickle=False), shots=shots))
        return digests_of(coder, coder.made)

    def read(self, source: str, threads: int, dtype: str, tile_batch: int) -> list[str]:
        """Digests of a file's symbols."""
        torch.set_num_threads(threads)
        return symbol_digests(source, codec=Codec(coder_of(self.codec, dtype, tile_batch)))

    def seek(self, source: str, order: list[int], threads: int) -> list[str]:
        """Digests of a file's symbols, its clips decoded in any order."""
        torch.set_num_threads(threads)
        coder, data = coder_of(self.codec), Path(source).read_bytes()
        reader = Decompressor(coder, BytesIO(data), len(data))
        found = {clip: reader.symbols(clip) for clip in order}
        return digests_of(coder, [found[clip] for clip in sorted(found)])

    def pixels(self, source: str, target: str, threads: int, dtype: str, tile_batch: int) -> None:
        """Store the frames of every prefix."""
        torch.set_num_threads(threads)
        np.save(target, decoded(coder_of(self.codec, dtype, tile_batch), Path(source).read_bytes()))

    def differences(
        self, source: str, reference: str, threads: int, dtype: str, tile_batch: int
    ) -> list[tuple[int, float]]:
        """Largest difference and share of different values to stored frames, for every prefix."""
        torch.set_num_threads(threads)
        mine = decoded(coder_of(self.codec, dtype, tile_batch), Path(source).read_bytes())
        return compared(mine, np.load(reference, allow_pickle=False))

    def encode_video(
        self, source: str, target: str, rows: str, frames: int, threads: int, dtype: str
    ) -> dict[str, Any]:
        """Encode the first frames of a video, and store the table rows that its symbols were coded with."""
        torch.set_num_threads(threads)
        seen, coder = Rows(), coder_of(self.codec, dtype, tile=None)
        plain = mptvc.codec.patches.PacketWriter
        mptvc.codec.patches.PacketWriter = seen.writer()  # type: ignore[misc]
        try:
            with (
                VideoSource(source, force_8bit=True) as video,
                Compressor(coder) as compressor,
                open(target, "wb") as out,
            ):
                count = 0
                for frame in islice(video.frames(), frames):
                    compressor.add(frame.pixels, is_cut=frame.is_cut)
                    count += 1
                height, width = frame.pixels.shape[:2]
                rate, base = video.info.frame_rate, video.info.time_base
                compressor.finish(mptvc.VideoInfo(width, height, count, rate, base), out)
        finally:
            mptvc.codec.patches.PacketWriter = plain  # type: ignore[misc]
        np.concatenate(seen.recorded).tofile(rows)
        return {"rows": seen.count, "digests": digests_of(coder, coder.made)}

    def compare_rows(self, source: str, rows: str, threads: int) -> dict[str, Any]:
        """Decode a file, and compare every table row with those of its encoder."""
        torch.set_num_threads(threads)
        seen, plain = Rows(), mptvc.codec.patches.PacketReader
        seen.expected = np.fromfile(rows, np.uint8)
        mptvc.codec.patches.PacketReader = seen.reader()  # type: ignore[misc]
        try:
            digests = symbol_digests(source, codec=self.codec)
        except CorruptPacketError as error:
            digests = [str(error)]
        finally:
            mptvc.codec.patches.PacketReader = plain  # type: ignore[misc]
        return {"rows": seen.count, "mismatches": seen.mismatches, "digests": digests}


def decoded(coder: PatchCoder, data: bytes) -> np.ndarray:
    """Frames of every prefix of a file, uint8 ``[levels, T, H, W, 3]``."""
    levels = read_header(BytesIO(data)).num_levels
    return np.stack([Codec(coder).decompress(data, levels=k + 1).frames for k in range(levels)])


def compared(frames: np.ndarray, reference: np.ndarray) -> list[tuple[int, float]]:
    """For each prefix the largest difference, and the share of values that differ."""
    apart = [np.abs(a.astype(np.int16) - b) for a, b in zip(frames, reference, strict=True)]
    return [(int(a.max()), float((a > 0).mean())) for a in apart]


def main(program: object) -> None:
    """Answer one call a line until the input ends."""
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(getattr(program, name)(**arguments)), flush=True)


# The tests' side of it


@dataclass
class Worker:
    """The program in a process with its own environment."""

    name: str
    aten: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, aten: str, variables: Mapping[str, str], program: str = __file__) -> Self:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MKL_", "ONEDNN_", "ATEN_"))}
        # Waiting threads must sleep: those that spin take 40 times as long on a busy machine.
        env = clean | {"ATEN_CPU_CAPABILITY": aten, "OMP_WAIT_POLICY": "PASSIVE"} | variables
        process = subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )
        return cls(name, aten, process)

    def ask(self, name: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process of {self.name} ended with {self.process.wait()}"
        return json.loads(line)

    def __call__(self, name: str, **arguments: Any) -> Any:
        self.ask(name, **arguments)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def ask_all(workers: list[Worker], name: str, arguments: list[dict[str, Any]]) -> list[Any]:
    """Ask each with its arguments, then wait for all answers."""
    for worker, mine in zip(workers, arguments, strict=True):
        worker.ask(name, **mine)
    return [worker.answer() for worker in workers]


def started(
    stack: ExitStack, settings: Mapping[str, tuple[str, Mapping[str, str]]], program: str = __file__
) -> list[Worker]:
    """A process for each setting that this machine has."""
    native = torch.backends.cpu.get_cpu_capability().lower()
    if native not in ORDER:
        pytest.skip(f"torch knows no smaller instruction sets than {native} here")
    possible = ORDER[: ORDER.index(native) + 1]
    return [
        stack.enter_context(Worker.start(name, aten, variables, program))
        for name, (aten, variables) in settings.items()
        if aten in possible
    ]


THREADS = (1, 2, 8)
#: Threads, type of the networks and tiles at once of the files that each process makes.
MAKERS = ((1, "float32", 1), (2, "bfloat16", 3), (8, "float32", ALL))
SHOTS = [3, 4]
SIZE = (64, 264)
LONG_SHOTS = [10, 33, 32]


def waves(count: int, height: int, width: int) -> np.ndarray:
    """Moving waves with noise."""
    y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float32)
    parts = [np.sin((x + 2 * t) / (5 + c)) + np.cos((y - t) / (7 - c)) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (count, height, width, 3))
    video = (127 + 50 * np.stack(parts, -1)).transpose(2, 0, 1, 3) + noise
    return video.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield started(stack, SETTINGS)


@pytest.fixture(scope="module")
def facts(workers: list[Worker]) -> list[dict[str, str]]:
    found = ask_all(workers, "facts", [{}] * len(workers))
    assert [fact["capability"] for fact in found] == [worker.aten for worker in workers]
    return found


@dataclass
class Made:
    """A file, and digests of the symbols that its encoder chose."""

    path: Path
    digests: list[str]


@pytest.fixture(scope="module")
def made(workers: list[Worker], tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Tiled files of one clip from every setting."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "frames.npy", waves(sum(SHOTS), *SIZE))
    files = []
    for index, (threads, dtype, tile_batch) in enumerate(MAKERS):
        paths = [folder / f"{worker.name}-{index}.mpt" for worker in workers]
        setting = {
            "frames": str(folder / "frames.npy"),
            "threads": threads,
            "dtype": dtype,
            "tile_batch": tile_batch,
            "shots": SHOTS,
        }
        digests = ask_all(workers, "encode", [{"target": str(path), **setting} for path in paths])
        files += [Made(path, mine) for path, mine in zip(paths, digests, strict=True)]
    return files


def test_forced_settings_compute_floating_point_differently(facts: list[dict[str, str]]) -> None:
    """Otherwise the tests below would compare one arithmetic with itself."""
    capabilities = {fact["capability"] for fact in facts}
    if len(capabilities) == 1:
        pytest.skip("this machine has one instruction set")
    assert len({fact["arithmetic"] for fact in facts}) >= len(capabilities)


def test_file_of_every_setting_decodes_to_its_encoders_symbols_under_every_other(
    workers: list[Worker], facts: list[dict[str, str]], made: list[Made]
) -> None:
    """The encoders differ in floating point, so their files may; their meaning depends on no reader."""
    assert read_header(BytesIO(made[0].path.read_bytes())).geometry.tiles[2].columns == 3
    assert len({digest for file in made for digest in file.digests}) > 3, "all files are the same"
    for index, file in enumerate(made):
        turns = range(index, index + len(workers))
        asked = [
            {
                "source": str(file.path),
                "threads": THREADS[turn % 3],
                "dtype": DTYPES[turn % 2],
                "tile_batch": (1, 3, ALL)[turn // 2 % 3],
            }
            for turn in turns
        ]
        for worker, found in zip(workers, ask_all(workers, "read", asked), strict=True):
            assert found == file.digests, f"{file.path.name} read by {worker.name}"


def test_threads_types_and_tile_batches_give_the_same_symbols(
    workers: list[Worker], made: list[Made]
) -> None:
    file = made[-1]
    for threads in THREADS:
        for dtype, tile_batch in (("float32", 1), ("bfloat16", 3), ("float32", ALL)):
            setting = {"threads": threads, "dtype": dtype, "tile_batch": tile_batch}
            found = workers[0]("read", source=str(file.path), **setting)
            assert found == file.digests, f"{setting}"


def test_clips_in_any_order_give_the_symbols_of_the_whole_file(workers: list[Worker], tmp_path: Path) -> None:
    source, file = tmp_path / "frames.npy", tmp_path / "long.mpt"
    np.save(source, waves(sum(LONG_SHOTS), 40, 56))
    setting = {"threads": 1, "dtype": "float32", "tile_batch": 1, "shots": LONG_SHOTS}
    made = workers[-1]("encode", frames=str(source), target=str(file), **setting)
    orders = ([2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1])
    asked = [{"source": str(file), "order": orders[i % 4], "threads": THREADS[i % 3]}
             for i in range(len(workers))]  # fmt: skip
    found = ask_all(workers, "seek", asked)
    assert found == [made] * len(workers)


def test_pixels_stay_within_the_tolerance(
    workers: list[Worker], facts: list[dict[str, str]], made: list[Made], tmp_path: Path
) -> None:
    source, reference = str(made[0].path), str(tmp_path / "reference.npy")
    setting = {"source": source, "tile_batch": 1}
    workers[-1]("pixels", target=reference, threads=1, dtype="float32", **setting)
    for dtype in DTYPES:
        asked = setting | {"reference": reference, "dtype": dtype, "threads": 2}
        found = ask_all(workers, "differences", [asked] * len(workers))
        for worker, levels in zip(workers, found, strict=True):
            within_tolerance(levels, dtype, worker.name)


def within_tolerance(levels: list[tuple[int, float]], dtype: str, where: str) -> None:
    most, share = TOLERANCE[dtype]
    for level, (largest, different) in enumerate(levels):
        message = f"{where}, {dtype}, level {level}: {largest} at most, {different:.4%} different"
        assert largest <= most, message
        assert different <= share, message


# Decoders that compute something else


def altered(small_model: Model, change: Callable[[Model], None]) -> Codec:
    """A decoder with the same identities and another model."""
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        change(model)
    return Codec(PatchCoder(model, entropy_id=b"e" * 32, weights_id=b"w" * 32))


def outcome_of(codec: Codec, data: bytes) -> list[str] | str:
    """Digests of the symbols, or what is said of the file's damage."""
    try:
        return symbol_digests(data, codec=codec)
    except CorruptPacketError as error:
        return str(error)


def test_a_wrong_integer_weight_is_reported_or_harmless(
    small_model: Model, small_codec: Codec, data: bytes
) -> None:
    """A weight of a hidden unit that is never above zero changes nothing, which is no error."""
    right, rng = symbol_digests(data, codec=small_codec), np.random.default_rng(0)
    names = [
        name
        for name, _ in small_model.named_parameters()
        if ".entropy_model." in name and ".hyper_analysis." not in name
    ]
    reported: dict[str, int] = dict.fromkeys(names, 0)
    for name in names:
        for _ in range(2):
            place = rng.random()

            def change(model: Model, name: str = name, place: float = place) -> None:
                flat = model.get_parameter(name).view(-1)
                flat[int(place * len(flat))] += 1

            outcome = outcome_of(altered(small_model, change), data)
            assert outcome == right or WRONG in outcome, name
            reported[name] += outcome != right
    for level in range(3):
        prefix = f"levels.{level}.entropy_model.mixers."
        assert sum(count for name, count in reported.items() if name.startswith(prefix)) >= 2


def calls_of(name: str, codec: Codec, data: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often decoding calls a function of the entropy model."""
    real, calls = getattr(mptvc.model.entropy_model, name), []

    def counted(*args: Tensor) -> Tensor:
        calls.append(name)
        result: Tensor = real(*args)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(mptvc.model.entropy_model, name, counted)
        symbol_digests(data, codec=codec)
    assert calls
    return len(calls)


def alter_call(
    name: str, call: int, change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change one element in the middle of what one call of a function of the entropy model returns."""
    real, calls = getattr(mptvc.model.entropy_model, name), iter(range(10**6))

    def wrong(*args: Tensor) -> Tensor:
        result: Tensor = real(*args)
        if next(calls) == call:
            result = result.contiguous().clone()
            middle = result.view(-1)[result.numel() // 2 :][:1]
            middle.copy_(change(middle))
        return result

    monkeypatch.setattr(mptvc.model.entropy_model, name, wrong)


def test_a_wrong_table_row_is_reported_wherever_it_is(
    small_codec: Codec, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in range(calls_of("table_rows", small_codec, data, monkeypatch)):
        with monkeypatch.context() as patch:
            alter_call("table_rows", call, lambda row: torch.where(row % 2 == 0, row + 1, row - 1), patch)
            with pytest.raises(CorruptPacketError, match=WRONG):
                symbol_digests(data, codec=small_codec)


def test_a_mean_wrong_by_a_whole_step_is_reported_wherever_it_is(
    small_codec: Codec, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of a packet has no later rows that would differ."""
    for call in range(calls_of("_gated_mean", small_codec, data, monkeypatch)):
        with monkeypatch.context() as patch:
            alter_call("_gated_mean", call, lambda mean: torch.where(mean < 0, mean + 4, mean - 4), patch)
            with pytest.raises(CorruptPacketError, match=WRONG):
                symbol_digests(data, codec=small_codec)


# Another device


def require_cuda() -> None:
    """Skip a test where there is no device."""
    if not torch.cuda.is_available():
        if os.environ.get("MPTVC_REQUIRE_CUDA"):
            pytest.fail("MPTVC_REQUIRE_CUDA is set and there is no CUDA device")
        pytest.skip("no CUDA device")


@pytest.fixture
def cuda() -> RecordingCoder:
    require_cuda()
    return coder_of(mptvc.load("tokenizer", device="cuda", dtype="float32"))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_cpu_and_cuda_read_each_others_files(
    codec: Codec, cuda: RecordingCoder, dtype: str, precision: str
) -> None:
    """A precision of "high" lets the device take TF32 for matrix products of float32."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        read_each_others_files(codec, cuda, dtype, "float32" if precision == "highest" else "bfloat16")
    finally:
        torch.set_float32_matmul_precision(before)


def read_each_others_files(codec: Codec, cuda: RecordingCoder, dtype: str, pixels_as: str) -> None:
    cuda.dtype = getattr(torch, dtype)
    here = coder_of(codec, dtype, 3)
    video = waves(sum(SHOTS), *SIZE)
    for maker, reader in ((here, cuda), (cuda, here)):
        data = Codec(maker).compress(video, shots=SHOTS)
        own = digests_of(maker, maker.made)
        assert symbol_digests(data, codec=Codec(maker)) == own
        assert symbol_digests(data, codec=Codec(reader)) == own
        levels = compared(decoded(reader, data), decoded(coder_of(codec), data))
        within_tolerance(levels, max(dtype, pixels_as, key=DTYPES.index), reader.device.type)
        maker.made.clear()


# The campaign

FRAMES, PIXEL_FRAMES = 33, 8


@pytest.mark.slow
@pytest.mark.clips
def test_every_table_row_of_real_video_is_the_same_under_every_setting(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = sorted((clips / "train").glob("*.mp4"))
    order = np.random.default_rng(1).permutation(len(videos))
    with ExitStack() as stack:
        workers = started(stack, SETTINGS | MORE_SETTINGS)
        facts = [worker("facts") for worker in workers]
        assert [fact["capability"] for fact in facts] == [worker.aten for worker in workers]
        total = compared_rows = mismatches = 0
        for turn, video in enumerate(videos[i] for i in order):
            file, rows = tmp_path / "video.mpt", tmp_path / "video.rows"
            maker = workers[turn % len(workers)]
            lap = turn // len(workers)
            # bfloat16 takes many times as long without instructions for it.
            dtype = DTYPES[lap % 2] if maker.aten == "avx512" else "float32"
            made = maker(
                "encode_video", source=str(video), target=str(file), rows=str(rows), frames=FRAMES,
                threads=THREADS[lap % 3], dtype=dtype,
            )  # fmt: skip
            total += made["rows"]
            for index, worker in enumerate(workers):
                threads = THREADS[(turn + index) % 3]
                found = worker("compare_rows", source=str(file), rows=str(rows), threads=threads)
                mismatches += found["mismatches"]
                compared_rows += found["rows"] if worker is not maker else 0
                assert found["digests"] == made["digests"], (
                    f"{video.name}: {maker.name} read by {worker.name}"
                )
                assert found["rows"] == made["rows"]
            if total >= CAMPAIGN_ROWS:
                break
    with capsys.disabled():
        print(f"\n{turn + 1} videos, {total} rows, {len(workers)} settings, "
              f"{compared_rows} rows compared between settings, {mismatches} mismatches")  # fmt: skip
        for worker, fact in zip(workers, facts, strict=True):
            print(f"  {worker.name}: {fact['capability']}, arithmetic {fact['arithmetic']}")
    assert compared_rows >= CAMPAIGN_ROWS
    assert mismatches == 0


@pytest.mark.slow
@pytest.mark.clips
def test_pixels_of_real_video_stay_within_the_tolerance(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = sorted((clips / "train").glob("*.mp4"))[::6]
    file, rows, reference = (str(tmp_path / name) for name in ("a.mpt", "a.rows", "a.npy"))
    worst: dict[tuple[str, str, int], tuple[int, float]] = {}
    with ExitStack() as stack:
        workers = started(stack, SETTINGS | MORE_SETTINGS)
        for video in videos:
            workers[-1]("encode_video", source=str(video), target=file, rows=rows, frames=PIXEL_FRAMES,
                        threads=1, dtype="float32")  # fmt: skip
            workers[0]("pixels", source=file, target=reference, threads=1, dtype="float32", tile_batch=1)
            for worker in workers:
                for dtype in DTYPES:
                    levels = worker("differences", source=file, reference=reference, threads=2, dtype=dtype,
                                    tile_batch=3)  # fmt: skip
                    for level, (largest, share) in enumerate(levels):
                        key = (worker.name, dtype, level)
                        before = worst.get(key, (0, 0.0))
                        worst[key] = (max(before[0], largest), max(before[1], share))
    with capsys.disabled():
        print(f"\nlargest differences to float32 of {workers[0].name}, {len(videos)} videos")
        for (name, dtype, level), (largest, share) in worst.items():
            print(f"  {name}, {dtype}, level {level}: {largest}, {share:.5%} of the values differ")
    for (name, dtype, level), pair in worst.items():
        within_tolerance([pair], dtype, f"{name}, levels {level + 1}")


if __name__ == "__main__":
    main(Program())
