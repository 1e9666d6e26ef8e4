"""Tokens as safetensors: out of a file, and back into one that decodes to the same tokens.

    level.0, level.1, ...  uint8 [T, H, W, C], values from 0
    header                 uint8, the file's own header (see `bitstream`)
    side                   uint8, sound and subtitles, if the file holds any

The metadata names the values of each level's channels and the gains of its clips (see `rate`; none where all
are zero), so that a training job needs this file alone.
"""

import json
import struct
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import Tensor

from mptvc.codec.codec import Codec, Tokens
from mptvc.codec.plain_grid import patch_shots
from mptvc.codec.weights import load_codec
from mptvc.errors import FormatError, MptError, UnsupportedVersionError
from mptvc.files.reader import VideoReader
from mptvc.format.bitstream import read_header, write_header
from mptvc.format.header import Header
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.sections import open_side
from mptvc.format.source import Source, naming, open_source
from mptvc.format.target import atomic_output, refuse_same

#: Bytes of a safetensors file's head, in front of it.
_LENGTH = struct.Struct("<Q")


def export_tokens(
    source: Source,
    target: str | Path,
    *,
    levels: int | None = None,
    codec: Codec | None = None,
    force: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> Header:
    """Write the tokens of an ``.mpt`` file, or of a prefix of one, to a safetensors file.

    Args:
        source: Path, ``http(s)://`` address, bytes or a binary file object.
        target: Path of the safetensors file; all tokens are in memory at once.
        levels: Levels to export; by default all that are complete.
        codec: Codec with the file's weights; by default one with the packaged weights.
        force: Replace an existing target.
        limits: What to accept.
        progress: Called after each clip with the clips done and all of them.

    Raises:
        FormatError: The source is damaged, or no level is complete.
        WeightsError: The source was made with other weights.
        MptError: The target exists or cannot be written.
        ValueError: Source and target are the same file.

    Example:
        >>> import mptvc
        >>> header = mptvc.export_tokens("out.mpt", "out.safetensors")
        >>> header.geometry.grid(0)
        (9, 16)
    """
    refuse_same(source, target)
    data, header = token_bytes(source, levels=levels, codec=codec, limits=limits, progress=progress)
    with atomic_output(Path(target), force=force) as out:
        out.write(data)
    return header


def token_bytes(
    source: Source,
    *,
    levels: int | None = None,
    codec: Codec | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[bytes, Header]:
    """What ``export_tokens`` writes, the same bytes every time; arguments and errors as there."""
    with (
        open_source(source) as (file, _),
        VideoReader(file, levels=levels, codec=codec, limits=limits) as reader,
    ):
        tensors = {f"level.{k}": level.numpy() for k, level in enumerate(_all_tokens(reader, progress))}
        tensors["header"] = np.frombuffer(write_header(reader.header), np.uint8)
        if (side := open_side(file, reader.header)) is not None:
            tensors["side"] = np.frombuffer(side.read(), np.uint8)
        values = [list(level.values) for level in reader.config.levels[: reader.levels]]
        gains = [list(level) for level in reader.header.gains[: reader.levels]]
        metadata = {"format": "mptvc tokens 1", "values": json.dumps(values), "gains": json.dumps(gains)}
        return _in_order(save_tensors(tensors, metadata)), reader.header


def import_tokens(
    source: str | Path,
    target: str | Path,
    *,
    codec: Codec | None = None,
    force: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] | None = None,
) -> Header:
    """Write an ``.mpt`` file that decodes to the tokens of a safetensors file.

    Args:
        source: What ``export_tokens`` wrote with all levels; the tokens may have been changed.
        target: Path of the ``.mpt`` file.
        codec: Codec with the weights of the tokens; by default one with the packaged weights.
        force: Replace an existing target.
        limits: What to accept.
        progress: Called after each clip with the clips done and all of them.

    Raises:
        FormatError: The source holds no tokens, not those of all levels, or some of another shape, type or
            range than its header and the weights say.
        UnsupportedVersionError: Its header is of another format version.
        LimitExceededError: The video is larger than the limits.
        WeightsError: The tokens were made with other weights.
        MptError: The source cannot be read, or the target exists or cannot be written.
        ValueError: Source and target are the same file.

    Example:
        >>> import mptvc
        >>> _ = mptvc.export_tokens("out.mpt", "tokens.safetensors")
        >>> _ = mptvc.import_tokens("tokens.safetensors", "again.mpt")
        >>> mptvc.symbol_digests("again.mpt") == mptvc.symbol_digests("out.mpt")
        True
    """
    refuse_same(source, target)
    codec = codec or load_codec()
    with naming(source):
        tensors = _read_tensors(Path(source))
        header = _read_header(tensors, limits)
        tokens = Tokens(_levels(tensors, header.num_levels), header)
        side, lead_s = None, 0
        if header.side is not None and "side" in tensors:
            side, lead_s = BytesIO(_tensor(tensors, "side").tobytes()), header.side.lead_s
        with atomic_output(Path(target), force=force) as out:
            try:
                codec.require_tokens(tokens)
            except ValueError as error:  # a file is no argument: what is wrong with one is damage
                raise FormatError(str(error)) from error
            return codec.pack_into(tokens, out, side, lead_s, progress=progress)


def read_tokens(data: bytes, levels: int | None = None) -> tuple[Tensor, ...]:
    """The tokens of each level in the bytes of such a file, uint8 ``[T, H, W, C]``.

    Args:
        data: The bytes.
        levels: Levels to take; by default all that are there.

    Raises:
        FormatError: They are no such file.
        ValueError: There are fewer levels.
    """
    tensors = _parsed(data)
    there = sum(name.startswith("level.") for name in tensors)
    if levels is not None and not 1 <= levels <= there:
        raise ValueError(f"levels is 1 to {there}, found {levels}")
    return _levels(tensors, levels or max(1, there))


def _levels(tensors: Mapping[str, np.ndarray], count: int) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(_tensor(tensors, f"level.{k}").copy()) for k in range(count))


