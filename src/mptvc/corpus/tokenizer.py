"""One row in, one row out: a video's path to its tokens or its file, whatever engine asks.

Frames never leave the worker, and a bad video becomes a row that says what is wrong with it.
"""

import errno
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from mptvc.codec.codec import Codec
from mptvc.codec.encoder import Compressor
from mptvc.codec.patch_tokens import grid_coder
from mptvc.codec.rate import DEFAULT_RATE, Rate
from mptvc.codec.weights import load_codec
from mptvc.corpus.storage import is_address, open_video, reaching
from mptvc.corpus.units import Unit
from mptvc.errors import MptError, WeightsError
from mptvc.files.encoding import encode_source
from mptvc.files.tokens import TokenCompressor
from mptvc.format.geometry import PatchShots
from mptvc.format.header import Header
from mptvc.video.cuts import SHOT_THRESHOLD
from mptvc.video.source import VideoSource

CONTENTS = ("tokens", "mpt")
#: What a user should know of a file whose source has more than pictures.
SILENCED = "sound and subtitles are left out"
#: What the system says where the machine is at fault and not the video.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """How a `Tokenizer` codes videos.

    Attributes:
        weights: Weights as for `mptvc.load`.
        content: What a row's ``data`` is: ``tokens``, a safetensors file as `mptvc.export_tokens` writes it;
            or ``mpt``, an ``.mpt`` file.
        levels: Levels to keep; None for all.
        rate: How finely to quantize; the default gives every video tokens of the same meaning.
        clip_frames: Frames of the longest clip, for weights with prediction.
        shot_threshold: Score of ``scdet`` from which a frame starts a shot; None for no cuts.
        force_8bit: Round video of more than 8 bits instead of refusing it.
        deinterlace: Turn interlaced frames into whole ones.
        strict: Refuse what otherwise is a warning.
        device: Device as for `mptvc.load`.
        dtype: Type as for `mptvc.load`.

    Raises:
        ValueError: ``content`` is neither of the two.
    """

    weights: str = "tokenizer"
    content: str = "tokens"
    levels: int | None = None
    rate: Rate = DEFAULT_RATE
    clip_frames: int | None = None
    shot_threshold: float | None = SHOT_THRESHOLD
    force_8bit: bool = False
    deinterlace: bool = False
    strict: bool = False
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise ValueError(f"content= is tokens or mpt, found {self.content}")


class Tokenizer:
    """Turns rows that name videos into rows that hold their tokens or files, for any engine.

    An object loads the weights once. Called with a row, a mapping with ``path`` and, where wanted, ``key``,
    ``start_s`` and ``end_s``, it returns a list of one row, as Ray Data's ``flat_map`` wants it; called with
    a batch of columns, it returns columns, as ``map_batches`` wants it. Further columns travel along.

    A row comes back with ``key``, ``source``, ``start_s``, ``end_s``, ``width``, ``height``, ``frames``,
    ``frame_rate``, ``slices`` (of its grids of tokens, in time), ``levels``, ``content``, ``size_bytes`` and
    ``sha256`` of ``data``, ``weights_id``, ``version``, ``warnings``, ``error``, ``error_kind`` and ``data``.
    The size is that of what is stored: of tokens that of plain integers, not that of a coded file, whatever
    ``rate`` said. Where the video is bad, ``error`` says why, and what is not known is None.

    Args:
        options: How to code.

    Raises:
        WeightsError: The weights cannot be read, or have no tokens.
        ValueError: An option is out of range.

    Example:
        >>> import mptvc
        >>> tokenizer = mptvc.Tokenizer(mptvc.TokenizerOptions(levels=1))
        >>> (row,) = tokenizer({"path": "in.mp4", "end_s": 0.5, "caption": "a test"})
        >>> row["frames"], row["levels"], row["caption"], row["error"]
        (12, 1, 'a test', None)
        >>> tokenizer({"path": "missing.mp4"})[0]["error"]
        'missing.mp4: no such file'
    """

    def __init__(self, options: TokenizerOptions | None = None) -> None:
        self.options = options = options or TokenizerOptions()
        self.codec: Codec = load_codec(
            options.weights, device=options.device, dtype=options.dtype, clip_frames=options.clip_frames
        )
        coder = self.codec.coder
        if options.content == "tokens":
            grid_coder(coder)  # raises where there are none
        if options.levels is not None and not 1 <= options.levels <= coder.num_levels:
            raise ValueError(f"levels= is 1 to {coder.num_levels}, found {options.levels}")
        options.rate.require_levels(coder.num_levels)
        self.levels = options.levels or coder.num_levels

    @cached_property
    def weights_id(self) -> str:
        """SHA-256 of the weights."""
        return self.codec.coder.weights_id.hex()

    def __call__(self, rows: Mapping[str, Any]) -> Any:
        """Code a row or a batch of columns.

        Raises:
            OSError: The disk is full, or the machine lacks something else.
        """
        if isinstance(rows["path"], str):
            return [self._row(rows)]
        count = len(rows["path"])
        done = [self._row({name: column[i] for name, column in rows.items()}) for i in range(count)]
        return {name: [row[name] for row in done] for name in done[0]}

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        named = ("key", "path", "start_s", "end_s")
        extra = {name: value for name, value in row.items() if name not in named}
        start_s, end_s = (_number(row.get(name)) for name in ("start_s", "end_s"))
        source = str(row["path"])
        path = source if is_address(source) else str(Path(source))
        unit = Unit(str(row.get("key") or source), source, path, start_s, end_s, extra)
        return self.code(unit)

    def code(self, unit: Unit) -> dict[str, Any]:
        """The row of a unit."""
        try:
            return self._coded(unit)
        except Exception as error:  # a bad video may fail anywhere, and must not stop the others
            if is_machine_fault(error):
                raise
            message = (str(error) or repr(error)).replace(unit.path, unit.source)
            return self.failed(unit, message, _kind(error, message.removeprefix(f"{unit.source}: ")))

    def _coded(self, unit: Unit) -> dict[str, Any]:
        options, out = self.options, BytesIO()
        start = unit.start_s or 0.0
        with ExitStack() as stack:
            video = stack.enter_context(open_video(unit.path))
            stack.enter_context(_reading(unit.path))
            source = stack.enter_context(
                VideoSource(
                    video,
                    shot_threshold=options.shot_threshold if unit.shots is None else None,
                    start=start,
                    duration=None if unit.end_s is None else unit.end_s - start,
                    force_8bit=options.force_8bit,
                    deinterlace=options.deinterlace,
                    strict=options.strict,
                )
            )
            encoder: Compressor | TokenCompressor
            if options.content == "tokens":
                encoder = TokenCompressor(self.codec, options.rate, self.levels)
            else:
                encoder = stack.enter_context(Compressor(self.codec.coder, options.rate))
            report = encode_source(
                source, encoder, out, options.rate, shots=unit.shots, strict=options.strict
            )
        data = out.getvalue()
        if options.content == "mpt":
            data = data[: report.header.prefix_bytes(self.levels)]
        is_silenced = report.is_silenced and options.content == "mpt"
        warnings = (*report.warnings, *[SILENCED] * is_silenced)
        return self.finished(unit, report.header, len(data), sha256(data).hexdigest()) | {
            "warnings": "; ".join(warnings),
            "data": data,
        }

    def finished(self, unit: Unit, header: Header, size_bytes: int, digest: str) -> dict[str, Any]:
        """The row of a unit that went well, without its data."""
        video, start = header.video, unit.start_s or 0.0
        return self._result(
            unit,
            start_s=start,
            end_s=start + float(video.times.end),
            width=video.width,
            height=video.height,
            frames=video.num_frames,
            frame_rate=float(video.frame_rate),
            slices=header.shots.num_slices if isinstance(header.shots, PatchShots) else None,
            levels=self.levels,
            size_bytes=size_bytes,
            sha256=digest,
        )

    def failed(self, unit: Unit, message: str, kind: str) -> dict[str, Any]:
        """The row of a unit that went wrong."""
        return self._result(unit, error=message, error_kind=kind)

    def _result(self, unit: Unit, **known: Any) -> dict[str, Any]:
        numbers = dict.fromkeys(
            ("width", "height", "frames", "frame_rate", "slices", "levels", "size_bytes", "sha256")
        )
        return {
            **unit.extra,
            "key": unit.key,
            "source": unit.source,
            "start_s": unit.start_s,
            "end_s": unit.end_s,
            **numbers,
            "content": self.options.content,
            "weights_id": self.weights_id,
            "version": version("mptvc"),
            "warnings": "",
            "error": None,
            "error_kind": None,
            "data": None,
            **known,
        }


def is_machine_fault(error: BaseException) -> bool:
    """Whether an error is the machine's, so that other videos would fail alike."""
    if isinstance(error, MemoryError | WeightsError):
        return True
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, OSError) and cause.errno in _MACHINE for cause in causes)


def _reading(source: str) -> AbstractContextManager[None]:
    """What a store raises while a video is read names the address."""
    return reaching(source) if is_address(source) else nullcontext()


def _kind(error: Exception, message: str) -> str:
    """What kind of failure an error is, the same for all videos that have it: ``no video stream``."""
    if not isinstance(error, MptError):
        return type(error).__name__
    return re.sub(r"(?<=[ x])\d+(\.\d+)?", "N", re.split("[:;]", message)[0])


def _number(value: Any) -> float | None:
    """Seconds of a row; None where a table has no number."""
    return None if value is None or math.isnan(value) else float(value)
