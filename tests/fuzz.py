"""Coverage-guided fuzzing of everything that reads foreign bytes; needs the extra ``fuzz``.

    python tests/fuzz.py parse  -runs=1000000    header, index and checksums: probe and verify
    python tests/fuzz.py packet -runs=100000     one rANS packet, with rows that depend on its symbols
    python tests/fuzz.py decode -runs=20000      a whole file with a small model, to pixels

All checksums and the names of the weights are repaired after each mutation, so that mutations get past
them. Any exception but `MptError` is a finding, and so is what takes longer than -timeout seconds or more
memory than -rss_limit_mb.
"""

import struct
import sys
import zlib
from collections.abc import Callable
from io import BytesIO

import atheris

with atheris.instrument_imports(include=["mptvc"]):
    import mptvc
    from mptvc.codec.codec import Codec
    from mptvc.codec.patches import PatchCoder
    from mptvc.format.bitstream import header_length, read_header
    from mptvc.format.limits import Limits
    from mptvc.format.packet import PacketReader, Tables

import numpy as np
import torch
from conftest import build_small_config, build_small_model

_IDS = b"e" * 32 + b"w" * 32
_LIMITS = Limits(max_pixels=2**14, max_frames=200)


def repaired(data: bytes) -> bytes:
    """The file with every checksum made right: of the header, of every section, of the side section."""
    try:
        length = header_length(data[:16])
    except mptvc.MptError:
        return data
    if len(data) < length:
        return data
    out = bytearray(data)
    out[68:132] = _IDS
    _seal(out, length)
    try:
        header = read_header(BytesIO(bytes(out)), _LIMITS)
    except mptvc.MptError:
        return bytes(out)
    at = out.find(b"INDX", 132, length)
    for number in range(header.num_levels * header.shots.num_clips):
        level, clip = divmod(number, header.shots.num_clips)
        start, size = header.offset(level, clip), header.index.section(level, clip).length
        struct.pack_into("<I", out, at + 8 + 8 * number + 4, zlib.crc32(out[start : start + size]))
    if header.side is not None:
        at, start = out.find(b"SIDE", 132, length), header.size_bytes
        struct.pack_into("<I", out, at + 12, zlib.crc32(out[start : start + header.side.section.length]))
    _seal(out, length)
    return bytes(out)


def _seal(out: bytearray, length: int) -> None:
    struct.pack_into("<I", out, length - 4, zlib.crc32(out[: length - 4]))


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutation of libFuzzer's, made whole again."""
    return repaired(atheris.Mutate(data, max_size))[:max_size] if seed % 8 else atheris.Mutate(data, max_size)


def parse(data: bytes) -> None:
    """Read the header and check the sections."""
    try:
        mptvc.probe(data)
        mptvc.verify(data)
    except mptvc.MptError:
        pass


def make_packet() -> Callable[[bytes], None]:
    """Decode packets with tables of three kinds of rows."""
    counts = np.ones((3, 31), dtype=np.int64)
    for row, peak in enumerate((0, 15, 20)):
        counts[row, peak] += 2**24 - 31
    tables = Tables(counts)

    def packet(data: bytes) -> None:
        try:
            reader = PacketReader(tables, data)
            rows = np.arange(40, dtype=np.uint8) % 3
            for _ in range(6):
                rows = (np.abs(reader(rows)) % 3).astype(np.uint8)
            reader.finish()
        except ValueError:
            pass

    return packet


def make_decode() -> tuple[Callable[[bytes], None], list[bytes]]:
    """Decode whole files with a small model; and files to start from."""
    torch.set_num_threads(1)
    model = build_small_model(build_small_config())
    codec = Codec(PatchCoder(model, entropy_id=_IDS[:32], weights_id=_IDS[32:]))
    frames = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    seeds = [codec.compress(frames), codec.compress(frames[:1, :3, :5]), codec.compress(frames, shots=(4, 5))]

    def decode(data: bytes) -> None:
        try:
            read_header(BytesIO(data), _LIMITS)
            codec.decompress(data)
        except mptvc.MptError:
            pass

    return decode, seeds


def main() -> None:
    """Run a target with libFuzzer's options."""
    target, options = sys.argv[1], sys.argv[2:]
    decode, seeds = make_decode()
    run = {"parse": parse, "packet": make_packet(), "decode": decode}[target]
    start = iter([*seeds, *(seed[: len(seed) // 2] for seed in seeds)])

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if target == "packet":
            return bytes(atheris.Mutate(data, max_size))
        fresh = next(start, None)
        return mutated(data if fresh is None else fresh, max_size, seed)

    defaults = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *defaults, *options], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
