"""The header's bytes against the specification, and attacks on every rule in it."""

import itertools
import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mptvc.errors import (
    CorruptPacketError,
    FormatError,
    LimitExceededError,
    NotMptError,
    UnsupportedVersionError,
)
from mptvc.format import bitstream
from mptvc.format.bitstream import PREAMBLE, header_length, make_header, read_header, write_header
from mptvc.format.geometry import Geometry, PatchShots, TileGrid
from mptvc.format.header import Colour, Header, Index, Layout, Section, Side, VideoInfo, availability
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.sections import open_side, read_section

# A file of 2 levels and 2 clips, built from the text of the specification alone

Chunk = tuple[bytes, bytes]
MAGIC = b"\x89MPT\r\n\x1a\n"
PACKETS = [b"first packet", b"second", b"the third packet", b""]
FIELDS = {
    "magic": (0, "8s", MAGIC),
    "version": (8, "H", 2),
    "reserved": (10, "H", 0),
    "length": (12, "I", 0),
    "width": (16, "I", 70),
    "height": (20, "I", 50),
    "frames": (24, "Q", 11),
    "base_numerator": (32, "I", 1),
    "base_denominator": (36, "I", 90000),
    "rate_numerator": (40, "I", 30000),
    "rate_denominator": (44, "I", 1001),
    "aspect_numerator": (48, "I", 4),
    "aspect_denominator": (52, "I", 3),
    "rotation": (56, "H", 270),
    "primaries": (58, "B", 9),
    "transfer": (59, "B", 16),
    "matrix": (60, "B", 10),
    "range": (61, "B", 1),
    "levels": (62, "B", 2),
    "patch_frames": (63, "B", 4),
    "patch_size": (64, "B", 8),
    "prediction": (65, "B", 0),
    "clip_frames": (66, "H", 8),
    "entropy_id": (68, "32s", bytes(range(32))),
    "weights_id": (100, "32s", bytes(range(100, 132))),
}
SHOT = (b"SHOT", struct.pack("<2I", 6, 5))
TILE = (b"TILE", struct.pack("<6H", 1, 1, 0, 2, 3, 2))
INDX = (b"INDX", b"".join(struct.pack("<2I", len(p), zlib.crc32(p)) for p in PACKETS))
TIME = (b"time", struct.pack("<11I", 0, *range(3000, 3010)))
CHUNKS = [SHOT, TILE, INDX]

LAYOUT = Layout(
    video=VideoInfo(
        width=70,
        height=50,
        num_frames=11,
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1, 90000),
        pixel_aspect=Fraction(4, 3),
        rotation=270,
        colour=Colour(primaries=9, transfer=16, matrix=10, range=1),
    ),
    geometry=Geometry(70, 50, patch_size=8, tiles=(TileGrid(1, 1, 0), TileGrid(rows=2, columns=3, margin=2))),
    shots=PatchShots((6, 5), patch_frames=4, clip_frames=8),
    entropy_id=bytes(range(32)),
    weights_id=bytes(range(100, 132)),
)
INDEX = Index.of(
    [
        [Section(12, zlib.crc32(b"first packet")), Section(6, zlib.crc32(b"second"))],
        [Section(16, zlib.crc32(b"the third packet")), Section(0, 0)],
    ]
)
EXPECTED = make_header(LAYOUT, INDEX)


def raw(chunks: list[Chunk] = CHUNKS, **changes: int | bytes) -> bytes:
    """A header with changed fields and a right checksum."""
    data = bytearray(132)
    for name, (offset, code, value) in FIELDS.items():
        struct.pack_into("<" + code, data, offset, changes.get(name, value))
    for kind, payload in chunks:
        data += kind + struct.pack("<I", len(payload)) + payload
    if "length" not in changes:
        struct.pack_into("<I", data, 12, len(data) + 4)
    return bytes(data) + struct.pack("<I", zlib.crc32(data))


