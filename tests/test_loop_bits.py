"""Bits of files with prediction: what tables say is what packets take, and what motion and stillness save."""

from collections import Counter
from io import BytesIO
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_loop import texture

import mptvc
import mptvc.codec.slices
from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.loop_coder import LoopCoder
from mptvc.format.packet import PacketReader, Tables
from mptvc.format.slices import FRONT_BYTES
from mptvc.model.activity_bits import bits_apart, contexts_apart, token_bits
from mptvc.model.contexts import checkerboard
from mptvc.native import calls

#: Bytes of a packet that are no symbols: its check value, and on the mean half a word to fill it.
PACKET_BYTES = 6
NO_MEANS = np.empty(0, np.int8)


def moved(count: int, dy: float, dx: float, side: int = 256) -> np.ndarray:
    """A texture that moves by fractions of pixels a frame, uint8 ``[T, H, W, 3]``."""
    reach = side + 2 * 64
    whole, at = texture(reach, reach, seed=1)[None].float(), torch.arange(side) + 64.5
    frames = []
    for index in range(count):
        y, x = (2 * (at + index * d) / reach - 1 for d in (dy, dx))
        places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
        frames.append(F.grid_sample(whole, places, mode="bicubic", align_corners=False)[0])
    pictures = torch.stack(frames).clamp(0, 255).round().to(torch.uint8)
    found: np.ndarray = pictures.permute(0, 2, 3, 1).numpy()
    return found


def noisy() -> np.ndarray:
    """Frames of a texture that moves, with noise, uint8 ``[9, 192, 192, 3]``."""
    noise = np.random.default_rng(1).normal(0, 2, (9, 192, 192, 3))
    found: np.ndarray = (moved(9, 0.4, -0.7, 192) + noise).clip(0, 255).astype(np.uint8)
    return found


class Counted(PacketReader):
    """Adds up what the tables say that symbols take, for each table."""

    bits: ClassVar[Counter[Tables]] = Counter()

    def __call__(
        self,
        rows: np.ndarray,
        symbols: np.ndarray | None = None,
        means: np.ndarray = NO_MEANS,
        tables: Tables | None = None,
    ) -> np.ndarray:
        found = super().__call__(rows, symbols, means, tables)
        assert tables is not None
        counts = tables._counts[rows, found + tables.reach]
        self.bits[tables] += float(-np.log2(counts / 2**24).sum())
        return found


def test_bits_of_tables_are_the_bytes_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = mptvc.load("codec", device="cpu")
    assert isinstance(codec.coder, LoopCoder)
    data = codec.compress(noisy())
    header, reader = mptvc.probe(data).header, Decompressor(codec.coder, BytesIO(data), len(data))
    monkeypatch.setattr(mptvc.codec.slices, "PacketReader", Counted)
    Counted.bits.clear()
    with calls.off():  # kernels hand over no single steps
        pieces = list(reader.pieces(0))
    for level, tables in enumerate(codec.coder.tables):
        opening, key, between = tables.level.opening, tables.level.key, tables.level.between
        kinds = [kind.entropy_model for kind in (opening, key, between)]
        of_tokens = sum(Counted.bits[t] for kind in kinds for t in tables._of[kind])
        stated = sum(float(p.bits(level, i).sum()) for p in pieces for i in range(p.num_frames))
        assert stated == pytest.approx(of_tokens, rel=1e-4)
        side_tables = [tables.digits, tables.strengths]
        side_tables += [*tables._of[key.side], *tables._of[between.side]]
        if tables.level.fineness is not None:
            side_tables += tables._of[tables.level.fineness]
        of_side = sum(Counted.bits[t] for t in side_tables)
        told = sum(p.side_bits(level, i) for p in pieces for i in range(p.num_frames))
        assert told == pytest.approx(of_side, rel=1e-4)
        taken = header.index.section(level, 0).length - len(pieces) * (FRONT_BYTES + PACKET_BYTES)
        assert (of_tokens + of_side) / 8 == pytest.approx(taken, rel=0.01, abs=2 * len(pieces))


def test_what_symbols_are_chosen_by_is_about_what_they_take() -> None:
    """Of the tokens whose activities are coded first."""
    codec = mptvc.load("codec", device="cpu")
    assert isinstance(codec.coder, LoopCoder)
    data = codec.compress(noisy())
    pieces = list(Decompressor(codec.coder, BytesIO(data), len(data)).pieces(0))
    for number, tables in enumerate(codec.coder.tables):
        level, about, taken = tables.level, 0.0, 0.0
        for piece in pieces:
            for coded in piece._levels[number].pictures:
                left, context = coded.residual, coded.context
                tokens = torch.nonzero(checkerboard(context.past)[0].flatten()).flatten()
                kind = level.opening if coded.side is None else level.predicted(coded.is_between)
                outer = contexts_apart(kind.entropy_model, context).flatten(0, 1)[tokens]
                shapes = left.quartered.flatten()[tokens]
                expected = context.envelope.sums_below(tokens, shapes)
                symbols = left.symbols.flatten(0, 1)[tokens].float()
                about += float(bits_apart(kind.entropy_model, symbols, shapes, expected, outer).sum())
                taken += float(token_bits(kind.entropy_model, left, context).flatten()[tokens].sum())
        assert about == pytest.approx(taken, rel=0.03)


def ratio(codec: Codec, frames: np.ndarray) -> float:
    """Bytes of a video over those of its first frame alone."""
    return len(codec.compress(frames)) / len(codec.compress(frames[:1]))


def test_what_stands_still_takes_little_more_than_its_first_frame() -> None:
    codec = mptvc.load("codec", device="cpu")
    assert ratio(codec, moved(1, 0.0, 0.0).repeat(97, 0)) < 1.5


def test_what_moves_takes_far_less_than_as_many_pictures() -> None:
    assert ratio(mptvc.load("codec", device="cpu"), moved(33, 0.3, 0.45, 128)) < 33 / 3
