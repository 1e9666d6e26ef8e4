"""Weights as they are stored: written, checked to the last number, and made into a model.

Networks are stored in half precision, integers of the entropy models as integers. Nothing is loaded that does
not have exactly the keys, shapes and types that the configuration implies.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mptvc.errors import WeightsError
from mptvc.format.target import atomic_output
from mptvc.model.config import ModelConfig
from mptvc.model.integer_network import PRECISION
from mptvc.model.loop_config import LoopConfig
from mptvc.model.loop_model import LoopModel
from mptvc.model.model import Model

Config = ModelConfig | LoopConfig
CONFIG_FILE, TENSORS_FILE = "config.json", "model.safetensors"


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
        _check_bound(k, entropy_model.accumulator_bound())
    return model


def _build_loop_model(config: LoopConfig, tensors: dict[str, Tensor]) -> LoopModel:
    model = LoopModel(config)
    _check_tensors(model, tensors)
    model.load_state_dict(tensors)
    for k in range(len(config.levels)):
        level = model.level(k)
        _check_bound(k, level.envelope.accumulator_bound())
        for name, table in level.named_buffers():
            if name.endswith("frequencies"):
                _check_frequencies(k, table)
        for kind in (level.opening, level.key, level.between):
            tables, shares = kind.entropy_model, kind.entropy_model.splitting
            _check_rows(k, tables.row_of, tables.activity_frequencies)
            _check_rows(k, shares.row_of, shares.rest_frequencies)
        for side in (level.key.side, level.between.side):
            _check_rows(k, side.scale_of, side.vector_frequencies)
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


def of_entropy_model(name: str) -> bool:
    """Whether a tensor is one of the entropy models', or of filters, which make pixels that these look at."""
    parts = ".entropy_model.", ".envelope.", ".side.", ".fineness.", ".restoration."
    return any(part in name for part in parts)


def is_entropy(name: str) -> bool:
    """Whether a tensor takes part in entropy decoding."""
    return of_entropy_model(name) and ".hyper_analysis." not in name


def _stored_type(name: str) -> torch.dtype:
    if not is_entropy(name):
        return torch.float16
    if name.endswith(("row_of", "scale_of")):
        return torch.uint8
    if name.endswith("filters"):
        return torch.int16
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


def _check_bound(level: int, bound: float) -> None:
    if bound >= 2**24:
        raise WeightsError(
            f"level {level}: the integer network can reach {bound:.0f}, beyond the exact range 2^24"
        )


def _check_frequencies(level: int, frequencies: Tensor) -> None:
    if int(frequencies.min()) < 1 or bool((frequencies.long().sum(1) != 2**PRECISION).any()):
        raise WeightsError(f"level {level}: the frequency tables do not sum to 2^24")


def _check_rows(level: int, rows: Tensor, frequencies: Tensor) -> None:
    if int(rows.max()) >= len(frequencies):
        raise WeightsError(
            f"level {level}: a table has {len(frequencies)} rows, and row {int(rows.max())} is used"
        )