def _all_tokens(reader: VideoReader, progress: Callable[[int, int], None] | None) -> list[Tensor]:
    """Tokens of every level, clip by clip."""
    clips, shots = [], patch_shots(reader.header)
    for clip in range(shots.num_clips):
        slices = shots.slices(clip)
        clips.append(reader.all_tokens(slices.start, slices.stop))
        if progress is not None:
            progress(clip + 1, shots.num_clips)
    return [torch.cat(level) for level in zip(*clips, strict=True)]


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its metadata in the order of their names; the library takes any."""
    start = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    head = json.loads(data[_LENGTH.size : start])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":")).encode()
    return data[: _LENGTH.size] + text.ljust(start - _LENGTH.size) + data[start:]


def _read_tensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return _parsed(path.read_bytes())
    except OSError as error:
        raise MptError(error.strerror or str(error)) from error


def _parsed(data: bytes) -> Mapping[str, np.ndarray]:
    try:
        tensors: dict[str, np.ndarray] = load_tensors(data)
    except KeyError as error:
        raise FormatError(f"a tensor is of the type {error.args[0]}; those of tokens are uint8") from error
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"not a safetensors file: {error}") from error
    return tensors


def _tensor(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise FormatError(f"the tensor {name} is missing; a header and the tokens of all levels are needed")
    if tensors[name].dtype != np.uint8:
        raise FormatError(f"the tensor {name} is uint8, found {tensors[name].dtype}")
    return tensors[name]


def _read_header(tensors: Mapping[str, np.ndarray], limits: Limits) -> Header:
    data = _tensor(tensors, "header").tobytes()
    try:
        return read_header(BytesIO(data), limits)
    except UnsupportedVersionError:
        raise
    except FormatError as error:
        raise FormatError(f"the tensor header is no header of an .mpt file: {error}") from error
