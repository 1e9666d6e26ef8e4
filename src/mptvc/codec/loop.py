"""One level of a clip in a closed loop: pictures predicted from what a decoder has of others.

Knows pictures and packets; knows no file. An encoder decodes what it codes by the same steps as a decoder, so
each picture has one walk for both. Kept are two keys, choices and activities of the last picture of
each kind, and the pictures of the slice that is coded, whatever the clip's length.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mptvc.codec.camera_path import CameraPath, as_far
from mptvc.codec.pictures import CodedPicture, Past, PictureTokens
from mptvc.codec.residuals import analysed, synthesised
from mptvc.codec.stages import stage
from mptvc.codec.tables import Coder, LevelTables
from mptvc.format.slices import BEFORE, LONG_BEFORE, Turn, keys_of
from mptvc.model.activity import ActivityModel, Residual
from mptvc.model.contexts import Context, looked_up, token_classes
from mptvc.model.envelope import Envelope
from mptvc.model.fineness import no_fineness
from mptvc.model.loop_model import Kind, PredictedKind
from mptvc.model.motion import Reference
from mptvc.model.prediction import HALF_BASE, Blend, References, needs_base, predicted
from mptvc.model.restoration import USUAL_STRENGTH, Restoration, chosen_strength, coded_strength
from mptvc.model.side_symbols import Known, Side
from mptvc.native import calls

#: Pixels of pictures up to which samples between pixels are kept from slice to slice.
_KEPT_PIXELS = 2**22
#: How blocks of each blend are predicted: 0 from decoded pictures, 1 also from the base, 2 from that alone.
_KINDS = tuple(2 if blend == Blend.BASE else int(blend in HALF_BASE) for blend in Blend)
#: Says what the coarser level does, uint8 ``[3, H, W]``, when it is first asked.
Base = Callable[[], Tensor]


class LevelLoop:
    """Codes the pictures of one level of a clip, in coding order; one object encodes or decodes one clip.

    Args:
        tables: Of the level.

    Attributes:
        tables: The same.
        past: What is kept of the slices before, None before the opening key; an encoder that tries something
            puts it back.
    """

    def __init__(self, tables: LevelTables) -> None:
        self.tables = tables
        self.past: Past | None = None
        self._last: dict[bool, CodedPicture | None] = {}
        self._last_fineness: Tensor | None = None  # of the last key
        self._slice: dict[int, tuple[Reference, CodedPicture]] = {}
        self._path: CameraPath | None = None

    @stage("entropy")
    def fineness(
        self,
        coder: Coder,
        grid: tuple[int, int],
        turn: Turn | None,
        coarser: CodedPicture | None,
        given: Tensor | None = None,
    ) -> Tensor:
        """Code the fineness of the next picture, of which finer levels take that of the coarser one.

        Args:
            coder: The packet.
            grid: Blocks of level 0 along y and x.
            turn: Which picture of the slice; None for the opening key.
            coarser: The same picture at the coarser level, None at level 0.
            given: What to encode at level 0; nothing to decode.

        Returns:
            int64 ``[h, w]``, on the grid of level 0; 0 between keys.

        Raises:
            ValueError: The packet does not fit.
        """
        is_between, model = turn is not None and turn.is_between, self.tables.level.fineness
        if model is not None and not is_between:
            before = None if turn is None else self._last_fineness
            if calls.serve(self.tables.device):
                tables, compiled = self.tables.of(model), self.tables.compiled_fineness
                self._last_fineness = coder.walk(
                    tables, lambda packet: model.walked(compiled, packet, before, grid, given)
                )
            else:
                self._last_fineness = model.code(self.tables.exchange(model, coder), before, grid, given)
            return self._last_fineness
        if coarser is not None and not is_between:
            return coarser.fineness
        return no_fineness(grid, self.tables.device)

    @torch.no_grad()
    def opening(
        self,
        coder: Coder,
        base: Base,
        step: float,
        fineness: Tensor,
        coarser: CodedPicture | None,
        wanted: Tensor | PictureTokens | None = None,
    ) -> CodedPicture:
        """Code the first picture, from its base alone.

        Args:
            coder: The packet.
            base: What the coarser level says, sides of whole blocks; gray at level 0.
            step: Quantization step.
            fineness: Of the blocks of level 0, as ``fineness`` returns it.
            coarser: The coarser level's, None at level 0.
            wanted: What to encode: a picture, or tokens that stay as they are; nothing to decode.

        Raises:
            ValueError: The packet does not fit.
        """
        kind = self.tables.level.opening
        known, prediction = Known(None, None), Reference(base())
        coded = self._residual(coder, kind, prediction, step, fineness, coarser, known, None, wanted)
        self.past = Past(_reference_of(coded, prediction), fineness)
        return coded

    def start(self) -> None:
        """Begin a slice.

        Raises:
            ValueError: There is no opening key.
        """
        past = self._opened()
        self._slice.clear()
        self._last, self._last_fineness = {False: past.key, True: past.between}, past.fineness
        if scale := self.tables.level.camera_scale:
            self._path = CameraPath(scale, past.far_pose, self.tables.device)

    def finish(self, kind: int, count: int) -> None:
        """End a slice of so many pictures, and keep what the next one needs."""
        past, (before, last) = self._opened(), [BEFORE, *keys_of(kind, count)][-2:]
        near, far, apart, far_pose = self._reference(last), self._reference(before), last - before, None
        if self._path is not None:
            far, apart = past.far or past.near, past.apart + last - BEFORE
            far_pose = self._path.seen_from(LONG_BEFORE if past.far else BEFORE, last)
        fineness = self._slice[last][1].fineness
        if near.height * near.width > _KEPT_PIXELS:  # or each level would keep as much
            near.forget()
            far.forget()
        self._slice.clear()
        self.past = Past(near, fineness, far, apart, far_pose, self._last[False], self._last[True])

    def references(self, turn: Turn, coefficients: Tensor, coarser: CodedPicture | None) -> References:
        """What a picture is predicted from.

        Args:
            turn: Which picture of the slice.
            coefficients: Of the whole picture's motion.
            coarser: The same picture at the coarser level, None at level 0.
        """
        past = self._opened()
        near, to_near = self._reference(turn.near), turn.apart
        if turn.far == LONG_BEFORE:
            far, to_far = past.far, turn.index - BEFORE + past.apart
        else:
            far, to_far = self._reference(turn.far), turn.index - turn.far
        references = References(near, far, (to_near, to_far))
        if far is None or self._path is None:
            return references
        pose = self._path.pose(turn, coefficients, coarser)
        return self._path.bent(references, turn, coefficients, pose)

    def _reference(self, index: int) -> Reference:
        """A picture of the slice, or the one before it."""
        return self._opened().near if index == BEFORE else self._slice[index][0]

    def _opened(self) -> Past:
        if self.past is None:
            raise ValueError("an opening key comes first")
        return self.past

    def known(self, turn: Turn, coarser: CodedPicture | None) -> Known:
        """What is known of how a picture is predicted."""
        last, whole = self._last[turn.is_between], None
        if coarser is None and turn.whole is not None:
            whole = as_far(self._slice[turn.whole][1], turn)
        if self._path is None:
            return Known(None if last is None else last.side, whole if coarser is None else coarser.side)
        before = as_far(last, turn)
        if coarser is not None:
            return Known(before, self._path.followed(coarser, turn), has_path=True)
        return Known(before, whole, self._path.likely(before, whole), has_path=True)

    @torch.no_grad()
    def picture(
        self,
        coder: Coder,
        turn: Turn,
        base: Base,
        step: float,
        fineness: Tensor,
        coarser: CodedPicture | None,
        plan: Side | None = None,
        wanted: Tensor | PictureTokens | None = None,
    ) -> CodedPicture:
        """Code a picture that is predicted.

        Args:
            coder: The packet.
            turn: Which picture of the slice.
            base: What the coarser level says.
            step: Quantization step.
            fineness: Of the blocks of level 0, as ``fineness`` returns it.
            coarser: The same picture at the coarser level, None at level 0.
            plan: How it is predicted; nothing to decode.
            wanted: What to encode: a picture, or tokens that stay as they are; nothing to decode.

        Raises:
            ValueError: The packet does not fit, or there is no picture before.
        """
        kind, known = self.tables.level.predicted(turn.is_between), self.known(turn, coarser)
        side = self._side(coder, kind, self._reference(turn.near).grid, known, plan)
        references = self.references(turn, side.coefficients, coarser)
        prediction, last = _predicted(references, base, side), self._last[turn.is_between]
        coded = self._residual(coder, kind, prediction, step, fineness, coarser, known, side, wanted, last)
        pose = None
        if self._path is not None:
            pose = self._path.pose(turn, side.coefficients, coarser)
            self._path.add(turn.index, pose)
        coded = replace(coded, apart=turn.apart, pose=pose)
        self._last[turn.is_between] = coded
        if not turn.is_between:  # nothing leads further back from here on
            self._slice = {index: one for index, one in self._slice.items() if index >= turn.near}
        self._slice[turn.index] = _reference_of(coded, prediction), coded
        return coded

    @stage("entropy")
    def _side(
        self, coder: Coder, kind: PredictedKind, grid: tuple[int, int], known: Known, plan: Side | None
    ) -> Side:
        model = kind.side
        if calls.serve(model.kinds.device):
            tables, compiled = self.tables.of(model), self.tables.side(model)
            return coder.walk(tables, lambda packet: model.walked(compiled, packet, grid, known, plan))
        return model.code(self.tables.exchange(model, coder), grid, known, plan)

    def _residual(
        self,
        coder: Coder,
        kind: Kind,
        prediction: Reference,
        step: float,
        fineness: Tensor,
        coarser: CodedPicture | None,
        known: Known,
        side: Side | None,
        wanted: Tensor | PictureTokens | None,
        last: CodedPicture | None = None,
    ) -> CodedPicture:
        """Code what prediction leaves, or decode it, under what was left of the last picture of its kind."""
        predicted_picture = prediction.picture
        grid = kind.grid(prediction.height, prediction.width)
        if last is None:
            before = predicted_picture.new_zeros(*grid, kind.entropy_model.num_groups)
        else:
            before = last.activities
        steps = self.tables.level.steps(step, fineness, grid)
        envelope = Envelope(self.tables.level.envelope, prediction.luma.picture[0], steps)
        kinds = torch.zeros_like(fineness) if side is None else looked_up(_KINDS, side.blends)
        classes = token_classes(None if coarser is None else coarser.activities, kinds, grid)
        context = Context(before, classes, envelope)
        given = wanted.residual if isinstance(wanted, PictureTokens) else None
        if isinstance(wanted, Tensor):
            given = analysed(kind, wanted, predicted_picture, context, self.tables.quantizer)
        left = self._left(coder, kind, context, given)
        coded, values, quartered, _ = left
        smoothing = self.tables.level.smoothing
        decoded = synthesised(kind, coded, values, quartered, predicted_picture, steps, smoothing)
        strength, last_strength = USUAL_STRENGTH, USUAL_STRENGTH if last is None else last.strength
        if kind.restoration is not None and len(values):
            found = decoded, predicted_picture, coded, steps
            decoded, strength = self._restored(coder, kind.restoration, found, last_strength, wanted)
        strengths, is_between = (strength, last_strength), kind is self.tables.level.between
        return CodedPicture(decoded, side, *left, context, known, fineness, *strengths, is_between)

    @stage("synthesis")
    def _restored(
        self,
        coder: Coder,
        restoration: Restoration,
        found: tuple[Tensor, ...],
        last_strength: int,
        wanted: Tensor | PictureTokens | None,
    ) -> tuple[Tensor, int]:
        """Restore a picture, and code how strongly."""
        strength = wanted.strength if isinstance(wanted, PictureTokens) else None
        if isinstance(wanted, Tensor):
            strength = chosen_strength(restoration, found, wanted)
        strength = coded_strength(self.tables.strength_exchange(coder), last_strength, strength)
        return restoration(*found, strength), strength

    @stage("entropy")
    def _left(
        self, coder: Coder, kind: Kind, context: Context, given: Residual | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Code symbols: which tokens hold some, these ``[n, C]``, which are quartered, and activities."""
        model = kind.entropy_model
        if calls.serve(context.past.device):
            return self._walked(coder, model, context, given)
        residual, activities = model.code(self.tables.exchange(model, coder), context, given)
        coded = (activities > 0).any(-1)
        return coded, residual.symbols[coded], residual.quartered, activities

    def _walked(
        self, coder: Coder, model: ActivityModel, context: Context, given: Residual | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same by a compiled kernel."""
        known = context.past, context.classes, context.envelope.luma, context.envelope.steps
        wanted = None
        if given is not None:
            wanted = calls.array(given.symbols.to(torch.int16)), calls.array(given.quartered)
        past, classes, luma, steps = map(calls.array, known)
        found = coder.walk(
            self.tables.of(model),
            lambda packet: self.tables.residual(model).walk(packet, past, classes, luma, steps, wanted),
        )
        coded, values, quartered, activities = map(torch.from_numpy, found)
        if given is not None:
            values = given.symbols[coded]
        return coded, values, quartered, activities


def _reference_of(coded: CodedPicture, prediction: Reference) -> Reference:
    """A decoded picture for others: where nothing was left, its prediction, with all that is known of it."""
    return prediction if coded.picture is prediction.picture else Reference(coded.picture)


@stage("prediction")
def _predicted(references: References, base: Base, side: Side) -> Reference:
    blends = side.blends
    below = base() if needs_base(blends) else None
    picture = predicted(references, below, side.vectors, blends)
    return references.near if picture is references.near.picture else Reference(picture)
