"""Hashes of what packets hold, which are the same on every machine."""

import hashlib
from collections.abc import Callable

import numpy as np

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.codec.weights import load_codec
from mptvc.format.bitstream import read_header
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.source import Source, open_source


def symbol_digests(
    source: Source,
    *,
    codec: Codec | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Decode all symbols of a file or prefix, and return a SHA-256 for each complete level.

    The digest is over all integers that packets hold, of patches as uint8 in the order clip, slice, row,
    column, channel; it is the same on every machine. ``progress`` is called with the clips that are done and
    all of them.

    Raises:
        FormatError: The file is damaged.
        WeightsError: It was made with other weights.

    Example:
        >>> import mptvc
        >>> digests = mptvc.symbol_digests("out.mpt")
        >>> len(digests), len(digests[0])
        (3, 64)
    """
    codec = codec or load_codec()
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        reader = Decompressor(codec.coder_of(header), file, size, header=header)
        hashers = [hashlib.sha256() for _ in range(reader.levels)]
        for clip in range(header.shots.num_clips):
            for piece in reader.pieces(clip):
                for level, hasher in enumerate(hashers):
                    for symbols in piece.symbols(level):
                        hasher.update(np.ascontiguousarray(symbols.cpu().numpy()).tobytes())
            if progress is not None:
                progress(clip + 1, header.shots.num_clips)
        return [hasher.hexdigest() for hasher in hashers]
