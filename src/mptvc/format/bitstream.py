r"""The ``.mpt`` format, version 2. This text is its specification.

Integers are little-endian and unsigned. A reader MUST refuse what breaks a MUST below, before it
allocates anything from the number in question.

**File** = header, then the side section if there is one, then sections in level-major order: level 0 of
clip 0, 1, ..., then level 1 of clip 0, and so on. The file ends with the last section. Any prefix that holds
the whole header is a valid file: a section is either there, cut, or missing, and only the whole ones count.

**Header**

    offset size  field
      0     8    magic 89 4D 50 54 0D 0A 1A 0A ("\x89MPT\r\n\x1a\n")
      8     2    format version, 2; another MUST be refused
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
     63     1    frames in a slice: those in a patch, 1 to 16; with prediction 4
     64     1    pixels along a patch's side, 2, 4, 8 or 16
     65     1    prediction: 0 none, 1 in a closed loop
     66     2    coded frames in a clip: a multiple of the frames in a patch, 1 to 256; with prediction
                 at most so many, 1 to 4096
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
    GAIN  (may be missing, and MUST be with prediction) for each level, for each clip: the section's gain,
          a signed byte, -48 to 48, not all 0; without it, all gains are 0
    time  (may be missing) for each frame the difference of its time stamp to the one before, in
          units of the time base, 4 bytes each, the first 0; without it, frame i is shown at i / frame rate
    last  (may be missing) how long the last frame is shown, in units of the time base, 4 bytes, above 0;
          without it, for as long as a frame is on average: 1 / frame rate

**Geometry.** Without prediction each shot is padded to a multiple of the patch's frames by repeating its
last frame; the padded shots, one after the other, are the coded frames, which are cut into clips. The last
clip may be shorter. With prediction each shot is cut into clips by itself, of the greatest length but for
its last one; a clip is a slice of one frame and then slices of 4, the last one of 1 to 4. In both cases the
number of clips follows, and INDX MUST have that many entries a level. A token of level k of K spans
``patch * 2^(K-1-k)`` pixels of the source, which is padded beforehand to a multiple of ``patch * 2^(K-1)``
pixels by repeating the last row and column.

**Gain.** The decoder divides centred symbols by 2^(gain / 24) before it reconstructs from them. Without
prediction a section has one gain, with prediction each packet.

**Side section** = sound and subtitles as they were in the source, and its title and chapters, in a container
of NUT or Matroska, or, where there are no packets, of FFmpeg's metadata text; its first bytes say which. Its
time stamps are ``lead`` seconds later than those of the video, whose first frame is at 0. It stands before
level 0, so that a preview has its sound. A reader MUST check its CRC-32 before it hands it to a demuxer.

**Section** = without prediction one packet (see `packet`), with prediction a packet for each slice, in order,
with 6 bytes in front of each (see `slices`). What a packet holds follows from the geometry and the weights. A
reader MUST check a section's CRC-32 before decoding and MUST report words left over after a packet. With
prediction it MUST make the pixels that `loop_model` says, to the last bit, as later frames are built on them.
"""

import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from mptvc.errors import FormatError, LimitExceededError, NotMptError, UnsupportedVersionError
from mptvc.format.chunks import (
    CHUNK,
    CHUNKS,
    GAIN,
    INDX,
    LAST,
    SHOT,
    SIDE,
    TILE,
    TIME,
    Chunk,
    clip_bytes,
    common_bytes,
    tile_grids,
)
from mptvc.format.gain import MAX_GAIN
from mptvc.format.geometry import LOOP_SLICE, Geometry, LoopShots, PatchShots, Shots
from mptvc.format.header import Colour, Header, Index, Layout, Section, Side, VideoInfo
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.rules import check_header, check_shots, check_size, require

MAGIC = b"\x89MPT\r\n\x1a\n"
VERSION = 2
#: Bytes needed to learn the header's length.
PREAMBLE = 16
MAX_HEADER = 2**26


