"""What is coded and kept of the pictures of one level of a clip."""

from dataclasses import dataclass

from torch import Tensor

from mptvc.model.activity import Context
from mptvc.model.motion import Reference
from mptvc.model.side import Side


@dataclass(frozen=True)
class CodedKey:
    """One picture of one level.

    Attributes:
        picture: As decoded, uint8 ``[3, H, W]``.
        side: How it was predicted, None for an opening key.
        symbols: What prediction left, int16 ``[h, w, C]``.
        activities: Of the symbols, int64 ``[h, w, groups]``.
        context: What was known of it before its symbols were.
    """

    picture: Tensor
    side: Side | None
    symbols: Tensor
    activities: Tensor
    context: Context


@dataclass(frozen=True)
class Past:
    """What is kept of the pictures before.

    Attributes:
        near: The decoded picture before.
        far: The one before that, None where there is none.
        key: The former with its choices and activities.
    """

    near: Reference
    far: Reference | None
    key: CodedKey
