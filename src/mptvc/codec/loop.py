"""One level of a clip in a closed loop: keys predicted from what a decoder has of the keys before.

Knows pictures and packets; knows no file. An encoder decodes what it codes by the same steps as a decoder, so
each picture has one walk for both. Kept are two pictures, the last choices and the last activities, whatever
the clip's length.
"""

import torch
from torch import Tensor

from mptvc.codec.keys import CodedKey, Past
from mptvc.codec.stages import stage
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.activity import (
    ActivityModel,
    Context,
    Exchange,
    even_frequencies,
    token_classes,
)
from mptvc.model.loop_model import Kind, LoopLevel
from mptvc.model.motion import BLOCK, Reference
from mptvc.model.prediction import Blend, predict_key
from mptvc.model.side import Side, SideModel
from mptvc.model.smoothing import smoothed

Coder = PacketWriter | PacketReader


class LevelTables:
    """The tables of a level, in the coder's form.

    Args:
        level: Transforms and tables.

    Attributes:
        level: The same.
        device: Where they are.
        digits: The table of digits.
    """

    def __init__(self, level: LoopLevel) -> None:
        self.level = level
        self.device = level.key.dct.device
        self.digits = Tables(even_frequencies().numpy())
        self._of: dict[ActivityModel | SideModel, list[Tables]] = {
            model: [Tables(table.cpu().numpy()) for table in model.tables()]
            for model in (level.opening.entropy_model, level.key.entropy_model, level.side)
        }

    def exchange(self, model: ActivityModel | SideModel, coder: Coder) -> Exchange:
        """What lets a coder walk through one of the level's entropy models."""
        tables = self._of[model]
        return lambda rows, integers, table: coder(rows, integers, tables=tables[table])


class LevelLoop:
    """Codes the keys of one level of a clip, in order; one object encodes or decodes one clip.

    Args:
        tables: Of the level.

    Attributes:
        tables: The same.
        past: What is kept, None before the opening key; an encoder that tries something puts it back.
    """

    def __init__(self, tables: LevelTables) -> None:
        self.tables = tables
        self.past: Past | None = None

    @torch.no_grad()
    def opening(
        self,
        coder: Coder,
        base: Tensor,
        step: float,
        coarser: CodedKey | None,
        picture: Tensor | None = None,
    ) -> CodedKey:
        """Code the first picture, from its base alone.

        Args:
            coder: The packet.
            base: What the coarser level says, uint8 ``[3, H, W]``, sides of whole blocks; gray at level 0.
            step: Quantization step.
            coarser: The coarser level's, None at level 0.
            picture: What to encode; nothing to decode.

        Raises:
            ValueError: The packet does not fit.
        """
        return self._residual(coder, self.tables.level.opening, base, step, coarser, None, picture)

    @torch.no_grad()
    def key(
        self,
        coder: Coder,
        base: Tensor,
        step: float,
        coarser: CodedKey | None,
        plan: Side | None = None,
        picture: Tensor | None = None,
    ) -> CodedKey:
        """Code a picture that is predicted.

        Args:
            coder: The packet.
            base: What the coarser level says.
            step: Quantization step.
            coarser: The same picture at the coarser level, None at level 0.
            plan: How it is predicted; nothing to decode.
            picture: What to encode; nothing to decode.

        Raises:
            ValueError: The packet does not fit, or there is no picture before.
        """
        if self.past is None:
            raise ValueError("an opening key comes first")
        near, far = self.past.near, self.past.far
        side = self._side(coder, near, None if coarser is None else coarser.side, plan)
        predicted = _predicted(near, far, base, side)
        return self._residual(coder, self.tables.level.key, predicted, step, coarser, side, picture)

    @stage("entropy")
    def _side(self, coder: Coder, near: Reference, coarser: Side | None, plan: Side | None) -> Side:
        model, before = self.tables.level.side, None if self.past is None else self.past.key.side
        grid = near.height // BLOCK, near.width // BLOCK
        return model.code(self.tables.exchange(model, coder), grid, before, coarser, plan)

    def _residual(
        self,
        coder: Coder,
        kind: Kind,
        predicted: Tensor,
        step: float,
        coarser: CodedKey | None,
        side: Side | None,
        picture: Tensor | None,
    ) -> CodedKey:
        """Code what prediction leaves, and keep what the next picture needs."""
        grid = kind.grid(*predicted.shape[1:])
        given = None if picture is None else _analysed(kind, picture, predicted, step)
        past, groups = self.past, kind.entropy_model.num_groups
        before = predicted.new_zeros(*grid, groups, dtype=torch.int64)
        if past is not None and past.key.side is not None:  # an opening key has far more
            before = past.key.activities
        kinds = torch.zeros_like(before[..., 0]) if side is None else _prediction_kinds(side, grid)
        context = Context(before, token_classes(None if coarser is None else coarser.activities, kinds))
        symbols, activities = self._symbols(coder, kind, context, given)
        decoded = _synthesised(kind, symbols, predicted, step)
        key = CodedKey(decoded, side, symbols, activities, context)
        self.past = Past(Reference(key.picture), None if past is None else past.near, key)
        return key

    @stage("entropy")
    def _symbols(
        self, coder: Coder, kind: Kind, context: Context, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        model = kind.entropy_model
        return model.code(self.tables.exchange(model, coder), context, given)


def _prediction_kinds(side: Side, grid: tuple[int, int]) -> Tensor:
    """How tokens are predicted, as `token_classes` takes it, int64 ``[h, w]``."""
    kinds = (side.blends - Blend.NEAR_BASE + 1).clamp_(min=0)
    factor = grid[0] // kinds.shape[0]
    return kinds.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


@stage("prediction")
def _predicted(near: Reference, far: Reference | None, base: Tensor, side: Side) -> Tensor:
    return predict_key(near, far, base, side.vectors, side.blends)


@stage("analysis")
def _analysed(kind: Kind, picture: Tensor, predicted: Tensor, step: float) -> Tensor:
    return kind.quantized(kind.latents(picture.to(torch.int16) - predicted).mul_(1 / step))


@stage("synthesis")
def _synthesised(kind: Kind, symbols: Tensor, predicted: Tensor, step: float) -> Tensor:
    """The decoded picture uint8 ``[3, H, W]``: the predicted one, where no token has symbols."""
    decoded, tokens = predicted.clone(), symbols.any(-1)
    (rows, columns), patch = tokens.shape, kind.patch
    cells = decoded.view(3, rows, patch, columns, patch).permute(1, 3, 0, 2, 4)
    left = kind.pixels(symbols[tokens].float().mul_(step))
    cells[tokens] = left.add_(cells[tokens]).round_().clamp_(0, 255).to(torch.uint8)
    return smoothed(decoded, tokens, step)
