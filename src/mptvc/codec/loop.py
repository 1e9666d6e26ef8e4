"""One level of a shot in a closed loop: keys predicted from what a decoder has of the keys before.

Knows pictures and packets; knows no file. An encoder decodes what it codes by the same steps as a decoder.
Both keep two pictures, the last choices and the last activities, whatever the shot's length.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.key_search import KeyPlan
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.loop_model import Kind, LoopLevel, quantized
from mptvc.model.motion import BLOCK, Reference, blocks_of, camera_vectors, picture_of
from mptvc.model.prediction import predict_key
from mptvc.model.side import Side

#: Coefficients of camera motion are -2^13 to 2^13 - 1, in two digits.
_DIGIT = 128
#: Digits of camera motion are all as likely.
_FLAT = Tables(np.diff(np.linspace(0, 2**24, 256).astype(np.int64))[None])


@dataclass
class _Past:
    """What is kept of the pictures before."""

    near: Reference
    far: Reference | None
    side: Side | None
    activities: Tensor


class LevelLoop:
    """Codes the keys of one level of a shot, in order; one object encodes or decodes one shot.

    Args:
        level: Transforms and tables.
    """

    def __init__(self, level: LoopLevel) -> None:
        self.level = level
        self._tables = {
            kind: [Tables(table.cpu().numpy()) for table in kind.entropy_model.tables()]
            for kind in (level.opening, level.key)
        }
        self._side_tables = [Tables(table.cpu().numpy()) for table in level.side.tables()]
        self._past: _Past | None = None

    @property
    def references(self) -> tuple[Reference, Reference | None]:
        """The decoded picture before, and the one before that.

        Raises:
            ValueError: Nothing is decoded yet.
        """
        if self._past is None:
            raise ValueError("an opening key comes first")
        return self._past.near, self._past.far

    @property
    def side(self) -> Side | None:
        """How the last picture was predicted; None for an opening key."""
        return None if self._past is None else self._past.side

    @torch.no_grad()
    def encode_opening(self, picture: Tensor, base: Tensor, step: float) -> tuple[bytes, Tensor]:
        """Code the first picture from its base alone.

        Args:
            picture: uint8 ``[3, H, W]``, sides of whole blocks.
            base: What the coarser level says, of the same shape; gray at level 0.
            step: Quantization step.

        Returns:
            The packet and the decoded picture.
        """
        writer = PacketWriter(_FLAT)
        decoded = self._code(writer, self.level.opening, base, step, None, picture)
        return writer.finish(), decoded

    @torch.no_grad()
    def encode_key(
        self, picture: Tensor, base: Tensor, step: float, plan: KeyPlan, coarser: Side | None
    ) -> tuple[bytes, Tensor]:
        """Code a picture that is predicted as planned.

        Args:
            picture: uint8 ``[3, H, W]``.
            base: What the coarser level says.
            step: Quantization step.
            plan: How it is predicted.
            coarser: How the coarser level predicted the same picture.

        Returns:
            The packet and the decoded picture.
        """
        writer = PacketWriter(_FLAT)
        _code_camera(writer, plan.camera)
        side = self._code_side(writer, plan.camera, coarser, plan.side)
        decoded = self._code(writer, self.level.key, self._predicted(base, side), step, side, picture)
        return writer.finish(), decoded

    @torch.no_grad()
    def decode_opening(self, packet: bytes, base: Tensor, step: float) -> Tensor:
        """Decode what ``encode_opening`` made.

        Raises:
            ValueError: The packet does not fit.
        """
        reader = PacketReader(_FLAT, packet)
        decoded = self._code(reader, self.level.opening, base, step, None, None)
        reader.finish()
        return decoded

    @torch.no_grad()
    def decode_key(self, packet: bytes, base: Tensor, step: float, coarser: Side | None) -> Tensor:
        """Decode what ``encode_key`` made.

        Raises:
            ValueError: The packet does not fit.
        """
        reader = PacketReader(_FLAT, packet)
        camera = _code_camera(reader, None)
        side = self._code_side(reader, camera, coarser, None)
        decoded = self._code(reader, self.level.key, self._predicted(base, side), step, side, None)
        reader.finish()
        return decoded

    def _predicted(self, base: Tensor, side: Side) -> Tensor:
        near, far = self.references
        return predict_key(near, far, base, side.vectors, side.blends)

    def _code_side(
        self, coder: PacketWriter | PacketReader, camera: Tensor, coarser: Side | None, side: Side | None
    ) -> Side:
        near, _ = self.references
        grid = near.height // BLOCK, near.width // BLOCK
        return self.level.side.code(
            lambda rows, given, table: coder(rows, given, tables=self._side_tables[table]),
            camera_vectors(camera, *grid),
            self.side,
            coarser,
            side,
        )

    def _code(
        self,
        coder: PacketWriter | PacketReader,
        kind: Kind,
        predicted: Tensor,
        step: float,
        side: Side | None,
        picture: Tensor | None,
    ) -> Tensor:
        """Code what prediction leaves, and keep what the next picture needs."""
        rows, columns = (size // BLOCK for size in predicted.shape[1:])
        model, tables = kind.entropy_model, self._tables[kind]
        grid = _token_grid(kind, rows, columns)
        given = None
        if picture is not None:
            residual = blocks_of(picture.to(torch.int16) - predicted)
            given = _to_grid(quantized(kind.latents(residual) / step), kind, rows, columns)
        past = self._past
        before = past.activities if past is not None and past.side is not None else None
        if before is None:
            before = torch.zeros(*grid, len(model.groups), dtype=torch.int64)
        symbols, activities = model.code(
            lambda r, integers, table: coder(r, integers, tables=tables[table]), before, given
        )
        left = kind.blocks(_from_grid(symbols.float(), kind, rows, columns) * step)
        decoded = (predicted + picture_of(left, rows)).round_().clamp_(0, 255).to(torch.uint8)
        self._past = _Past(Reference(decoded), None if past is None else past.near, side, activities)
        return decoded


def _code_camera(coder: PacketWriter | PacketReader, camera: Tensor | None) -> Tensor:
    """Code six coefficients of camera motion ``[2, 3]``."""
    rows = np.zeros(6, dtype=np.uint8)
    digits: list[np.ndarray | None] = [None, None]
    if camera is not None:
        numbers = camera.flatten().numpy().astype(np.int16)
        digits = [numbers // _DIGIT, numbers % _DIGIT - _DIGIT // 2]
    high, low = (coder(rows, digit).astype(np.int64) for digit in digits)
    return torch.from_numpy(high * _DIGIT + low + _DIGIT // 2).view(2, 3)


def _token_grid(kind: Kind, rows: int, columns: int) -> tuple[int, int]:
    tokens = BLOCK // kind.patch
    return rows * tokens, columns * tokens


def _to_grid(latents: Tensor, kind: Kind, rows: int, columns: int) -> Tensor:
    """Tokens of blocks ``[N, n, C]`` as the token grid ``[h, w, C]``."""
    tokens = BLOCK // kind.patch
    cells = latents.view(rows, columns, tokens, tokens, -1).transpose(1, 2)
    return cells.reshape(*_token_grid(kind, rows, columns), -1)


def _from_grid(grid: Tensor, kind: Kind, rows: int, columns: int) -> Tensor:
    """Undo ``_to_grid``."""
    tokens = BLOCK // kind.patch
    cells = grid.view(rows, tokens, columns, tokens, -1).transpose(1, 2)
    return cells.reshape(rows * columns, tokens * tokens, -1)
