"""Writes small files with prediction and their pixels, a folder of ``tests/golden`` for each form of weights.

Run by hand, as ``make_golden.py``: ``python tests/make_golden_loop.py`` adds what is missing and replaces
nothing. The weights are of this script alone, so that they never change, and are packed, as tables are long.
"""

import hashlib
import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from make_golden import facts_with_missing, shots_of_waves
from test_loop_files import possible_plan

import mptvc
import mptvc.codec.loop_encoder
import mptvc.codec.residuals
import mptvc.codec.slices
from mptvc.codec.clip_encoder import ClipEncoder
from mptvc.codec.codec import Codec
from mptvc.codec.quantization import quantized
from mptvc.codec.slice_motion import SliceMotion
from mptvc.codec.slices import CodedSlice
from mptvc.codec.stored import CONFIG_FILE, TENSORS_FILE, write_weights
from mptvc.files.digests import symbol_digests
from mptvc.format.bitstream import VERSION
from mptvc.format.slices import KINDS
from mptvc.model.activity import SHAPES, Residual
from mptvc.model.fineness import FINEST
from mptvc.model.integer_network import integer_frequencies
from mptvc.model.loop_config import LoopConfig, LoopLevelConfig
from mptvc.model.loop_model import LoopModel
from mptvc.model.side import SCALES

GOLDEN = Path(__file__).parent / "golden"
#: Folders; whether coded tokens are restored there, whether cameras have a path, and whether tokens tell if
#: they hold something: the first weights have none of these.
FORMS = {
    "loop": (False, False, False),
    "restored": (True, False, False),
    "path": (True, True, False),
    "flags": (True, True, True),
}
FACTS = "golden.json"
_PACKED = f"{TENSORS_FILE}.xz"


def make_model(*, restoration: bool, camera_path: bool, coded_flags: bool) -> LoopModel:
    """A model in whose tables every row differs from its neighbours, so that none stands for another."""
    finest = LoopLevelConfig(13.0, fineness=0.25, smoothing=1.5, restoration=restoration)
    coarser = (LoopLevelConfig(step, detail=2, restoration=restoration) for step in (130.0, 38.0))
    levels = *coarser, finest
    config = LoopConfig(levels, clip_frames=18, camera_path=camera_path, coded_flags=coded_flags)
    model = LoopModel(config)

    def peaks(shape: tuple[int, int], *, across: float) -> torch.Tensor:
        """Rows with a peak that moves from row to row; few different ones, which are packed well."""
        row, value = np.ogrid[: shape[0], : shape[1]]
        return integer_frequencies(1 + 60.0 * np.exp(-np.abs(value - row % 16 * across % shape[1])))

    def pattern(shape: tuple[int, ...], below: int) -> torch.Tensor:
        numbers = sum((2 * k + 1) * index for k, index in enumerate(np.indices(shape)))
        return torch.from_numpy(numbers % below).to(torch.uint8)

    for level in model.levels:
        for name, weights in level.envelope.named_parameters():
            if not name.endswith("bias"):
                weights.data.copy_(12 * (pattern((*weights.shape,), 8) - 4.0))
        if level.fineness is not None:
            values = level.fineness.value_frequencies
            values.copy_(peaks((*values.shape,), across=1.9))
        for kind in (level.opening, level.key, level.between):
            tables = kind.entropy_model
            tables.activity_frequencies.copy_(peaks((*tables.activity_frequencies.shape,), across=0.36))
            tables.row_of.copy_(pattern((*tables.row_of.shape,), len(tables.activity_frequencies)))
            tables.symbol_frequencies.copy_(peaks((*tables.symbol_frequencies.shape,), across=16.3))
            row = np.arange(SHAPES)
            tables.shape_frequencies.copy_(integer_frequencies(np.stack([9 + row, 0 * row, 40 - row], 1)))
            if tables.coded_frequencies is not None:
                row = np.arange(len(tables.coded_frequencies))
                flags = np.stack([9 + row % 16, 0 * row, 40 - row % 16], 1)
                tables.coded_frequencies.copy_(integer_frequencies(flags))
            shares = tables.splitting
            shares.share_frequencies.copy_(peaks((*shares.share_frequencies.shape,), across=0.36))
            shares.rest_frequencies.copy_(peaks((*shares.rest_frequencies.shape,), across=0.36))
            shares.row_of.copy_(pattern((*shares.row_of.shape,), len(shares.rest_frequencies)))
            if kind.restoration is not None:
                filters = kind.restoration.filters
                filters.copy_(8 * (pattern((*filters.shape,), 19).short() - 9))
        for side in (level.key.side, level.between.side):
            side.choice_frequencies.copy_(peaks((*side.choice_frequencies.shape,), across=7.3))
            side.scale_of.copy_(pattern((*side.scale_of.shape,), SCALES))
            if side.camera_frequencies is not None:
                side.camera_frequencies.copy_(peaks((*side.camera_frequencies.shape,), across=5.7))
    return model