def parse(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Header:
    return read_header(BytesIO(data), limits)


def repaired(data: bytes) -> bytes:
    """The same header with its length and checksum made right."""
    body = data[:12] + struct.pack("<I", len(data)) + data[16:-4]
    return body + struct.pack("<I", zlib.crc32(body))


# What is valid


def test_header_built_from_the_specification_is_parsed() -> None:
    assert parse(raw()) == EXPECTED


def test_header_is_written_as_specified() -> None:
    assert write_header(EXPECTED) == raw()


def test_time_stamps_are_parsed_and_written() -> None:
    steps = (0, *range(3000, 3010))
    expected = replace(EXPECTED, video=replace(EXPECTED.video, time_steps=steps))
    assert parse(raw([*CHUNKS, TIME])) == expected
    assert write_header(expected) == raw([*CHUNKS, TIME])


def test_side_section_is_parsed_and_written() -> None:
    """It stands between the header and level 0, whose offsets it moves."""
    side = (b"SIDE", struct.pack("<3I", 5, zlib.crc32(b"sound"), 11))
    header = parse(raw([*CHUNKS, side, TIME]))
    assert header.side == Side(Section(5, zlib.crc32(b"sound")), 11)
    assert write_header(header) == raw([*CHUNKS, side, TIME])
    assert header.offset(0, 0) == header.size_bytes + 5
    assert header.picture_bytes(2) == header.prefix_bytes(2) - 5
    file = write_header(header) + b"sound" + b"".join(PACKETS)
    side_file = open_side(BytesIO(file), header)
    assert side_file is not None
    assert side_file.read() == b"sound"
    assert read_section(BytesIO(file), header, 0, 0) == PACKETS[0]
    assert open_side(BytesIO(file[: header.size_bytes + 4]), header) is None
    with pytest.raises(FormatError, match="sound and subtitles are damaged"):
        open_side(BytesIO(file.replace(b"sound", b"Sound")), header)
    assert open_side(BytesIO(raw()), EXPECTED) is None


@pytest.mark.parametrize("size", [0, 4, 8, 13, 16])
def test_side_chunk_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match=r"side section|length of the SIDE chunk"):
        parse(raw([*CHUNKS, (b"SIDE", bytes(size))]))


def test_reader_stops_after_the_header() -> None:
    file = BytesIO(raw() + b"sections")
    read_header(file)
    assert file.read() == b"sections"


