"""Time stamps of streams that were joined: each part goes on where the one before it ends.

Transport streams and their like may be put one after the other in a file; their clocks then jump. FFmpeg's
program takes a jump for a join under the same conditions.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.format import Flags

from mptvc.video.packets import AnyPacket, move

#: Seconds by which a clock may run ahead of what is expected, and fall behind the packet before.
_AHEAD_S, _BEHIND_S = 10, Fraction(1, 10)


def without_jumps(
    container: av.container.InputContainer, packets: Iterator[AnyPacket]
) -> Iterator[AnyPacket]:
    """The packets, of one clock throughout where the container's may jump."""
    return _joined(packets) if Flags(container.format.flags) & Flags.ts_discont else packets


def _joined(packets: Iterator[AnyPacket]) -> Iterator[AnyPacket]:
    shift = Fraction(0)
    newest: dict[int, tuple[Fraction, Fraction]] = {}  # of each stream: when its last packet starts and ends
    for packet in packets:
        if packet.dts is not None and packet.stream.type in ("video", "audio"):
            at = packet.dts * packet.time_base + shift
            started, expected = newest.get(packet.stream.index, (at, at))
            if abs(at - expected) > _AHEAD_S or at < started - _BEHIND_S:
                shift += expected - at
                at = expected
            newest[packet.stream.index] = at, at + (packet.duration or 0) * packet.time_base
        if shift:
            move(packet, shift)
        yield packet
