"""What is coded and kept of the pictures of one level of a clip."""

from dataclasses import dataclass

from torch import Tensor

from mptvc.model.activity import Residual
from mptvc.model.contexts import Context
from mptvc.model.motion import Reference
from mptvc.model.side_symbols import Known, Side


@dataclass(frozen=True)
class PictureTokens:
    """What a file says of one picture of one level.

    Attributes:
        side: How it is predicted, None for an opening key.
        residual: What prediction left.
        fineness: Of the blocks of level 0, int64 ``[h, w]``.
        strength: Of restoration.
    """

    side: Side | None
    residual: Residual
    fineness: Tensor
    strength: int


@dataclass(frozen=True)
class CodedPicture:
    """One picture of one level.

    Attributes:
        picture: As decoded, uint8 ``[3, H, W]``.
        side: How it was predicted, None for an opening key.
        coded: Tokens where prediction left something, bool ``[h, w]``.
        values: Symbols of these, int16 ``[n, C]``.
        quartered: Tokens that are, bool ``[h, w]``.
        activities: Of all symbols, uint8 ``[h, w, groups]``.
        context: What was known of it before its symbols were.
        known: What was known of it before its side symbols were.
        fineness: Of the blocks of level 0, int64 ``[h, w]``; 0 between keys.
        strength: Of restoration.
        last_strength: The same of the last picture of its kind, under which it was coded.
        is_between: Whether it lies between pictures that were coded before it.
        apart: Frames to it from the one where its vectors lead; 0 for an opening key.
        pose: Where the camera is, see `camera_path`; None for an opening key and where cameras have no path.
    """

    picture: Tensor
    side: Side | None
    coded: Tensor
    values: Tensor
    quartered: Tensor
    activities: Tensor
    context: Context
    known: Known
    fineness: Tensor
    strength: int
    last_strength: int
    is_between: bool = False
    apart: int = 0
    pose: Tensor | None = None

    @property
    def residual(self) -> Residual:
        """What prediction left."""
        whole = self.values.new_zeros(*self.coded.shape, self.values.shape[1])
        whole[self.coded] = self.values
        return Residual(whole, self.quartered)


@dataclass(frozen=True)
class Past:
    """What is kept of the pictures before a slice.

    Attributes:
        near: The last key.
        far: The opening key or, where cameras have no path, the key before the last; None without one.
        apart: Frames from ``far`` to ``near``.
        far_pose: Where the camera was at ``far``, seen from ``near``; None where cameras have no path.
        fineness: Of the last key.
        key: The last key that is predicted, None without one.
        between: The last picture that lay between others, None without one.
    """

    near: Reference
    fineness: Tensor
    far: Reference | None = None
    apart: int = 0
    far_pose: Tensor | None = None
    key: CodedPicture | None = None
    between: CodedPicture | None = None
