"""The chunks of a header, each said once: its type, its integers, and where they come from.

`bitstream` specifies them.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mptvc.errors import FormatError
from mptvc.format.geometry import TileGrid
from mptvc.format.header import Header, VideoInfo

#: Type and length in front of a chunk's payload.
CHUNK = struct.Struct("<4sI")

Integers = Sequence[int]


@dataclass(frozen=True)
class Chunk:
    """One type of chunk.

    Attributes:
        kind: Its type.
        code: Type of its integers, as in `array`.
        take: Its integers, from a header; none where it is left out.
        is_needed: Whether every header has it.
    """

    kind: bytes
    code: str
    take: Callable[[Header], Integers]
    is_needed: bool = True

    def pack(self, header: Header) -> bytes:
        """The whole chunk of a header; nothing where it is left out."""
        integers = self.take(header)
        if not (self.is_needed or len(integers)):
            return b""
        payload = struct.pack(f"<{len(integers)}{self.code}", *integers)
        return CHUNK.pack(self.kind, len(payload)) + payload

    def unpack(self, payload: memoryview, offset: int) -> "array[int]":
        """The integers of a payload, which starts at a byte of the file.

        Raises:
            FormatError: Its length is none of whole integers, or it is one that had better been left out.
        """
        integers = array(self.code)
        if len(payload) % integers.itemsize or not (self.is_needed or len(payload)):
            raise FormatError(f"the header is inconsistent: length of the {self.name} chunk", offset=offset)
        integers.frombytes(payload)
        if sys.byteorder == "big":
            integers.byteswap()
        return integers

    @property
    def name(self) -> str:
        """Its type as text."""
        return self.kind.decode()

    def size(self, count: int) -> int:
        """Bytes of the payload of so many integers."""
        return count * struct.calcsize(f"<{self.code}")


def _tiles(header: Header) -> Integers:
    return [n for tiles in header.geometry.tiles for n in (tiles.rows, tiles.columns, tiles.margin)]


def _side(header: Header) -> Integers:
    side = header.side
    return () if side is None else (side.section.length, side.section.crc, side.lead_s)


def _gains(header: Header) -> Integers:
    return [gain for level in header.gains for gain in level]


def _last(header: Header) -> Integers:
    return (header.video.last_step,) if header.video.last_step else ()


SHOT = Chunk(b"SHOT", "I", lambda header: header.shots.lengths)
TILE = Chunk(b"TILE", "H", _tiles)
INDX = Chunk(b"INDX", "I", lambda header: header.index.entries)
SIDE = Chunk(b"SIDE", "I", _side, is_needed=False)
GAIN = Chunk(b"GAIN", "b", _gains, is_needed=False)
TIME = Chunk(b"time", "I", lambda header: header.video.time_steps, is_needed=False)
LAST = Chunk(b"last", "I", _last, is_needed=False)
#: All of them in the order in which they come.
CHUNKS = (SHOT, TILE, INDX, SIDE, GAIN, TIME, LAST)


def clip_bytes(num_levels: int, num_shots: int) -> int:
    """Bytes that a clip in which so many shots start adds to the chunks."""
    return SHOT.size(num_shots) + INDX.size(2 * num_levels) + GAIN.size(num_levels)


def common_bytes(num_levels: int) -> int:
    """Bytes of the chunks of all videos, beside what their clips add."""
    return TILE.size(3 * num_levels) + CHUNK.size * len((SHOT, TILE, INDX, GAIN))


def time_bytes(video: VideoInfo) -> int:
    """Bytes of the chunks of time stamps; 0 at a constant frame rate."""
    counts = ((TIME, len(video.time_steps)), (LAST, bool(video.last_step)))
    return sum(CHUNK.size + chunk.size(count) for chunk, count in counts if count)


def tile_grids(numbers: Integers) -> tuple[TileGrid, ...]:
    """Tile grids of what ``TILE`` holds."""
    return tuple(TileGrid(*numbers[i : i + 3]) for i in range(0, len(numbers), 3))
