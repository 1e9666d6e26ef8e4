"""Weights: found in the package, in a folder or on the Hub; checked before they are used.

A weights folder holds ``config.json`` and ``model.safetensors``. Networks are stored in half precision, the
entropy model's integers as integers. Nothing is loaded that does not have exactly the keys, shapes and
types that the configuration implies.
"""

import re
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from os.path import isdir
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mptvc.codec.codec import Codec
from mptvc.codec.coder import ClipCoder
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.patches import PatchCoder
from mptvc.codec.settings import computing
from mptvc.codec.stored import CONFIG_FILE, TENSORS_FILE, Config, build_model, digest, is_entropy
from mptvc.errors import WeightsError
from mptvc.model.loop_config import LoopConfig, read_config
from mptvc.model.loop_model import LoopModel

#: Weights in the package: those that encode unless a caller names others come first.
PACKAGED = ("codec", "tokenizer")
_HUB = "hf://"
_HUB_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./+-]+))?", re.ASCII)


def load_codec(
    weights: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    tile: tuple[int, int] | None = None,
    tile_batch: int = 1,
    clip_frames: int | None = None,
) -> Codec:
    """Load a codec; public as ``mptvc.load``.

    Args:
        weights: Folder, ``hf://owner/name[@revision]``, or the name of weights in the package: ``codec``,
            which predicts, or ``tokenizer``, whose files hold plain grids of tokens. By default the first,
            and files that the others made are decoded with these.
        device: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto`` for CUDA where there is a GPU for it.
        dtype: ``auto``, ``float32`` or ``bfloat16``; auto takes bfloat16 where it is fast.
        tile: Largest (height, width) of a tile's core in source pixels, for weights without prediction; None
            chooses.
        tile_batch: Tiles that the networks see at once.
        clip_frames: Frames of the longest clip, for weights with prediction; None for their own.

    Raises:
        WeightsError: The weights are missing, damaged or not of this format.
        ValueError: The device or dtype does not exist, or ``clip_frames`` or ``tile`` is out of range or
            not for these weights.

    Example:
        >>> import mptvc
        >>> codec = mptvc.load("tokenizer", device="cpu", dtype="float32")
        >>> [level.channels for level in codec.model.config.levels]
        [160, 320, 256]
    """
    target = resolve_device(device)
    options = _CoderOptions(target, resolve_dtype(dtype, target), tile, tile_batch, clip_frames)
    coder = options.coder(*read_weights(weights))
    again = partial(
        load_codec,
        _from_anywhere(weights),
        device=device,
        dtype=dtype,
        tile=tile,
        tile_batch=tile_batch,
        clip_frames=clip_frames,
    )
    return Codec(coder, cache(options.packaged) if weights is None else None, again)


def _from_anywhere(weights: str | Path | None) -> str | Path | None:
    """The name of weights for a process in another folder."""
    if weights is None or str(weights) in PACKAGED or str(weights).startswith(_HUB):
        return weights
    return Path(weights).absolute()


@dataclass(frozen=True)
class _CoderOptions:
    """How coders are made."""

    device: torch.device
    dtype: torch.dtype
    tile: tuple[int, int] | None
    tile_batch: int
    clip_frames: int | None

    @computing()
    def coder(self, config: Config, tensors: dict[str, Tensor]) -> ClipCoder:
        """The coder of some weights."""
        if isinstance(config, LoopConfig) and self.device.type == "mps":
            raise ValueError('an Apple GPU has no float64 for weights with prediction: use device="cpu"')
        model = build_model(config, tensors).to(self.device).eval()
        entropy_id = digest(config, {k: v for k, v in tensors.items() if is_entropy(k)})
        weights_id = digest(config, tensors)
        if isinstance(model, LoopModel):
            if self.tile is not None:
                raise ValueError('tile= is for weights without prediction: weights="tokenizer"')
            return LoopCoder(
                model, entropy_id=entropy_id, weights_id=weights_id, clip_frames=self.clip_frames
            )
        if self.clip_frames is not None:
            raise ValueError('clip_frames= is for weights with prediction: weights="codec"')
        return PatchCoder(
            model,
            entropy_id=entropy_id,
            weights_id=weights_id,
            dtype=self.dtype,
            tile=self.tile,
            tile_batch=self.tile_batch,
        )

    def packaged(self, weights_id: bytes) -> ClipCoder | None:
        """The coder of the weights in the package that have this identity."""
        for name in PACKAGED[1:]:
            config, tensors = read_weights(name)
            if digest(config, tensors) == weights_id:
                return self.coder(config, tensors)
        return None


@computing()
def read_weights(weights: str | Path | None) -> tuple[Config, dict[str, Tensor]]:
    """Configuration and stored tensors of the packaged weights, a folder or the Hub.

    Raises:
        WeightsError: They cannot be found or read.
    """
    config_path, tensors_path = _locate(weights)
    try:
        text, data = config_path.read_text(), tensors_path.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read the weights: {error}") from error
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{tensors_path} is no sound safetensors file: {error}") from error
    return read_config(text), tensors


def _locate(weights: str | Path | None) -> tuple[Path, Path]:
    name = PACKAGED[0] if weights is None else str(weights)
    if name in PACKAGED:
        folder = Path(str(files("mptvc") / f"{name}_weights"))
    elif name.startswith(_HUB):
        return _from_hub(name)
    else:
        folder = Path(name)
    if not isdir(folder):
        raise WeightsError(
            f"{folder} is not a folder with {CONFIG_FILE} and {TENSORS_FILE}; "
            "weights on the Hub are named hf://owner/name[@revision]"
        )
    return folder / CONFIG_FILE, folder / TENSORS_FILE


def _from_hub(name: str) -> tuple[Path, Path]:
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise WeightsError(f"weights on the Hub are named hf://owner/name[@revision], found {name!r}")
    repository, revision = match.groups()
    config = _download(name, repository, revision, CONFIG_FILE)
    commit = config.parent.name  # so that a branch that moves in between cannot mix two commits
    return config, _download(name, repository, commit, TENSORS_FILE)


def _download(name: str, repository: str, revision: str | None, file: str) -> Path:
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise WeightsError(f"{name} is not in the cache and the Hub cannot be reached") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{name}: the Hub shows no such repository; a private or gated one needs a token in HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{name}: the repository has no such revision") from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{name} has no {file}: it holds no weights of mptvc") from error
    except Exception as error:  # the client's transports raise errors of their own, with no common base
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise WeightsError(f"cannot get {name} from the Hub: {first_line}") from error


def resolve_device(name: str) -> torch.device:
    """The device of a name as ``load_codec`` takes it.

    Raises:
        ValueError: It does not exist here.
    """
    if name == "auto":  # an Apple GPU is used where it is named: nothing has been tested on one
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name} is not available here") from error
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of the networks' matrix products of a name as ``load_codec`` takes it.

    Raises:
        ValueError: The name is none of those.
    """
    if name == "auto":
        if device.type == "cpu":
            fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        else:
            fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is auto, float32 or bfloat16, found {name}")
    return torch.bfloat16 if name == "bfloat16" else torch.float32