@contextmanager
def golden_weights(form: str) -> Iterator[Path]:
    """The weights of a form as a folder."""
    packed = GOLDEN / form
    with TemporaryDirectory() as folder:
        (Path(folder) / TENSORS_FILE).write_bytes(lzma.decompress((packed / _PACKED).read_bytes()))
        (Path(folder) / CONFIG_FILE).write_bytes((packed / CONFIG_FILE).read_bytes())
        yield Path(folder)


class EveryKind(ClipEncoder):
    """Codes slices of all kinds by turns, at each level of another one."""

    def _encode(self, level: int, motion: Any, coarser: CodedSlice | None, gain: int) -> CodedSlice:
        kind = (len(self._slices[level]) + level) % KINDS
        return self._loop.encode(level, motion, [] if coarser is None else coarser.pictures, kind, gain)


def pixel(codec: Codec) -> bytes:
    return codec.compress(np.full((3, 1, 1, 3), (200, 30, 90), np.uint8))


def plain(codec: Codec) -> bytes:
    """What an encoder makes of two shots, of which the second stands still; with bits to keep to."""
    frames = shots_of_waves(17, 31, 32, (12,))
    frames[12:] = frames[12]
    return codec.compress(frames, shots=(12, 5), rate=mptvc.Rate(bpp=(0.4, 0.8, 1.6)))


def wild(codec: Codec) -> bytes:
    """Slices of every kind and length, any fineness and shapes, blocks of every way, from far outside."""
    shots = (13, 2, 3, 4)
    rng, all_fineness = np.random.default_rng(2), cycle(range(-FINEST, FINEST + 1))

    def any_shapes(*given: Any) -> Residual:
        symbols = quantized(*given).symbols
        return Residual(symbols, symbols.any(1) & torch.from_numpy(rng.random(len(symbols)) < 0.5))

    def any_fineness(_: SliceMotion, *__: object) -> torch.Tensor:
        return torch.tensor([[next(all_fineness)]])

    with ExitStack() as stack:
        for owner, name, mine in (
            (mptvc.codec.slices, "planned", possible_plan(seed=4)),
            (mptvc.codec.residuals, "quantized", any_shapes),
            (mptvc.codec.loop_encoder, "ClipEncoder", EveryKind),
            (SliceMotion, "fineness", any_fineness),
        ):
            stack.enter_context(mock.patch.object(owner, name, mine))
        frames = shots_of_waves(sum(shots), 29, 31, tuple(np.cumsum(shots)[:-1]))
        return codec.compress(frames, shots=shots, rate=mptvc.Rate(-6))


FILES: dict[str, Callable[[Codec], bytes]] = {"pixel": pixel, "plain": plain, "wild": wild}


def facts_of(data: bytes, codec: Codec, _: Path) -> dict[str, Any]:
    """What a file decodes to, to the last bit."""
    header = mptvc.probe(data).header
    prefixes = [codec.decompress(data, levels=k + 1).frames for k in range(header.num_levels)]
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "version": VERSION,
        "weights_id": header.weights_id.hex(),
        "entropy_id": header.entropy_id.hex(),
        "size": [header.video.width, header.video.height],
        "shots": list(header.shots.lengths),
        "clip_frames": header.shots.clip_frames,
        "prefix_bytes": [header.prefix_bytes(levels + 1) for levels in range(header.num_levels)],
        "digests": symbol_digests(data, codec=codec),
        "pixels": [hashlib.sha256(frames.tobytes()).hexdigest() for frames in prefixes],
    }


def main() -> None:
    """Write what is missing."""
    for form, (restoration, camera_path, coded_flags) in FORMS.items():
        packed = GOLDEN / form
        packed.mkdir(exist_ok=True)
        if not (packed / _PACKED).exists():
            with TemporaryDirectory() as folder:
                model = make_model(restoration=restoration, camera_path=camera_path, coded_flags=coded_flags)
                write_weights(model, Path(folder))
                tensors = (Path(folder) / TENSORS_FILE).read_bytes()
                (packed / _PACKED).write_bytes(lzma.compress(tensors, preset=9))
                (packed / CONFIG_FILE).write_bytes((Path(folder) / CONFIG_FILE).read_bytes())
        with golden_weights(form) as folder:
            codec = mptvc.load(folder, device="cpu")
        facts = facts_with_missing(packed / FACTS, codec, FILES, facts_of)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(known)}" for name, known in facts.items())
        (packed / FACTS).write_text(f"{{{lines}}}\n")


if __name__ == "__main__":
    main()
