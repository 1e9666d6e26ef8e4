"""Samples of shards: what a folder of `mptvc tokenize` holds, found without reading it, and decoded.

A sample is a file of its own, a member of a tar shard, or a row of a Parquet shard.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mptvc.codec.codec import Codec
from mptvc.codec.weights import load_codec
from mptvc.errors import FormatError, MptError
from mptvc.files.reader import VideoReader
from mptvc.files.tokens import PREDICTED, read_tokens
from mptvc.format.geometry import PatchShots
from mptvc.format.inspect import probe
from mptvc.format.remote import is_url

#: Coded frames of a slice of tokens.
SLICE_FRAMES = 4
_ENDINGS = (".mpt", ".safetensors", ".tar", ".parquet")
_PARQUET_COLUMNS = ["frames", "slices", "content"]


@dataclass(frozen=True)
class Sample:
    """A video's tokens or file, somewhere.

    Attributes:
        path: The file or shard, a path or an address.
        kind: ``mpt`` or ``safetensors``.
        frames: Frames of the video.
        slices: Temporal slices of its tokens; None with prediction, which has no grid of them.
        slice_frames: Coded frames of a slice.
        place: First byte and length in a tar shard, or the row group and None in a Parquet shard; None for a
            file of its own.
    """

    path: str
    kind: str
    frames: int
    slices: int | None
    slice_frames: int = SLICE_FRAMES
    place: tuple[int, int | None] | None = None

    def source(self) -> str | bytes:
        """What to read it from: the file of its own, or its bytes.

        Raises:
            MptError: The shard cannot be read.
        """
        if self.place is None:
            return self.path
        at, length = self.place
        if length is None:
            return bytes(_parquet(self.path).read_row_group(at, columns=["data"])["data"][0].as_py())
        try:
            with open(self.path, "rb") as shard:
                shard.seek(at)
                return shard.read(length)
        except OSError as error:
            raise MptError(f"{self.path}: {error.strerror or error}", file=self.path) from error


def find_samples(path: str) -> Iterator[Sample]:
    """The samples of a file, an address of an ``.mpt`` file, a shard, or a folder of these.

    Raises:
        FormatError: A file is damaged.
        MptError: A file cannot be opened, or a folder holds none.
    """
    if is_url(path) or not Path(path).is_dir():
        yield from _samples_of(path)
        return
    inside = sorted(p for p in Path(path).rglob("*") if p.suffix in _ENDINGS and p.is_file())
    shards = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not shards:
        raise MptError(f"{path} holds no .mpt files and no shards", file=path)
    for shard in shards:
        yield from _samples_of(str(shard))


def _samples_of(path: str) -> Iterator[Sample]:
    ending = "" if is_url(path) else Path(path).suffix
    if ending == ".tar":
        yield from _tar_samples(path)
    elif ending == ".parquet":
        rows = _parquet(path).read(columns=_PARQUET_COLUMNS).to_pylist()
        yield from (_of_row(path, row, (group, None)) for group, row in enumerate(rows))
    elif ending == ".safetensors":
        yield Sample(path, "safetensors", 0, _stored_slices(path))
    else:
        shots = probe(path).header.shots
        slices = shots.num_slices if isinstance(shots, PatchShots) else None
        yield Sample(path, "mpt", shots.num_frames, slices, shots.slice_frames)


def _stored_slices(path: str) -> int | None:
    try:
        with safe_open(path, "numpy") as tensors:
            names = tensors.keys()
            return None if PREDICTED in names else int(tensors.get_slice("level.0").get_shape()[0])
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} holds no tokens: {error}") from error


def _tar_samples(path: str) -> Iterator[Sample]:
    row: dict[str, Any] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    row = json.loads(file.read()) if file is not None else {}
                else:
                    yield _of_row(path, row, (member.offset_data, member.size))
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path} is no shard of mptvc tokenize: {error!r}") from error


def _of_row(path: str, row: dict[str, Any], place: tuple[int, int | None]) -> Sample:
    kind = "safetensors" if row["content"] == "tokens" else "mpt"
    return Sample(path, kind, row["frames"], row["slices"], place=place)


def _parquet(path: str) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MptError(f"{path}: this needs pyarrow: pip install 'mptvc[corpus]'", file=path) from error
    try:
        return ParquetFile(path)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is no Parquet shard: {error}") from error


class ShardDecoder:
    """Decodes samples of shards: for `webdataset`'s ``decode``, or called with an ending and bytes.

    Of ``.safetensors`` and ``.mpt`` it makes a tuple with the tokens of each level, uint8 ``[T, h, w, C]``;
    with ``frames`` of ``.mpt`` the frames, uint8 ``[T, H, W, 3]``. For other endings it returns None, so that
    others decode them.

    Args:
        levels: Levels to decode; by default all that are there.
        frames: Give frames.
        weights: Weights as for `mptvc.load`, which only ``.mpt`` needs.
        device: Device as for `mptvc.load`.

    Raises:
        FormatError: While decoding: the bytes are damaged, or hold no frames.
        WeightsError: While decoding: the sample was made with other weights, or has no tokens.
        ValueError: While decoding: there are fewer levels.

    Example:
        >>> import mptvc
        >>> (row,) = mptvc.Tokenizer()({"path": "in.mp4", "end_s": 0.5})
        >>> [tuple(level.shape) for level in mptvc.ShardDecoder(levels=1)(".safetensors", row["data"])]
        [(3, 9, 16, 160)]
    """

    def __init__(
        self,
        *,
        levels: int | None = None,
        frames: bool = False,
        weights: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        self._levels, self._frames, self._weights, self._device = levels, frames, weights, device
        self._codec: Codec | None = None

    def __call__(self, key: str, data: bytes) -> Any:
        """Decode a sample's member by the ending of its name."""
        kind = key.rpartition(".")[2]
        if kind == "safetensors" and not self._frames:
            return read_tokens(data, self._levels)
        if kind not in ("safetensors", "mpt"):
            return None
        if kind != "mpt":
            raise FormatError("a sample of tokens holds no frames: ask for tokens")
        if self._codec is None:  # on first use, in the process that uses it
            self._codec = load_codec(self._weights, device=self._device)
        with VideoReader(data, levels=self._levels, codec=self._codec) as reader:
            return reader[:] if self._frames else reader.all_tokens()