def test_preamble_tells_the_length() -> None:
    assert header_length(raw()[:PREAMBLE]) == len(raw())


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Valid headers of one to several shots, with and without time stamps."""
    natural = st.integers(1, 2**32 - 1)
    ratios = st.builds(Fraction, natural, natural)
    byte = st.integers(0, 255)
    shots = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    steps = st.lists(st.integers(0, 2**32 - 1), min_size=sum(shots), max_size=sum(shots))
    patch_frames = draw(st.integers(1, 16))
    width, height = draw(st.integers(1, 2**12) | st.just(2**16)), draw(st.integers(1, 2**11))
    layout = Layout(
        video=VideoInfo(
            width=width,
            height=height,
            num_frames=sum(shots),
            frame_rate=draw(ratios),
            time_base=draw(ratios),
            time_steps=tuple(draw(st.just([]) | steps.map(lambda values: [0, *values[1:]]))),
            pixel_aspect=draw(ratios),
            rotation=draw(st.sampled_from([0, 90, 180, 270])),
            colour=Colour(draw(byte), draw(byte), draw(byte), draw(st.integers(0, 2))),
        ),
        geometry=Geometry(
            width,
            height,
            patch_size=draw(st.sampled_from([2, 4, 8, 16])),
            tiles=(TileGrid(1, 1, 0),) * draw(st.integers(1, 8)),
        ),
        shots=PatchShots(shots, patch_frames * draw(st.integers(1, 256 // patch_frames)), patch_frames),
        entropy_id=draw(st.binary(min_size=32, max_size=32)),
        weights_id=draw(st.binary(min_size=32, max_size=32)),
    )
    tiles = []
    for level in range(layout.num_levels):
        height, width = layout.geometry.grid(level)
        rows = draw(st.integers(1, min(height, 9)))
        columns = draw(st.integers(1, min(width, 9)))
        core = min(
            side // n for side, n in ((height, rows), (width, columns), (256, 1)) if n > 1 or side > 255
        )
        tiles.append(TileGrid(rows, columns, draw(st.integers(int(max(rows, columns) > 1), core))))
    rng = random.Random(draw(st.integers(0, 2**32)))
    index = [
        [Section(rng.getrandbits(32), rng.getrandbits(32)) for _ in range(layout.shots.num_clips)]
        for _ in range(layout.num_levels)
    ]
    layout = replace(layout, geometry=replace(layout.geometry, tiles=tuple(tiles)))
    return make_header(layout, Index.of(index))


@given(headers())
@settings(deadline=None, max_examples=150)
def test_written_header_is_read_back(header: Header) -> None:
    data = write_header(header)
    assert parse(data + b"sections") == header
    assert len(data) == header.size_bytes == header_length(data[:PREAMBLE])


# Signature, version, length, checksum


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(200), id="PNG"),
        pytest.param(raw().replace(b"\r\n", b"\n"), id="line ends converted"),
        pytest.param(raw().replace(b"\x89", b"\x09"), id="eighth bit lost"),
        pytest.param(b"M", id="wrong single byte"),
        pytest.param(b" " + raw(), id="shifted"),
    ],
)
def test_file_without_the_signature_is_refused(data: bytes) -> None:
    with pytest.raises(NotMptError) as caught:
        parse(data)
    assert caught.value.offset == 0


def test_header_cut_anywhere_is_refused() -> None:
    for size in range(1, len(raw())):
        with pytest.raises(FormatError, match="ends inside its header") as caught:
            parse(raw()[:size])
        assert caught.value.offset == size


def test_every_flipped_bit_of_a_header_is_detected() -> None:
    data = raw()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse(bytes(flipped) + bytes(100))


@pytest.mark.parametrize("version", [0, 1, 3, 256, 65535])
def test_other_version_is_refused(version: int) -> None:
    with pytest.raises(UnsupportedVersionError) as caught:
        parse(raw(version=version))
    assert (caught.value.found, caught.value.supported) == (version, (2,))


def test_other_version_is_named_even_if_all_else_has_changed() -> None:
    with pytest.raises(UnsupportedVersionError):
        parse(MAGIC + b"\3\0" + b"\xff" * 6)


@pytest.mark.parametrize("length", [0, 16, 132, 135, 2**26 + 1, 2**31, 2**32 - 1])
def test_header_length_out_of_bounds_is_refused_unread(length: int) -> None:
    file = BytesIO(raw(length=length))
    with pytest.raises(FormatError, match=f"header length {length}"):
        read_header(file)
    assert file.tell() == PREAMBLE


def test_header_of_fixed_fields_alone_is_refused() -> None:
    with pytest.raises(FormatError, match="no SHOT chunk"):
        parse(raw([]))


# Fields; the checksum of every attack is right


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reserved": 1}, "reserved"),
        ({"reserved": 2**15}, "reserved"),
        ({"prediction": 2}, "prediction 2"),
        ({"width": 0}, "size 0x50"),
        ({"height": 0}, "size 70x0"),
        ({"width": 2**16 + 1}, "size 65537x50"),
        ({"height": 2**32 - 1}, "size 70x4294967295"),
        ({"frames": 0}, "0 frames"),
        ({"frames": 2**32}, "4294967296 frames"),
        ({"frames": 2**64 - 1}, "frames"),
        ({"base_numerator": 0}, "zero ratio"),
        ({"base_denominator": 0}, "zero ratio"),
        ({"rate_numerator": 0}, "zero ratio"),
        ({"rate_denominator": 0}, "zero ratio"),
        ({"aspect_numerator": 0}, "zero ratio"),
        ({"aspect_denominator": 0}, "zero ratio"),
        ({"rotation": 1}, "rotation 1"),
        ({"rotation": 45}, "rotation 45"),
        ({"rotation": 360}, "rotation 360"),
        ({"range": 3}, "colour range 3"),
        ({"levels": 0}, "0 levels"),
        ({"levels": 9}, "9 levels"),
        ({"patch_frames": 0}, "0 frames in a patch"),
        ({"patch_frames": 17, "clip_frames": 17}, "17 frames in a patch"),
        ({"patch_size": 0}, "patch size 0"),
        ({"patch_size": 1}, "patch size 1"),
        ({"patch_size": 12}, "patch size 12"),
        ({"patch_size": 32}, "patch size 32"),
        ({"clip_frames": 0}, "0 frames in a clip"),
        ({"clip_frames": 2}, "2 frames in a clip"),
        ({"clip_frames": 10}, "10 frames in a clip"),
        ({"clip_frames": 260}, "260 frames in a clip"),
        ({"prediction": 255}, "prediction 255"),
    ],
)
def test_field_out_of_range_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        parse(raw(**changes))
    assert caught.value.offset is not None


# Chunks


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", [b"note", b"shot", b"tIME"])
def test_unknown_lower_case_chunk_is_skipped(kind: bytes, place: int) -> None:
    data = raw([*CHUNKS[:place], (kind, b"whatever"), *CHUNKS[place:]])
    header = parse(data)
    assert header == EXPECTED
    assert header.size_bytes == header.offset(0, 0) == len(data)
    file = BytesIO(data + b"".join(PACKETS))
    assert [read_section(file, header, k, i) for k in range(2) for i in range(2)] == PACKETS


@pytest.mark.parametrize("kind", [b"NOTE", b"Note", b"TIME", b"Time"])
def test_unknown_upper_case_chunk_is_refused(kind: bytes) -> None:
    with pytest.raises(FormatError, match=f"needs the feature {kind.decode()}"):
        parse(raw([*CHUNKS, (kind, b"")]))


@pytest.mark.parametrize("order", list(itertools.permutations([*CHUNKS, TIME]))[1:])
def test_chunks_out_of_order_are_refused(order: tuple[Chunk, ...]) -> None:
    with pytest.raises(FormatError, match="out of order"):
        parse(raw(list(order)))


@pytest.mark.parametrize("chunk", [*CHUNKS, TIME])
def test_duplicated_chunk_is_refused(chunk: Chunk) -> None:
    chunks = [c for known in [*CHUNKS, TIME] for c in ([known, known] if known is chunk else [known])]
    with pytest.raises(FormatError, match="out of order"):
        parse(raw(chunks))
    with pytest.raises(FormatError, match="out of order"):
        parse(raw([*CHUNKS, TIME, chunk]))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_missing_chunk_is_refused(chunk: Chunk) -> None:
    with pytest.raises(FormatError, match=f"no {chunk[0].decode()} chunk"):
        parse(raw([known for known in CHUNKS if known is not chunk]))


@pytest.mark.parametrize("kind", [b"SH T", b"\0\0\0\0", b"not1", b"\xe4bcd"])
def test_chunk_type_that_is_not_letters_is_refused(kind: bytes) -> None:
    with pytest.raises(FormatError, match="malformed"):
        parse(raw([*CHUNKS, (kind, b"")]))


@pytest.mark.parametrize("size", range(1, 8))
def test_bytes_too_few_for_a_chunk_are_refused(size: int) -> None:
    data = repaired(raw()[:-4] + b"noteabc"[:size] + bytes(4))
    with pytest.raises(FormatError, match="a chunk is cut"):
        parse(data)


@pytest.mark.parametrize("length", [1, 5, 2**31, 2**32 - 1])
def test_chunk_longer_than_the_header_is_refused(length: int) -> None:
    data = repaired(raw()[:-4] + b"note" + struct.pack("<I", length) + bytes(4))
    with pytest.raises(FormatError, match="malformed"):
        parse(data)


@pytest.mark.parametrize("shots", [(), (11, 0), (0, 11), (6, 4), (6, 6), (2**32 - 1, 12), (5,)])
def test_shots_that_do_not_sum_to_the_frames_are_refused(shots: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match="the shots"):
        parse(raw([(b"SHOT", struct.pack(f"<{len(shots)}I", *shots)), TILE, INDX]))


@pytest.mark.parametrize("chunk", [*CHUNKS, TIME])
def test_chunk_of_broken_numbers_is_refused(chunk: Chunk) -> None:
    chunks = [(kind, data + b"\0" if kind == chunk[0] else data) for kind, data in [*CHUNKS, TIME]]
    with pytest.raises(FormatError, match=f"length of the {chunk[0].decode()} chunk"):
        parse(raw(chunks))


@pytest.mark.parametrize("size", [0, 8, 24, 40, 64])
def test_index_of_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match="the index"):
        parse(raw([SHOT, TILE, (b"INDX", bytes(size))]))


@pytest.mark.parametrize("shots", [(11,), (1,) * 11])
def test_index_that_does_not_follow_from_the_shots_is_refused(shots: tuple[int, ...]) -> None:
    """One shot of 11 frames is 3 patches, 11 shots of one frame are 11."""
    chunk = (b"SHOT", struct.pack(f"<{len(shots)}I", *shots))
    sections = -(-sum(-(-n // 4) for n in shots) // 2)
    assert len(parse(raw([chunk, TILE, (b"INDX", bytes(16 * sections))])).index.lengths(0)) == sections
    with pytest.raises(FormatError, match="the index"):
        parse(raw([chunk, TILE, (b"INDX", bytes(16 * sections + 16))]))


@pytest.mark.parametrize("count", [0, 3, 9])
def test_number_of_tile_grids_other_than_levels_is_refused(count: int) -> None:
    with pytest.raises(FormatError, match="the tile grids"):
        parse(raw([SHOT, (b"TILE", struct.pack(f"<{count}H", *[1] * count)), INDX]))


@pytest.mark.parametrize(
    "grid",
    [
        pytest.param((0, 1, 0), id="no rows"),
        pytest.param((1, 0, 0), id="no columns"),
        pytest.param((9, 1, 0), id="more rows than tokens"),
        pytest.param((1, 11, 0), id="more columns than tokens"),
        pytest.param((2, 1, 5), id="rows narrower than the margin"),
        pytest.param((1, 3, 4), id="columns narrower than the margin"),
        pytest.param((65535, 65535, 0), id="huge"),
        pytest.param((1, 1, 257), id="margin too large"),
        pytest.param((2, 1, 0), id="weights that sum to less than one"),
    ],
)
def test_tile_grid_that_does_not_fit_is_refused(grid: tuple[int, int, int]) -> None:
    """The finer level has 8 x 10 tokens."""
    with pytest.raises(FormatError, match="tile grid"):
        parse(raw([SHOT, (b"TILE", struct.pack("<6H", 1, 1, 0, *grid)), INDX]))


@pytest.mark.parametrize("grid", [(8, 10, 1), (2, 1, 4), (1, 3, 3), (1, 1, 256)])
def test_tile_grid_that_just_fits_is_accepted(grid: tuple[int, int, int]) -> None:
    header = parse(raw([SHOT, (b"TILE", struct.pack("<6H", 1, 1, 0, *grid)), INDX]))
    assert header.geometry.tiles[1] == TileGrid(*grid)


@pytest.mark.parametrize("count", [1, 10, 12])
def test_number_of_time_stamps_other_than_frames_is_refused(count: int) -> None:
    with pytest.raises(FormatError, match="the time stamps"):
        parse(raw([*CHUNKS, (b"time", bytes(4 * count))]))


def test_first_time_stamp_other_than_zero_is_refused() -> None:
    with pytest.raises(FormatError, match="the time stamps"):
        parse(raw([*CHUNKS, (b"time", struct.pack("<11I", 1, *range(10)))]))


def test_empty_time_chunk_is_refused() -> None:
    """A time chunk holds one number per frame, and there is at least one frame."""
    with pytest.raises(FormatError, match="length of the time chunk"):
        parse(raw([*CHUNKS, (b"time", b"")]))


# Limits


def test_picture_larger_than_the_limit_is_refused() -> None:
    assert parse(raw(), Limits(max_pixels=70 * 50)) == EXPECTED
    with pytest.raises(LimitExceededError, match="max_pixels="):
        parse(raw(), Limits(max_pixels=70 * 50 - 1))


def test_more_frames_than_the_limit_are_refused() -> None:
    assert parse(raw(), Limits(max_frames=11)) == EXPECTED
    with pytest.raises(LimitExceededError, match="max_frames="):
        parse(raw(), Limits(max_frames=10))


@pytest.mark.parametrize(("width", "height"), [(2**16, 2**11), (2**11, 2**16)])
def test_default_limit_is_2_to_the_27_pixels(width: int, height: int) -> None:
    assert parse(raw(width=width, height=height)).video.width == width
    with pytest.raises(LimitExceededError):
        parse(raw(width=width + (width < 2**16), height=height + (height < 2**16)))


@pytest.mark.parametrize(("frames", "accepted"), [(10_000_000, True), (10_000_001, False)])
def test_default_limit_is_ten_million_frames(frames: int, accepted: bool) -> None:
    clips = -(-frames // 256)
    shots = (b"SHOT", struct.pack("<I", frames))
    data = raw([shots, TILE, (b"INDX", bytes(16 * clips))], frames=frames, clip_frames=256)
    if accepted:
        assert parse(data).shots.num_clips == clips
    else:
        with pytest.raises(LimitExceededError):
            parse(data)
    assert parse(data, Limits(max_frames=frames)).video.num_frames == frames


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw(length=2**32 - 1), id="header length"),
        pytest.param(raw(frames=2**32 - 1), id="frames"),
        pytest.param(raw([(b"SHOT", b"\xff" * 4), TILE, INDX], frames=2**32 - 1), id="frames of a shot"),
        pytest.param(repaired(raw()[:-4] + b"note" + b"\xff" * 4 + bytes(4)), id="chunk length"),
        pytest.param(raw(width=2**32 - 1, height=2**32 - 1), id="size"),
        pytest.param(raw([SHOT, (b"TILE", b"\xff" * 12), INDX]), id="tiles"),
    ],
)
def test_huge_number_is_refused_without_allocating(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            parse(data, Limits(max_frames=2**32))  # the format's own rules, not the caller's limit
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# Any bytes


def accept_or_refuse(data: bytes) -> None:
    """Parse; a header that passes must be consistent."""
    try:
        header = parse(data)
    except (FormatError, LimitExceededError):
        return
    assert header.size_bytes == len(data)
    assert parse(write_header(header)) == header
    shots = header.shots
    frames = [frame for clip in range(shots.num_clips) for frame in shots.frames(clip)]
    assert frames == list(range(header.video.num_frames))
    if isinstance(shots, PatchShots):
        assert sum(len(shots.clip(clip).kept) for clip in range(shots.num_clips)) == len(frames)
    assert availability(header, len(data)).levels <= header.num_levels


edits = st.lists(st.tuples(st.integers(16, 300), st.integers(0, 5), st.binary(max_size=5)), max_size=4)


@given(edits)
@settings(deadline=None, max_examples=400)
def test_mutated_header_is_refused_or_consistent(edits: list[tuple[int, int, bytes]]) -> None:
    data = raw([*CHUNKS, TIME])
    for place, removed, inserted in edits:
        data = data[:place] + inserted + data[place + removed :]
    accept_or_refuse(repaired(data))


values = {
    name: st.integers(0, 2 ** (8 * struct.calcsize("<" + code)) - 1) | st.integers(0, 20)
    for name, (offset, code, value) in FIELDS.items()
    if offset >= 16 and isinstance(value, int)
}
fields = st.lists(st.sampled_from(sorted(values)), unique=True, max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: values[name] for name in names})
)
some_chunks = st.lists(
    st.tuples(st.sampled_from([b"SHOT", b"TILE", b"INDX", b"time", b"note", b"NEWS"]), st.binary(max_size=64))
    | st.sampled_from([*CHUNKS, TIME]),
    max_size=6,
)


@given(fields, st.just([*CHUNKS, TIME]) | some_chunks)
@settings(deadline=None, max_examples=400)
def test_header_of_random_fields_is_refused_or_consistent(
    changes: dict[str, int], chunks: list[Chunk]
) -> None:
    accept_or_refuse(raw(chunks, **changes))


@given(st.binary(max_size=300), st.booleans())
@settings(deadline=None, max_examples=200)
def test_random_bytes_are_refused(data: bytes, signed: bool) -> None:
    with pytest.raises(FormatError):
        parse(MAGIC + b"\2\0\0\0" + data if signed else data)


# Sections


def test_sections_are_read_in_level_major_order() -> None:
    data = raw() + b"".join(PACKETS)
    starts = [[len(raw()), len(raw()) + 12], [len(raw()) + 18, len(raw()) + 34]]
    header, file = parse(data), BytesIO(data)
    for level, clip in [(1, 0), (0, 1), (1, 1), (0, 0)]:
        assert header.offset(level, clip) == starts[level][clip]
        assert read_section(file, header, level, clip) == PACKETS[2 * level + clip]


def test_section_that_is_cut_or_missing_is_none() -> None:
    data = raw() + b"".join(PACKETS)
    header = parse(data)
    for size in range(len(raw()), len(data) + 1):
        file = BytesIO(data[:size])
        for position, packet in enumerate(PACKETS):
            level, clip = divmod(position, 2)
            whole = header.offset(level, clip) + len(packet) <= size
            assert read_section(file, header, level, clip) == (packet if whole else None)


@pytest.mark.parametrize("position", range(3))
def test_flipped_byte_of_a_section_is_reported_with_its_place(position: int) -> None:
    level, clip = divmod(position, 2)
    data = bytearray(raw() + b"".join(PACKETS))
    header = parse(bytes(data))
    start = header.offset(level, clip)
    for place in range(start, start + len(PACKETS[position])):
        damaged = data.copy()
        damaged[place] ^= 0x10
        with pytest.raises(CorruptPacketError, match=f"level {level}, clip {clip}") as caught:
            read_section(BytesIO(damaged), header, level, clip)
        assert (caught.value.level, caught.value.clip, caught.value.offset) == (level, clip, start)


def test_damage_to_one_section_leaves_the_others_readable() -> None:
    data = bytearray(raw() + b"".join(PACKETS))
    header = parse(bytes(data))
    data[header.offset(0, 1)] ^= 1
    assert read_section(BytesIO(data), header, 0, 0) == PACKETS[0]
    assert read_section(BytesIO(data), header, 1, 0) == PACKETS[2]


# What is refused in reading is never written


def changed(part: str, **changes: object) -> Layout:
    return replace(LAYOUT, **{part: replace(getattr(LAYOUT, part), **changes)})


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (changed("video", width=0), "size 0x50"),
        (changed("video", width=2**16 + 1), "size 65537x50"),
        (changed("video", width=71), "the size"),
        (changed("video", num_frames=12), "the shots"),
        (changed("video", frame_rate=Fraction(0)), "a ratio of 0"),
        (changed("video", time_base=Fraction(1, 2**32)), "a ratio of 1/4294967296"),
        (changed("video", pixel_aspect=Fraction(-4, 3)), "a ratio of -4/3"),
        (changed("video", rotation=45), "rotation 45"),
        (changed("video", colour=Colour(range=3)), "colour range 3"),
        (changed("video", time_steps=(0,) * 10), "the time stamps"),
        (changed("video", time_steps=(1,) * 11), "the time stamps"),
        (changed("shots", lengths=(11, 0)), "the shots"),
        (changed("shots", patch_frames=17, clip_frames=17), "17 frames in a patch"),
        (changed("shots", clip_frames=10), "10 frames in a clip"),
        (changed("geometry", patch_size=3), "patch size 3"),
        (changed("geometry", tiles=()), "0 levels"),
        (changed("geometry", tiles=(TileGrid(1, 1, 0), TileGrid(2, 1, 0))), "tile grid 2x1"),
        (replace(LAYOUT, gains=((1, 1), (1,))), "the gains"),
        (replace(LAYOUT, gains=((0, 0), (0, 0))), "the gains"),
        (replace(LAYOUT, gains=((49, 0), (0, 0))), "a gain"),
    ],
)
def test_what_a_reader_refuses_is_not_written(layout: Layout, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        make_header(layout, INDEX)


def test_a_header_that_no_reader_takes_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(write_header(EXPECTED))
    monkeypatch.setattr(bitstream, "MAX_HEADER", size)
    assert parse(write_header(EXPECTED)) == EXPECTED
    monkeypatch.setattr(bitstream, "MAX_HEADER", size - 1)
    with pytest.raises(LimitExceededError, match=f"the header takes {size} bytes, the limit is {size - 1}"):
        write_header(EXPECTED)
    with pytest.raises(FormatError, match="out of bounds"):
        parse(raw())
