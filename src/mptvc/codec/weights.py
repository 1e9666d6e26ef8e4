"""Weights: found in the package, in a folder or on the Hub; checked before they are used.

A weights folder holds ``config.json`` and ``model.safetensors``. Networks are stored in half precision, the
entropy model's integers as integers. Nothing is loaded that does not have exactly the keys, shapes and
types that the configuration implies.
"""

import hashlib
import re
from dataclasses import dataclass
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
from safetensors.torch import load, save
from torch import Tensor, nn

from mptvc.codec.codec import Codec
from mptvc.codec.coder import ClipCoder
from mptvc.codec.loop_coder import LoopCoder
from mptvc.codec.patches import PatchCoder
from mptvc.errors import WeightsError
from mptvc.format.target import atomic_output
from mptvc.model.config import ModelConfig
from mptvc.model.integer_network import PRECISION
from mptvc.model.loop_config import LoopConfig, read_config
from mptvc.model.loop_model import LoopModel
from mptvc.model.model import Model

Config = ModelConfig | LoopConfig
CONFIG_FILE, TENSORS_FILE = "config.json", "model.safetensors"
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
        tile: Largest (height, width) of a tile's core in source pixels; None chooses.
        tile_batch: Tiles that the networks see at once.
        clip_frames: Frames of the longest clip, for weights with prediction; None for their own.

    Raises:
        WeightsError: The weights are missing, damaged or not of this format.
        ValueError: The device or dtype does not exist, or ``clip_frames`` is out of range or not for these
            weights.

    Example:
        >>> import mptvc
        >>> codec = mptvc.load("tokenizer", device="cpu", dtype="float32")
        >>> [level.channels for level in codec.model.config.levels]
        [160, 320, 256]
    """
    target = resolve_device(device)
    options = _CoderOptions(target, resolve_dtype(dtype, target), tile, tile_batch, clip_frames)
    coder = options.coder(*read_weights(weights))
    return Codec(coder, options.packaged if weights is None else None)


@dataclass(frozen=True)
class _CoderOptions:
    """How coders are made."""

    device: torch.device
    dtype: torch.dtype
    tile: tuple[int, int] | None
    tile_batch: int
    clip_frames: int | None

    def coder(self, config: Config, tensors: dict[str, Tensor]) -> ClipCoder:
        """The coder of some weights."""
        model = build_model(config, tensors).to(self.device).eval()
        entropy_id = digest(config, {k: v for k, v in tensors.items() if is_entropy(k)})
        weights_id = digest(config, tensors)
        if isinstance(model, LoopModel):
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


def write_weights(model: Model | LoopModel, folder: Path) -> None:
    """Write a model as a weights folder.

    Raises:
        WeightsError: The integer network could leave its exact range, or a weight is not finite.
    """
    tensors = {name: _stored(name, value) for name, value in model.state_dict().items()}
    build_model(model.config, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((CONFIG_FILE, model.config.to_json().encode()), (TENSORS_FILE, save(tensors))):
        with atomic_output(folder / name, force=True) as file:
            file.write(data)


def build_model(config: Config, tensors: dict[str, Tensor]) -> Model | LoopModel:
    """A model with the stored tensors, after checking all of them.

    Raises:
        WeightsError: Keys, shapes, types or values are not those of this configuration.
    """
    if isinstance(config, LoopConfig):
        return _build_loop_model(config, tensors)
    return _build_patch_model(config, tensors)


def _build_patch_model(config: ModelConfig, tensors: dict[str, Tensor]) -> Model:
    _check_size(config, tensors)
    model = Model(config)
    _check_tensors(model, tensors)
    floats = {k: v if k.endswith("frequencies") else v.float() for k, v in tensors.items()}
    model.load_state_dict(floats)
    for k in range(len(config.levels)):
        entropy_model = model.level(k).entropy_model
        _check_frequencies(k, entropy_model.frequencies)
        entropy_model.set_frequencies(entropy_model.frequencies.clone())
        bound = entropy_model.accumulator_bound()
        if bound >= 2**24:
            raise WeightsError(
                f"level {k}: the integer network can reach {bound:.0f}, beyond the exact range 2^24"
            )
    return model


def _build_loop_model(config: LoopConfig, tensors: dict[str, Tensor]) -> LoopModel:
    model = LoopModel(config)
    _check_tensors(model, tensors)
    model.load_state_dict(tensors)
    for k in range(len(config.levels)):
        level = model.level(k)
        for kind in (level.opening, level.key):
            tables = kind.entropy_model
            _check_frequencies(k, tables.activity_frequencies)
            _check_frequencies(k, tables.symbol_frequencies)
            _check_rows(k, tables.row_of, tables.activity_frequencies)
            _check_rows(k, tables.scale_of, tables.symbol_frequencies)
        _check_frequencies(k, level.side.choice_frequencies)
        _check_frequencies(k, level.side.vector_frequencies)
        _check_rows(k, level.side.scale_of, level.side.vector_frequencies)
    return model


def _check_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Check names, shapes, types and that every number is finite."""
    expected = model.state_dict()
    if missing := sorted(expected.keys() - tensors.keys()):
        raise WeightsError(f"the weights lack {len(missing)} tensors, the first is {missing[0]}")
    if extra := sorted(tensors.keys() - expected.keys()):
        raise WeightsError(f"the weights have {len(extra)} unknown tensors, the first is {extra[0]}")
    for name, tensor in tensors.items():
        shape, dtype = expected[name].shape, _stored_type(name)
        if tensor.shape != shape or tensor.dtype != dtype:
            raise WeightsError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} {list(shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{name} holds numbers that are not finite")


def digest(config: Config, tensors: dict[str, Tensor]) -> bytes:
    """SHA-256 of a configuration and tensors, whatever the file that holds them looks like."""
    hasher = hashlib.sha256(config.to_json().encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.view(torch.uint8).numpy().tobytes())
    return hasher.digest()


def is_entropy(name: str) -> bool:
    """Whether a tensor takes part in entropy decoding."""
    return (".entropy_model." in name or ".side." in name) and ".hyper_analysis." not in name


def _stored_type(name: str) -> torch.dtype:
    if not is_entropy(name):
        return torch.float16
    if name.endswith(("row_of", "scale_of")):
        return torch.uint8
    return torch.int32 if name.endswith(("frequencies", "bias")) else torch.int8


def _stored(name: str, value: Tensor) -> Tensor:
    """A tensor as it is stored: integers of the entropy model exact, the rest in half precision."""
    value, dtype = value.detach().cpu(), _stored_type(name)
    if not bool(torch.isfinite(value).all()):
        raise WeightsError(f"{name} holds numbers that are not finite")
    if dtype == torch.int8:
        value = value.round().clamp(-127, 127)
    elif dtype == torch.int32:
        value = value.round()
    return value.to(dtype).contiguous()


def _check_size(config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Refuse a configuration of far more numbers than are stored, before memory is taken for them."""
    inner = config.heads * config.head_dim
    implied = 0
    for index, level in enumerate(config.levels):
        block = 12 * inner + 2 * config.mlp_ratio * level.dim
        implied += 2 * level.dim * (config.patch_values(index) + level.blocks * block)
        implied += len(level.groups) * level.hidden * level.channels
    stored = sum(tensor.numel() for tensor in tensors.values())
    if implied > 2 * stored + 2**24:
        raise WeightsError(f"{CONFIG_FILE} implies over {implied} weights, {TENSORS_FILE} holds {stored}")


def _check_frequencies(level: int, frequencies: Tensor) -> None:
    if int(frequencies.min()) < 1 or bool((frequencies.long().sum(1) != 2**PRECISION).any()):
        raise WeightsError(f"level {level}: the frequency tables do not sum to 2^24")


def _check_rows(level: int, rows: Tensor, frequencies: Tensor) -> None:
    if int(rows.max()) >= len(frequencies):
        raise WeightsError(
            f"level {level}: a table has {len(frequencies)} rows, and row {int(rows.max())} is used"
        )


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