class _Fixed(NamedTuple):
    """The fixed fields, as they stand in the file."""

    magic: bytes
    version: int
    reserved: int
    length: int
    width: int
    height: int
    num_frames: int
    time_base_n: int
    time_base_d: int
    frame_rate_n: int
    frame_rate_d: int
    aspect_n: int
    aspect_d: int
    rotation: int
    primaries: int
    transfer: int
    matrix: int
    range: int
    num_levels: int
    patch_frames: int
    patch_size: int
    prediction: int
    clip_frames: int
    entropy_id: bytes
    weights_id: bytes


_FIXED = struct.Struct("<8sHHIIIQIIIIIIHBBBBBBBBH32s32s")
_CRC = struct.Struct("<I")
#: So that millions of gains are references to a few integers.
_GAINS = {gain: gain for gain in range(-MAX_GAIN, MAX_GAIN + 1)}


# Writing


def make_header(layout: Layout, index: Index, side: Side | None = None) -> Header:
    """The header of a file with these sections.

    Raises:
        FormatError: No header can say this.
        LimitExceededError: It is longer than a header may be.
    """
    parts = {part.name: getattr(layout, part.name) for part in fields(Layout)}
    header = Header(**parts, index=index, side=side)
    return replace(header, size_bytes=len(write_header(header)))


def write_header(header: Header) -> bytes:
    """The header's bytes.

    Raises:
        FormatError: No header can say this.
        LimitExceededError: It is longer than a header may be.
    """
    check_header(header)
    chunks = b"".join(chunk.pack(header) for chunk in CHUNKS)
    length = _FIXED.size + len(chunks) + _CRC.size
    if length > MAX_HEADER:
        raise LimitExceededError(
            f"the header takes {length} bytes, the limit is {MAX_HEADER}: split the video"
        )
    data = _FIXED.pack(*_fixed(header, length)) + chunks
    return data + _CRC.pack(zlib.crc32(data))


def header_share(num_levels: int, num_shots: int, *, is_first: bool) -> int:
    """Bytes of the header for a clip in which so many shots start; what is for all counts for the first.

    Without sound and time stamps.
    """
    common = _FIXED.size + common_bytes(num_levels) + _CRC.size
    return clip_bytes(num_levels, num_shots) + (common if is_first else 0)


def _fixed(header: Header, length: int) -> _Fixed:
    video, colour = header.video, header.video.colour
    return _Fixed(
        MAGIC,
        VERSION,
        0,
        length,
        *(video.width, video.height, video.num_frames),
        *video.time_base.as_integer_ratio(),
        *video.frame_rate.as_integer_ratio(),
        *video.pixel_aspect.as_integer_ratio(),
        video.rotation,
        *(colour.primaries, colour.transfer, colour.matrix, colour.range),
        *(header.num_levels, header.shots.slice_frames, header.geometry.patch_size),
        int(isinstance(header.shots, LoopShots)),
        header.shots.clip_frames,
        *(header.entropy_id, header.weights_id),
    )


# Reading


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
    if not _FIXED.size + _CRC.size <= length <= MAX_HEADER:
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
    checked = memoryview(data)[: -_CRC.size]
    if zlib.crc32(checked) != _CRC.unpack_from(data, len(checked))[0]:
        raise FormatError("the header is damaged: its checksum is wrong", offset=len(checked))
    fixed = _Fixed._make(_FIXED.unpack_from(data))
    check_size(fixed.width, fixed.height, fixed.num_frames)
    limits.check(fixed.width * fixed.height, fixed.num_frames)
    header = _header(fixed, {chunk: chunk.unpack(payload, at) for chunk, payload, at in _chunks(checked)})
    check_header(header)
    return header


