"""A section with prediction: a packet for each slice of a clip.

In front of each packet stand, little-endian, the slice's kind (1 byte, 0 to 2), the gain of its level (a
signed byte, -96 to 96) and the packet's length in bytes (4 bytes). Nothing follows the last packet.

Of a slice of kind k every 2^k-th frame is a **key**, and so is the last one. A key is predicted from the keys
before it. It is followed in the packet by the frames between the last key and itself: first the one in the
middle, which is predicted from both, and so on by halves.

A packet holds, of each frame in that order, its fineness if it is a key of level 0, how it is predicted
unless it is an opening key, and what prediction left: activities of all tokens or, where weights have flags,
which tokens hold something and the activities of these; then of those that hold something the shape of each,
-1 for whole and 1 for quartered, how small sums of magnitudes are split, and other symbols (see `fineness`,
`side`, `activity` and `splitting`). The rows of the last two follow from the predicted pixels and the step
(see `envelope`), so a packet is read behind the pictures it is predicted from. Last comes the strength of its
restoration, where weights have filters and something is left (`restoration`).
What pixels all this makes to the last bit, `loop_model` says.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mptvc.format.geometry import LOOP_SLICE

_FRONT = struct.Struct("<BbI")
#: Bytes that a slice takes beside its packet.
FRONT_BYTES = _FRONT.size
#: Largest absolute gain of a packet.
MAX_SLICE_GAIN = 96


#: Kinds of slices.
KINDS = LOOP_SLICE.bit_length()
#: The kind whose frames are all keys.
CHAIN = 0


@dataclass(frozen=True)
class Turn:
    """The turn of a frame of a slice to be coded.

    Frames are counted from the slice's first; `BEFORE` is the last one before it, and `LONG_BEFORE` the
    opening key, which shows what was hidden since, or where cameras have no path the key before the last.

    Attributes:
        index: The frame.
        near: A frame before it that it is predicted from.
        far: Another one.
        height: Of a frame between others, how often what it halves is halved again.
        whole: Of a frame between others, one that was coded before it, on whose way it lies. None for a key.
    """

    index: int
    near: int
    far: int
    height: int = 0
    whole: int | None = None

    @property
    def apart(self) -> int:
        """Frames from ``near`` to this one."""
        return self.index - self.near

    @property
    def is_between(self) -> bool:
        """Whether the frame lies between those that it is predicted from."""
        return self.whole is not None


BEFORE, LONG_BEFORE = -1, -2


def kinds_of(count: int) -> range:
    """Kinds of slices of so many frames that have different keys."""
    return range(min(KINDS, 1 + (count - 1).bit_length()))


def keys_of(kind: int, count: int) -> list[int]:
    """The keys of a slice of so many frames: every 2^kind-th one, and the last."""
    span = 1 << kind
    return [min(at + span, count) - 1 for at in range(0, count, span)]


def turns(kind: int, count: int) -> list[Turn]:
    """The frames of a slice of so many in coding order."""
    found, before, near, far = [], BEFORE, BEFORE, LONG_BEFORE
    for key in keys_of(kind, count):
        found += [Turn(key, near, far), *_between(before, key, key)]
        before, near, far = key, key, near
    return found


def _between(first: int, last: int, whole: int) -> list[Turn]:
    """The frames between two that are coded."""
    middle, height = (first + last) // 2, (last - first - 1).bit_length() - 1
    if middle == first:
        return []
    return [
        Turn(middle, first, last, height, whole),
        *_between(first, middle, middle),
        *_between(middle, last, middle),
    ]


@dataclass(frozen=True)
class SlicePacket:
    """One level of a slice.

    Attributes:
        packet: Its packet.
        gain: How much finer than in training it is quantized, in 24ths of an octave.
        kind: Which frames are keys.
    """

    packet: bytes
    gain: int
    kind: int


def section_fronts(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Kind and bytes of each slice of the section between two places of a file, its front included.

    Raises:
        ValueError: The section breaks a rule.
    """
    while at < end:
        file.seek(at)
        front = file.read(min(FRONT_BYTES, end - at))
        kind, _, length = _FRONT.unpack(front.ljust(FRONT_BYTES, b"\xff"))
        at += FRONT_BYTES + length
        if kind >= KINDS or at > end:
            raise ValueError("a slice is malformed")
        yield kind, FRONT_BYTES + length


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
        if kind >= KINDS or abs(gain) > MAX_SLICE_GAIN or at > len(section):
            raise ValueError("a slice is malformed")
        found.append(SlicePacket(section[start:at], gain, kind))
    if at < len(section):
        raise ValueError("bytes are left over after the last slice")
    return found
