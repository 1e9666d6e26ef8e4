"""Tokens as safetensors: out of a file, and back into one that decodes to the same tokens.

    level.0, level.1, ...  the tokens, uint8 [T, H, W, C], or with prediction int16; see `Tokens`
    level.0.shapes, ...    with prediction all else that a decoder needs, by the names of its `Prediction`
    header                 uint8, the file's header (see `bitstream`) without what belongs to sections that
                           are not here: lengths and checksums of all, gains of further levels
    side                   uint8, sound and subtitles, if the file holds any

The metadata names the values of each level's channels and the gains of its clips (see `rate`; none where all
are zero), or with prediction the configuration of the weights, so that a training job needs this file alone.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor, checked_levels
from mptvc.codec.encoder import section_of
from mptvc.codec.patch_encoder import PatchEncoder
from mptvc.codec.patch_tokens import grid_coder
from mptvc.codec.patches import CodedLevel
from mptvc.codec.plain_grid import NO_GRID
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.tokens import TOKENS, Tokens, UnfitError, dtype_name
from mptvc.codec.weights import load_codec
from mptvc.errors import FormatError, MptError, UnsupportedVersionError, WeightsError
from mptvc.files.tensor_file import TensorFile
from mptvc.format.bitstream import make_header, read_header, write_header
from mptvc.format.header import Header, Index, Section, VideoInfo
from mptvc.format.limits import DEFAULT_LIMITS, Limits
from mptvc.format.sections import open_side
from mptvc.format.source import Source, naming, open_source
from mptvc.format.target import atomic_output, refuse_same
from mptvc.model.loop_config import LoopConfig

#: A tensor that files of tokens with prediction hold, and others do not.
PREDICTED = "level.0.choices"
_COPY_BYTES = 2**20
_BYTES = np.dtype(np.uint8)


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
        target: Path of the safetensors file.
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
    with atomic_output(Path(target), force=force) as out:
        return _write_tokens(source, out, levels, codec, limits, progress)


def _write_tokens(
    source: Source,
    out: BinaryIO,
    levels: int | None,
    codec: Codec | None,
    limits: Limits,
    progress: Callable[[int, int], None] | None,
) -> Header:
    """Write a safetensors file, some frames at a time."""
    codec = codec or load_codec()
    with open_source(source) as (file, size):
        header = read_header(file, limits)
        reader = Decompressor(codec.coder_of(header), file, size, levels=levels, header=header)
        side = open_side(file, header)
        tensors = _begun(
            out, codec, header, reader.levels, side_bytes=None if side is None else header.side_bytes
        )
        for clip in range(header.shots.num_clips):
            for piece in reader.pieces(clip):
                for level in range(reader.levels):
                    for array, values in piece.arrays(level).items():
                        tensors.append(_name(level, array), values.numpy())
            if progress is not None:
                progress(clip + 1, header.shots.num_clips)
        while side is not None and (chunk := side.read(_COPY_BYTES)):
            tensors.append("side", np.frombuffer(chunk, np.uint8))
    return header


class TokenCompressor:
    """Takes frames one at a time and writes what ``export_tokens`` makes of their file, for a plain grid.

    As `Compressor`, but nothing is decoded again: an encoder has the tokens. Packets and further levels are
    made where bits are counted alone.

    Args:
        codec: Codec with a plain grid of tokens.
        rate: How finely to quantize, or how many bits to use.
        levels: Levels to write; all by default.

    Raises:
        WeightsError: The weights have no plain grid.
        ValueError: A wrong number of levels.
    """

    def __init__(self, codec: Codec, rate: Rate = DEFAULT_RATE, levels: int | None = None) -> None:
        self._codec, self._coder = codec, grid_coder(codec.coder)
        self._levels = checked_levels(levels, self._coder.num_levels)
        self._encoder = PatchEncoder(self._coder, rate, packs=False, levels=self._levels)
        self._symbols: list[list[Tensor]] = []
        self._sections: list[list[Section]] = []
        self._gains: list[list[int]] = []

    def add(self, frame: np.ndarray, *, is_cut: bool = False) -> None:
        """Take the next frame; as ``PatchEncoder.add``."""
        self._keep(self._encoder.add(frame, is_cut=is_cut))

    def finish(self, video: VideoInfo, out: BinaryIO) -> Header:
        """Write the file.

        Args:
            video: Describes the source; its number of frames must be that of the frames added.
            out: Seekable binary file at its start.

        Returns:
            The header of the file of all levels.

        Raises:
            ValueError: No frame was added.
            FormatError: ``video`` has another number of frames.
        """
        self._keep(self._encoder.finish())
        layout = self._coder.layout(video, self._encoder.lengths, self._gains)
        header = make_header(layout, Index.of([*zip(*self._sections, strict=True)]))
        tensors = _begun(out, self._codec, header, self._levels)
        for symbols in self._symbols:
            for level, centred in enumerate(symbols):
                grid = self._coder.model.level(level).fsq.to_symbols(centred.to(self._coder.device))
                tensors.append(_name(level, TOKENS), grid.cpu().numpy())
        return header

    def _keep(self, clips: list[list[CodedLevel]]) -> None:
        for clip in clips:
            self._symbols.append([level.symbols for level in clip[: self._levels]])
            missing = self._coder.num_levels - len(clip)
            self._sections.append([section_of(level.data) for level in clip] + [Section(0, 0)] * missing)
            self._gains.append([level.gain for level in clip] + [0] * missing)


def _begun(
    out: BinaryIO, codec: Codec, header: Header, levels: int, side_bytes: int | None = None
) -> TensorFile:
    """A file of tokens of some levels, and of sound where there is any, that holds its header already."""
    header = _without_sections(header, levels)
    data, form = write_header(header), codec.form(header)
    specification = {
        _name(level, array): (np.dtype(dtype_name(dtype)), shape)
        for level in range(levels)
        for array, (dtype, shape) in form.specification(header, level).items()
    }
    specification["header"] = _BYTES, (len(data),)
    if side_bytes is not None:
        specification["side"] = _BYTES, (side_bytes,)
    tensors = TensorFile(out, specification, _metadata(codec, header, levels))
    tensors.append("header", np.frombuffer(data, np.uint8))
    return tensors


def _without_sections(header: Header, levels: int) -> Header:
    """A header that says of sections no more than the gains of some levels, whatever else was made."""
    nothing, clips = Section(0, 0), header.shots.num_clips
    gains = tuple(row if k < levels else (0,) * clips for k, row in enumerate(header.gains))
    return replace(
        header,
        index=Index.of([[nothing] * clips] * header.num_levels),
        gains=gains if any(map(any, gains)) else (),
    )


def _name(level: int, array: str) -> str:
    """The tensor that holds an array of a level."""
    return f"level.{level}" if array == TOKENS else f"level.{level}.{array}"


def _metadata(codec: Codec, header: Header, levels: int) -> dict[str, str]:
    """What a training job needs beside the tensors."""
    config = codec.coder_of(header).pyramid
    if isinstance(config, LoopConfig):
        return {"format": "mptvc tokens 1", "config": config.to_json()}
    values = [list(level.values) for level in config.levels[:levels]]
    gains = [list(level) for level in header.gains[:levels]]
    return {"format": "mptvc tokens 1", "values": json.dumps(values), "gains": json.dumps(gains)}


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
            range than its header and the weights say; with prediction, some that do not fit each other.
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
        form, levels = codec.form(header), range(header.num_levels)
        arrays = [
            {
                array: _tensor(tensors, _name(level, array), dtype)
                for array, (dtype, _) in form.specification(header, level).items()
            }
            for level in levels
        ]
        tokens = Tokens.of(arrays, header)
        side, lead_s = None, 0
        if header.side is not None and "side" in tensors:
            side, lead_s = BytesIO(_tensor(tensors, "side").numpy().tobytes()), header.side.lead_s
        with atomic_output(Path(target), force=force) as out:
            try:
                codec.require_tokens(tokens)
            except ValueError as error:  # a file is no argument: what is wrong with one is damage
                raise FormatError(str(error)) from error
            try:
                return codec.pack_into(tokens, out, side, lead_s, progress=progress)
            except UnfitError as error:
                raise FormatError(str(error)) from error


def read_tokens(data: bytes, levels: int | None = None) -> tuple[Tensor, ...]:
    """The tokens of each level in the bytes of such a file, uint8 ``[T, H, W, C]``.

    Args:
        data: The bytes.
        levels: Levels to take; by default all that are there.

    Raises:
        FormatError: They are no such file.
        WeightsError: They are tokens with prediction.
        ValueError: There are fewer levels.
    """
    tensors = _parsed(lambda: load(data))
    if PREDICTED in tensors:
        raise WeightsError(NO_GRID)
    there = sum(name.startswith("level.") for name in tensors)
    if levels is not None and not 1 <= levels <= there:
        raise ValueError(f"levels is 1 to {there}, found {levels}")
    return tuple(_tensor(tensors, f"level.{k}") for k in range(levels or max(1, there)))


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, which is mapped: only what is looked at is in memory."""
    try:
        with open(path, "rb"):
            return _parsed(lambda: load_file(path))
    except OSError as error:
        raise MptError(error.strerror or str(error)) from error


def _parsed(load_tensors: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    try:
        return load_tensors()
    except (SafetensorError, ValueError, KeyError) as error:
        raise FormatError(f"not a safetensors file: {error}") from error


def _tensor(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.uint8) -> Tensor:
    if name not in tensors:
        raise FormatError(f"the tensor {name} is missing; a header and the tokens of all levels are needed")
    if tensors[name].dtype != dtype:
        found = dtype_name(tensors[name].dtype)
        raise FormatError(f"the tensor {name} is {dtype_name(dtype)}, found {found}")
    return tensors[name]


def _read_header(tensors: Mapping[str, Tensor], limits: Limits) -> Header:
    data = _tensor(tensors, "header").numpy().tobytes()
    try:
        return read_header(BytesIO(data), limits)
    except UnsupportedVersionError:
        raise
    except FormatError as error:
        raise FormatError(f"the tensor header is no header of an .mpt file: {error}") from error
