"""A section with prediction: a packet for each slice of a clip.

In front of each packet stand, little-endian, the slice's kind (1 byte, 0 or 1), the gain of its level (a signed
byte, -96 to 96) and the packet's length in bytes (4 bytes). Nothing follows the last packet.

Frames of a slice of kind 0, a **chain**, are coded in the order in which they are shown: each is a key, that is
predicted from keys before it. In kind 1, the last frame comes first and is a key; then the one in the middle
between it and the key before the slice, predicted from both, and so on, by halves.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

_FRONT = struct.Struct("<BbI")
#: Bytes that a slice takes beside its packet.
FRONT_BYTES = _FRONT.size
#: Largest absolute gain of a packet.
MAX_SLICE_GAIN = 96


class SliceKind(IntEnum):
    """In what order the frames of a slice are coded."""

    CHAIN = 0  #: as they are shown
    HALVES = 1  #: the last one, then what lies between decoded ones, by halves


@dataclass(frozen=True)
class Turn:
    """The turn of a frame of a slice to be coded.

    Frames are counted from the slice's first; `BEFORE` is the last one before it, and `LONG_BEFORE` the key
    before that, wherever it is.

    Attributes:
        index: The frame.
        near: A frame before it that it is predicted from.
        far: Another one.
        depth: How often the slice was halved to get there, 0 for a key.
        whole: Where it lies between others, a frame that was coded before it and what that is predicted from:
            it has gone a part of that way.
    """

    index: int
    near: int
    far: int
    depth: int = 0
    whole: tuple[int, int] | None = None


BEFORE, LONG_BEFORE = -1, -2


def turns(kind: SliceKind, count: int) -> list[Turn]:
    """The frames of a slice of so many in coding order."""
    if kind == SliceKind.CHAIN:
        return [Turn(i, i - 1, i - 2) for i in range(count)]
    key = Turn(count - 1, BEFORE, LONG_BEFORE)
    return [key, *_between(BEFORE, key.index, 1, (key.index, BEFORE))]


def _between(first: int, last: int, depth: int, whole: tuple[int, int]) -> list[Turn]:
    """The frames between two that are coded."""
    middle = (first + last) // 2
    if middle == first:
        return []
    halves = (
        _between(first, middle, depth + 1, (middle, first)),
        _between(middle, last, depth + 1, (middle, first)),
    )
    return [Turn(middle, first, last, depth, whole), *halves[0], *halves[1]]


@dataclass(frozen=True)
class SlicePacket:
    """One level of a slice.

    Attributes:
        packet: Its packet.
        gain: How much finer than in training it is quantized, in 24ths of an octave.
        kind: In what order its frames are coded.
    """

    packet: bytes
    gain: int
    kind: SliceKind


def joined(slices: Sequence[SlicePacket]) -> bytes:
    """The section of a clip's slices."""
    return b"".join(_FRONT.pack(s.kind, s.gain, len(s.packet)) + s.packet for s in slices)


def split(section: bytes, count: int) -> list[SlicePacket]:
    """The slices of a section, of which there are so many.

    Raises:
        ValueError: The section is not of so many slices, or breaks a rule.
    """
    found, at = [], 0
    for _ in range(count):
        if at + _FRONT.size > len(section):
            raise ValueError("a slice is missing")
        kind, gain, length = _FRONT.unpack_from(section, at)
        start = at + _FRONT.size
        at = start + length
        if kind not in tuple(SliceKind) or abs(gain) > MAX_SLICE_GAIN or at > len(section):
            raise ValueError("a slice is malformed")
        found.append(SlicePacket(section[start:at], gain, SliceKind(kind)))
    if at < len(section):
        raise ValueError("bytes are left over after the last slice")
    return found
