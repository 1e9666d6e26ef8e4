r"""The ``.mpt`` format, version 1. This text is its specification.

Integers are little-endian and unsigned. A reader MUST refuse what breaks a MUST below, before it
allocates anything from the number in question.

**File** = header, then the side section if there is one, then sections in level-major order: level 0 of
clip 0, 1, ..., then level 1 of clip 0, and so on. The file ends with the last section. Any prefix that holds
the whole header is a valid file: a section is either there, cut, or missing, and only the whole ones count.

**Header**

    offset size  field
      0     8    magic 89 4D 50 54 0D 0A 1A 0A ("\x89MPT\r\n\x1a\n")
      8     2    format version, 1; another MUST be refused
     10     2    reserved, MUST be 0
     12     4    header length in bytes, this CRC included; at most 2^26
     16     4    width   } of the source in pixels, 1 to 2^16
     20     4    height  }
     24     8    frames, 1 to 2^32 - 1
     32     8    time base, numerator and denominator, both above 0
     40     8    frame rate, numerator and denominator, both above 0
     48     8    pixel aspect ratio, numerator and denominator, both above 0
     56     2    rotation for display, degrees counter-clockwise: 0, 90, 180 or 270
     58     4    primaries, transfer, matrix, range: one byte each, as in ITU-T H.273
                 (range: 0 unspecified, 1 limited, 2 full)
     62     1    levels, 1 to 8
     63     1    frames in a patch, 1 to 16
     64     1    pixels along a patch's side, 2, 4, 8 or 16
     65     1    reserved, MUST be 0
     66     2    coded frames in a clip, a multiple of the frames in a patch, 1 to 256
     68    32    SHA-256 of the weights' entropy-relevant part
    100    32    SHA-256 of the whole weights
    132     -    chunks
    end - 4  4   CRC-32 (as in zlib) of all bytes before it

**Chunk** = type (4 ASCII letters), length of the payload (4 bytes), payload. A chunk of unknown type MUST
be skipped if its first letter is lower case, and refused if it is upper case. Each known chunk comes
once, in this order:

    SHOT  frames of each shot, 4 bytes each, all above 0; they sum to ``frames``
    TILE  for each level: rows, columns, margin of its tile grid, 2 bytes each; a margin above 0 where
          there is more than one tile
    INDX  for each level, for each clip: length and CRC-32 of the section, 4 bytes each
    SIDE  (may be missing) length, CRC-32 and lead of the side section, 4 bytes each
    GAIN  (may be missing) for each level, for each clip: the section's gain, a signed byte, -48 to 48,
          not all 0; without it, all gains are 0
    time  (may be missing) for each frame the difference of its time stamp to the one before, in
          units of the time base, 4 bytes each, the first 0; without it, frame i is shown at i / frame rate

**Geometry.** Each shot is padded to a multiple of the patch's frames by repeating its last frame; the
padded shots, one after the other, are the coded frames, which are cut into clips. The last clip may be
shorter. The number of clips follows, and INDX MUST have that many entries a level. A token of level k
of K spans ``patch * 2^(K-1-k)`` pixels of the source, which is padded beforehand to a multiple of
``patch * 2^(K-1)`` pixels by repeating the last row and column.

**Gain.** The decoder divides the centred symbols of a section by 2^(gain / 24) before it reconstructs from
them.

**Side section** = sound and subtitles as they were in the source, in a NUT container whose time stamps are
``lead`` seconds later than those of the video, whose first frame is at 0. It stands before level 0, so that a
preview has its sound. A reader MUST check its CRC-32 before it hands it to a demuxer.

**Section** = one packet of `entropy_coder`. Its symbols follow from the geometry and the weights. A
reader MUST check its CRC-32 before decoding and MUST report words left over after it.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

from mptvc.errors import (
    CorruptPacketError,
    FormatError,
    LimitExceededError,
    NotMptError,
    UnsupportedVersionError,
)
from mptvc.format.gain import MAX_GAIN
from mptvc.format.geometry import TileGrid
from mptvc.format.header import Colour, Header, Section, Side, VideoInfo

MAGIC = b"\x89MPT\r\n\x1a\n"
VERSION = 1
#: Bytes needed to learn the header's length.
PREAMBLE = 16
MAX_HEADER = 2**26
MAX_SIDE = 2**16


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; larger files need the caller's word.

    Attributes:
        max_pixels: Largest width times height.
        max_frames: Largest number of frames.
    """

    max_pixels: int = 2**27
    max_frames: int = 10_000_000

    def check(self, pixels: int, frames: int) -> None:
        """Refuse a video that is too large.

        Raises:
            LimitExceededError: It exceeds a limit.
        """
        if pixels > self.max_pixels:
            raise LimitExceededError(
                f"{pixels} pixels a frame, the limit is {self.max_pixels}: raise it with max_pixels="
            )
        if frames > self.max_frames:
            raise LimitExceededError(
                f"{frames} frames, the limit is {self.max_frames}: raise it with max_frames="
            )


