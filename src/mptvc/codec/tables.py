"""The tables of one level in the form of a coder, and of kernels."""

from functools import cached_property

from mptvc.codec.quantization import compiled_quantizer
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.activity import ActivityModel
from mptvc.model.exchange import Exchange, even_frequencies
from mptvc.model.fineness import FinenessModel
from mptvc.model.loop_model import Kind, LoopLevel
from mptvc.model.restoration import strength_frequencies
from mptvc.model.side import SideModel
from mptvc.native import walks
from mptvc.native.choices import Quantizer

Coder = PacketWriter | PacketReader
EntropyModel = ActivityModel | SideModel | FinenessModel


class LevelTables:
    """The tables of a level, in the coder's form.

    Args:
        level: Transforms and tables.

    Attributes:
        level: The same.
        device: Where they are.
        digits: The table of digits.
        strengths: The table of strengths of restoration.
    """

    def __init__(self, level: LoopLevel) -> None:
        self.level = level
        self.device = level.key.dct.device
        self.digits = Tables(even_frequencies().numpy())
        self.strengths = Tables(strength_frequencies().numpy())
        kinds = level.opening, level.key, level.between
        models: list[EntropyModel] = [kind.entropy_model for kind in kinds]
        models += [level.key.side, level.between.side]
        models += [] if level.fineness is None else [level.fineness]
        self._residuals: dict[ActivityModel, walks.ResidualModel] = {}
        self._sides: dict[SideModel, walks.SideModel] = {}
        self._quantizers: dict[Kind, Quantizer] = {}
        self._of = {model: [Tables(table.cpu().numpy()) for table in model.tables()] for model in models}

    def of(self, model: EntropyModel) -> list[Tables]:
        """The tables of one of the level's entropy models, by their numbers."""
        return self._of[model]

    def residual(self, model: ActivityModel) -> walks.ResidualModel:
        """An entropy model of what prediction leaves in the form that its kernel takes."""
        if model not in self._residuals:
            tables = [table.compiled for table in self._of[model]]
            self._residuals[model] = model.compiled(tables, self.level.envelope.compiled)
        return self._residuals[model]

    def side(self, model: SideModel) -> walks.SideModel:
        """The same of side symbols."""
        if model not in self._sides:
            self._sides[model] = model.compiled([table.compiled for table in self._of[model]])
        return self._sides[model]

    def quantizer(self, kind: Kind) -> Quantizer:
        """What an encoder's choice of symbols depends on, likewise."""
        if kind not in self._quantizers:
            self._quantizers[kind] = compiled_quantizer(kind, self.level.envelope)
        return self._quantizers[kind]

    @cached_property
    def compiled_fineness(self) -> walks.FinenessModel:
        """The entropy model of fineness likewise, at level 0."""
        if self.level.fineness is None:
            raise ValueError("finer levels take the fineness of level 0")
        (table,) = self._of[self.level.fineness]
        return walks.FinenessModel(table.compiled)

    def exchange(self, model: EntropyModel, coder: Coder) -> Exchange:
        """What lets a coder walk through one of the level's entropy models."""
        tables = self._of[model]
        return lambda rows, integers, table: coder(rows, integers, tables=tables[table])

    def strength_exchange(self, coder: Coder) -> Exchange:
        """What lets a coder take the strength of a picture."""
        return lambda rows, integers, _: coder(rows, integers, tables=self.strengths)