def _chunks(data: memoryview) -> Iterator[tuple[Chunk, memoryview, int]]:
    """The known chunks, their payloads and where these start, in order."""
    known = {chunk.kind: number for number, chunk in enumerate(CHUNKS)}
    at, newest = _FIXED.size, -1
    while at < len(data):
        require(at + CHUNK.size <= len(data), "a chunk is cut", at)
        kind, length = CHUNK.unpack_from(data, at)
        start = at + CHUNK.size
        require(kind.isalpha() and start + length <= len(data), "a chunk is malformed", at)
        if kind in known:
            require(known[kind] > newest, "chunks out of order", at)
            newest = known[kind]
            yield CHUNKS[newest], data[start : start + length], start
        elif kind[:1].isupper():
            raise FormatError(f"the file needs the feature {kind.decode()}: install a newer mptvc", offset=at)
        at = start + length


def _header(fixed: _Fixed, chunks: Mapping[Chunk, "array[int]"]) -> Header:
    """A header of its fixed fields and chunks; what can be built from them is not yet checked."""
    for chunk in CHUNKS:
        require(chunk in chunks or not chunk.is_needed, f"there is no {chunk.name} chunk", _FIXED.size)
    numerators = (fixed.time_base_n, fixed.frame_rate_n, fixed.aspect_n)
    denominators = (fixed.time_base_d, fixed.frame_rate_d, fixed.aspect_d)
    require(min(numerators + denominators) > 0, "a zero ratio", 32)
    require(fixed.prediction <= 1, f"prediction {fixed.prediction}", 65)
    require(1 <= fixed.num_levels <= 8, f"{fixed.num_levels} levels", 62)
    require(len(chunks[TILE]) == 3 * fixed.num_levels, "the tile grids", _FIXED.size)
    shots = _shots(fixed, tuple(chunks[SHOT]))
    check_shots(shots, fixed.num_frames)
    side, gains, last = chunks.get(SIDE, ()), chunks.get(GAIN, ()), chunks.get(LAST, (0,))
    require(len(last) == 1 and (last[0] > 0 or LAST not in chunks), "the last frame", _FIXED.size)
    require(len(side) in (0, 3), "the side section", _FIXED.size)
    require(all(gain in _GAINS for gain in gains), "a gain", _FIXED.size)
    require(len(gains) in (0, fixed.num_levels * shots.num_clips), "the gains", _FIXED.size)
    rows = (gains[k * shots.num_clips : (k + 1) * shots.num_clips] for k in range(fixed.num_levels))
    return Header(
        video=_video(fixed, chunks.get(TIME, ()), last[0]),
        geometry=Geometry(fixed.width, fixed.height, fixed.patch_size, tile_grids(chunks[TILE])),
        shots=shots,
        entropy_id=fixed.entropy_id,
        weights_id=fixed.weights_id,
        gains=tuple(tuple(map(_GAINS.__getitem__, row)) for row in rows) if gains else (),
        index=Index(chunks[INDX], shots.num_clips),
        side=Side(Section(*side[:2]), side[2]) if side else None,
        size_bytes=fixed.length,
    )


def _shots(fixed: _Fixed, lengths: tuple[int, ...]) -> Shots:
    if not fixed.prediction:
        return PatchShots(lengths, fixed.clip_frames, fixed.patch_frames)
    require(fixed.patch_frames == LOOP_SLICE, f"{fixed.patch_frames} frames in a slice", 63)
    return LoopShots(lengths, fixed.clip_frames)


def _video(fixed: _Fixed, time_steps: Sequence[int], last_step: int) -> VideoInfo:
    return VideoInfo(
        width=fixed.width,
        height=fixed.height,
        num_frames=fixed.num_frames,
        frame_rate=Fraction(fixed.frame_rate_n, fixed.frame_rate_d),
        time_base=Fraction(fixed.time_base_n, fixed.time_base_d),
        time_steps=time_steps,
        pixel_aspect=Fraction(fixed.aspect_n, fixed.aspect_d),
        rotation=fixed.rotation,
        colour=Colour(fixed.primaries, fixed.transfer, fixed.matrix, fixed.range),
        last_step=last_step,
    )