DEFAULT_LIMITS = Limits()

_FIXED = struct.Struct("<8sHHIIIQIIIIIIHBBBBBBBBH32s32s")
_CHUNK = struct.Struct("<4sI")
_TILE = struct.Struct("<HHH")
_ENTRY = struct.Struct("<II")
_SIDE = struct.Struct("<III")


def write_header(header: Header) -> bytes:
    """The header's bytes."""
    video = header.video
    chunks = _chunk(b"SHOT", struct.pack(f"<{len(header.shots)}I", *header.shots))
    chunks += _chunk(b"TILE", b"".join(_TILE.pack(t.rows, t.columns, t.margin) for t in header.tiles))
    entries = (_ENTRY.pack(s.length, s.crc) for level in header.index for s in level)
    chunks += _chunk(b"INDX", b"".join(entries))
    if header.side is not None:
        side = header.side
        chunks += _chunk(b"SIDE", _SIDE.pack(side.section.length, side.section.crc, side.lead_s))
    if header.gains:
        gains = [gain for level in header.gains for gain in level]
        chunks += _chunk(b"GAIN", struct.pack(f"<{len(gains)}b", *gains))
    if video.time_steps:
        chunks += _chunk(b"time", struct.pack(f"<{video.frames}I", *video.time_steps))
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        0,
        _FIXED.size + len(chunks) + 4,
        video.width,
        video.height,
        video.frames,
        *(video.time_base.numerator, video.time_base.denominator),
        *(video.frame_rate.numerator, video.frame_rate.denominator),
        *(video.pixel_aspect.numerator, video.pixel_aspect.denominator),
        video.rotation,
        *(video.colour.primaries, video.colour.transfer),
        *(video.colour.matrix, video.colour.range),
        *(header.levels, header.patch_frames, header.patch_size, 0),
        header.clip_frames,
        header.entropy_id,
        header.weights_id,
    )
    data = fixed + chunks
    return data + struct.pack("<I", zlib.crc32(data))


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return _CHUNK.pack(kind, len(payload)) + payload


def header_length(preamble: bytes) -> int:
    """Length of the header from the first ``PREAMBLE`` bytes of a file.

    Raises:
        NotMptError: The file does not start as an ``.mpt``.
        UnsupportedVersionError: It has another format version.
        FormatError: It is too short, or the length is out of bounds.
    """
    if preamble[: len(MAGIC)] != MAGIC[: len(preamble)] or not preamble:
        raise NotMptError("not an mpt file: it does not start with the mpt signature", offset=0)
    if len(preamble) < PREAMBLE:
        raise FormatError("the file ends inside its header", offset=len(preamble))
    version, reserved, length = struct.unpack_from("<HHI", preamble, len(MAGIC))
    if version != VERSION:
        raise UnsupportedVersionError(version, (VERSION,))
    if reserved:
        raise FormatError("a reserved field is not zero; install a newer mptvc", offset=10)
    if not _FIXED.size + 4 <= length <= MAX_HEADER:
        raise FormatError(f"header length {length} is out of bounds", offset=12)
    return int(length)


