"""Checkpoints: a folder of small safetensors files and a JSON file, moved into place when complete.

A file stays under 12 MiB where its tensors allow, so that a checkpoint can go where large files cannot.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mptvc.errors import WeightsError
from mptvc.format.target import move_into_place, remove

_FILE_BYTES = 12 * 2**20 - 2**16  # room for the file's own header
_KEPT = 2
_STATE = "state.json"


def save_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write a checkpoint as ``folder/name`` and remove all but the newest two.

    Args:
        folder: Holds the checkpoints of one run.
        name: Sorts after the names of earlier checkpoints.
        tensors: What to keep, by name.
        state: What else to keep, as plain data.

    Raises:
        MptError: The checkpoint cannot be moved into place.
    """
    target, part = folder / name, folder / f".{name}.part"
    remove(part)
    part.mkdir(parents=True)
    files = _split(tensors)
    for index, names in enumerate(files):
        save_file({n: tensors[n].detach().cpu().contiguous() for n in names}, part / _file(index))
    (part / _STATE).write_text(json.dumps({**state, "files": len(files)}, indent=2) + "\n")
    move_into_place(part, target, force=True)
    for old in checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old)
    return target


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_checkpoint`` wrote.

    Raises:
        WeightsError: The checkpoint is damaged.
    """
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text())
        tensors: dict[str, Tensor] = {}
        for index in range(state["files"]):
            tensors |= load_file(path / _file(index))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(
            f"checkpoint {path} cannot be read: {error}; remove it to use the one before"
        ) from error
    return tensors, state


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, the newest last."""
    return sorted(path.parent for path in folder.glob(f"*/{_STATE}") if not path.parent.name.startswith("."))


def _file(index: int) -> str:
    return f"tensors-{index:03d}.safetensors"


def _split(tensors: dict[str, Tensor]) -> list[list[str]]:
    """Names of the tensors of each file."""
    files: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if files[-1] and size + bytes_ > _FILE_BYTES:
            files.append([])
            size = 0
        files[-1].append(name)
        size += bytes_
    return files
