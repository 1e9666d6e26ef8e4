"""A section with prediction: a packet for each slice of a clip.

In front of each packet stand, little-endian, the slice's kind (1 byte, 0), the gain of its level (a signed
byte, -96 to 96) and the packet's length in bytes (4 bytes). Nothing follows the last packet.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_FRONT = struct.Struct("<BbI")
#: Bytes that a slice takes beside its packet.
FRONT_BYTES = _FRONT.size
#: Largest absolute gain of a packet.
MAX_SLICE_GAIN = 96
#: All frames are keys that follow each other.
CHAIN = 0


@dataclass(frozen=True)
class SlicePacket:
    """One level of a slice.

    Attributes:
        packet: Its packet.
        gain: How much finer than in training it is quantized, in 24ths of an octave.
    """

    packet: bytes
    gain: int


def joined(slices: Sequence[SlicePacket]) -> bytes:
    """The section of a clip's slices."""
    return b"".join(_FRONT.pack(CHAIN, s.gain, len(s.packet)) + s.packet for s in slices)


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
        if kind != CHAIN or abs(gain) > MAX_SLICE_GAIN or at > len(section):
            raise ValueError("a slice is malformed")
        found.append(SlicePacket(section[start:at], gain))
    if at < len(section):
        raise ValueError("bytes are left over after the last slice")
    return found
