"""What a packet (see `mptvc.format.packet`) is: a decoder in plain integer arithmetic."""

from collections.abc import Iterable, Iterator, Sequence
from struct import unpack
from zlib import crc32


def read_packet(
    packet: bytes, frequencies: Sequence[Sequence[int]], steps: Iterable[Sequence[int]]
) -> Iterator[list[int]]:
    """Yield the symbols of each step.

    Args:
        packet: The bytes.
        frequencies: Table rows; each sums to 2^24.
        steps: Rows of each step's symbols; asked for one by one, so they may depend on what was yielded.
    """
    expected, *stored = unpack(f"<{len(packet) // 4}I", packet)
    words, check = stored[::-1], 0
    if words and words[-1] == 0:
        raise ValueError("a packet never starts with a zero word")
    state = 0
    for rows in steps:
        check = crc32(bytes(rows), check)
        symbols = [0] * len(rows)
        for position in sorted(range(len(rows)), key=lambda i: rows[i]):
            while state < 2**32 and words:
                state = state << 32 | words.pop()
            row, quantile, index = frequencies[rows[position]], state % 2**24, 0
            while quantile >= row[index]:
                quantile -= row[index]
                index += 1
            state = row[index] * (state >> 24) + quantile
            symbols[position] = index - len(row) // 2
        yield symbols
    if state or words or check != expected:
        raise ValueError("words are left over, or the rows are not the encoder's")
