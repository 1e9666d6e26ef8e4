"""How a file with prediction spends its bits, and how its frames are predicted, as a page shows it."""

from dataclasses import dataclass, field
from typing import Any

from mptvc.codec.coder import FrameKind, Piece
from mptvc.format.header import Header
from mptvc.model.motion import BLOCK, UNITS
from mptvc.model.prediction import Blend

#: What a page calls blends, from the most to the least that they owe to other frames.
BLENDS = {
    Blend.NEAR: "the frame before",
    Blend.OVERLAPPED: "the frame before, blocks overlapping",
    Blend.BOTH: "mean of two frames",
    Blend.BOTH_OVERLAPPED: "mean of two frames, blocks overlapping",
    Blend.FAR: "the other of two frames",
    Blend.NEAR_BASE: "mean of the frame before and the coarser level",
    Blend.BOTH_BASE: "mean of two frames and the coarser level",
    Blend.BASE: "the coarser level alone",
}


@dataclass
class _Frames:
    """What the frames of one kind take at one level."""

    frames: int = 0
    bits: float = 0.0
    tokens: int = 0
    coded: int = 0


@dataclass
class LevelBits:
    """Bits of one level by what they are for.

    Attributes:
        kinds: What prediction left of each kind of frame.
        side_bits: Of how blocks are predicted.
    """

    kinds: dict[FrameKind, _Frames] = field(default_factory=lambda: {kind: _Frames() for kind in FrameKind})
    side_bits: float = 0.0

    def add(self, piece: Piece, level: int) -> None:
        """Count the frames of a piece, which are predicted."""
        for at in range(piece.num_frames):
            shown = piece.shown(level, at)
            if shown is None:
                continue
            mine = self.kinds[shown.kind]
            mine.frames += 1
            mine.bits += float(piece.bits(level, at).sum())
            mine.tokens += shown.coded.size
            mine.coded += int(shown.coded.sum())
            self.side_bits += piece.side_bits(level, at)

    def rows(self, header: Header, level: int) -> list[dict[str, Any]]:
        """What each part takes of the level's bytes, as a page shows it; none that does not occur."""
        total = 8 * sum(header.index.lengths(level))
        of_frames = [
            {"part": kind, "frames": mine.frames, "bits": mine.bits, "coded": mine.coded / mine.tokens}
            for kind, mine in self.kinds.items()
            if mine.frames
        ]
        around = total - self.side_bits - sum(mine.bits for mine in self.kinds.values())
        others = {"how blocks are predicted": self.side_bits, "around packets": around}
        return [*of_frames, *({"part": part, "bits": bits} for part, bits in others.items())]


def picture_of(piece: Piece, level: int, at: int, width: int) -> dict[str, Any] | None:
    """How a frame of a piece is predicted, as plain data; None for weights without prediction.

    Args:
        piece: The piece.
        level: The level.
        at: The frame.
        width: Source pixels that the blocks of a row cover together.
    """
    shown = piece.shown(level, at)
    if shown is None:
        return None
    columns, moved = shown.blends.shape[1], (shown.motion * UNITS).transpose(1, 2, 0).reshape(-1, 2)
    return {
        "kind": shown.kind,
        "unit": width / (columns * BLOCK * UNITS),
        "columns": columns,
        "blends": "".join(map(str, shown.blends.flatten())),
        "vectors": [None if v[0] != v[0] else [int(v[0]), int(v[1])] for v in moved],
        "tokens": shown.coded.shape[1],
        "coded": "".join("01"[int(one)] for one in shown.coded.flatten()),
    }


def kinds_of(piece: Piece, level: int) -> list[FrameKind]:
    """Kinds of a piece's frames at a level; none for weights without prediction."""
    shown = (piece.shown(level, at) for at in range(piece.num_frames))
    return [one.kind for one in shown if one is not None]