def read_header(file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Read and check the header from the start of a file.

    Args:
        file: Binary file at its first byte; on return it stands after the header.
        limits: What to accept.

    Raises:
        NotMptError: The file does not start as an ``.mpt``.
        UnsupportedVersionError: It has another format version.
        FormatError: The header is cut, damaged or inconsistent.
        LimitExceededError: The video is larger than the limits.
    """
    preamble = file.read(PREAMBLE)
    length = header_length(preamble)
    data = preamble + file.read(length - PREAMBLE)
    if len(data) < length:
        raise FormatError(f"the file ends inside its header: {len(data)} of {length} bytes", offset=len(data))
    if zlib.crc32(data[:-4]) != struct.unpack_from("<I", data, length - 4)[0]:
        raise FormatError("the header is damaged: its checksum is wrong", offset=length - 4)
    return _parse(data[:-4], limits)


def _parse(data: bytes, limits: Limits) -> Header:
    (
        _, _, _, _, width, height, frames, base_n, base_d, rate_n, rate_d, aspect_n, aspect_d,
        rotation, primaries, transfer, matrix, range_, levels, patch_frames, patch_size, reserved,
        clip_frames, entropy_id, weights_id,
    ) = _FIXED.unpack_from(data)  # fmt: skip
    _require(1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE, f"size {width}x{height}", 16)
    _require(1 <= frames < 2**32, f"{frames} frames", 24)
    limits.check(width * height, frames)
    _require(min(base_n, base_d, rate_n, rate_d, aspect_n, aspect_d) > 0, "a zero ratio", 32)
    _require(rotation in (0, 90, 180, 270), f"rotation {rotation}", 56)
    _require(range_ <= 2, f"colour range {range_}", 61)
    _require(1 <= levels <= 8, f"{levels} levels", 62)
    _require(1 <= patch_frames <= 16, f"{patch_frames} frames in a patch", 63)
    _require(patch_size in (2, 4, 8, 16), f"patch size {patch_size}", 64)
    _require(reserved == 0, "a reserved field", 65)
    _require(
        patch_frames <= clip_frames <= 256 and clip_frames % patch_frames == 0,
        f"{clip_frames} frames in a clip",
        66,
    )
    chunks = dict(_chunks(data))
    shots = _integers(chunks, b"SHOT")
    _require(min(shots, default=0) > 0 and sum(shots) == frames, "the shots", _FIXED.size)
    tiles = _integers(chunks, b"TILE", "H")
    _require(len(tiles) == 3 * levels, "the tile grids", _FIXED.size)
    entries = _integers(chunks, b"INDX")
    steps = _integers(chunks, b"time") if b"time" in chunks else ()
    timed = len(steps) == frames and steps[0] == 0
    _require(b"time" not in chunks or timed, "the time stamps", _FIXED.size)
    side = _integers(chunks, b"SIDE") if b"SIDE" in chunks else ()
    _require(b"SIDE" not in chunks or len(side) == 3, "the side section", _FIXED.size)
    slices = sum(-(-n // patch_frames) for n in shots)
    clips = -(-slices * patch_frames // clip_frames)
    _require(len(entries) == 2 * levels * clips, "the index", _FIXED.size)
    _require(len(chunks.get(b"GAIN", b"")) in (0, levels * clips), "the gains", _FIXED.size)
    gains = _integers(chunks, b"GAIN", "b") if b"GAIN" in chunks else ()
    _require(b"GAIN" not in chunks or any(gains), "the gains", _FIXED.size)
    _require(all(abs(gain) <= MAX_GAIN for gain in gains), "a gain", _FIXED.size)
    sections = [Section(*entries[i : i + 2]) for i in range(0, len(entries), 2)]
    header = Header(
        video=VideoInfo(
            width=width,
            height=height,
            frames=frames,
            frame_rate=Fraction(rate_n, rate_d),
            time_base=Fraction(base_n, base_d),
            time_steps=steps,
            pixel_aspect=Fraction(aspect_n, aspect_d),
            rotation=rotation,
            colour=Colour(primaries, transfer, matrix, range_),
        ),
        shots=shots,
        patch_frames=patch_frames,
        patch_size=patch_size,
        clip_frames=clip_frames,
        tiles=tuple(TileGrid(*tiles[i : i + 3]) for i in range(0, len(tiles), 3)),
        entropy_id=entropy_id,
        weights_id=weights_id,
        index=tuple(tuple(sections[k * clips : (k + 1) * clips]) for k in range(levels)),
        side=Side(Section(*side[:2]), side[2]) if side else None,
        gains=tuple(gains[k * clips : (k + 1) * clips] for k in range(levels)) if gains else (),
    )
    for level, grid in enumerate(header.tiles):
        _require_tiles(grid, header.grid(level))
    return replace(header, extra_bytes=len(data) + 4 - header.size_bytes)


def _require(condition: bool, what: str, offset: int) -> None:
    if not condition:
        raise FormatError(f"the header is inconsistent: {what}", offset=offset)


def _require_tiles(grid: TileGrid, tokens: tuple[int, int]) -> None:
    fits = all(
        count == 1 or (count >= 1 and size // count >= grid.margin >= 1)
        for count, size in zip((grid.rows, grid.columns), tokens, strict=True)
    )
    _require(fits and grid.margin <= 256, f"tile grid {grid.rows}x{grid.columns}", _FIXED.size)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Types and payloads of the known chunks, in order."""
    known = (b"SHOT", b"TILE", b"INDX", b"SIDE", b"GAIN", b"time")
    at, newest = _FIXED.size, -1
    while at < len(data):
        _require(at + _CHUNK.size <= len(data), "a chunk is cut", at)
        kind, length = _CHUNK.unpack_from(data, at)
        end = at + _CHUNK.size + length
        _require(kind.isalpha() and end <= len(data), "a chunk is malformed", at)
        if kind in known:
            _require(known.index(kind) > newest, "chunks out of order", at)
            newest = known.index(kind)
            yield kind, data[at + _CHUNK.size : end]
        elif kind[:1].isupper():
            raise FormatError(f"the file needs the feature {kind.decode()}: install a newer mptvc", offset=at)
        at = end


def _integers(chunks: dict[bytes, bytes], kind: bytes, code: str = "I") -> tuple[int, ...]:
    payload, size = chunks.get(kind), struct.calcsize(code)
    if payload is None:
        raise FormatError(f"the header has no {kind.decode()} chunk", offset=_FIXED.size)
    _require(len(payload) % size == 0, f"length of the {kind.decode()} chunk", _FIXED.size)
    return struct.unpack(f"<{len(payload) // size}{code}", payload)


def read_section(file: BinaryIO, header: Header, level: int, clip: int) -> bytes | None:
    """Read one section and check its CRC.

    Returns:
        The packet, or None if the file ends before the section does.

    Raises:
        CorruptPacketError: The checksum is wrong.
    """
    section, offset = header.index[level][clip], header.offset(level, clip)
    data = _read(file, section, offset)
    if data is not None and zlib.crc32(data) != section.crc:
        raise CorruptPacketError("its checksum is wrong", level=level, clip=clip, offset=offset)
    return data


def read_side(file: BinaryIO, header: Header) -> bytes | None:
    """Read the side section and check its CRC.

    Returns:
        The container's bytes, or None if there is none or the file ends before it does.

    Raises:
        FormatError: The checksum is wrong.
    """
    if header.side is None:
        return None
    section, offset = header.side.section, header.size_bytes
    data = _read(file, section, offset)
    if data is not None and zlib.crc32(data) != section.crc:
        raise FormatError("sound and subtitles are damaged: their checksum is wrong", offset=offset)
    return data


def _read(file: BinaryIO, section: Section, offset: int) -> bytes | None:
    if file.seek(0, os.SEEK_END) < offset + section.length:
        return None
    file.seek(offset)
    return file.read(section.length)
