"""Safetensors files that are written piece by piece, the same bytes every time.

The library writes tensors that are all in memory, and its metadata in any order.
"""

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")
_TYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32"}


class TensorFile:
    """A safetensors file of tensors whose types and shapes are known before they are.

    Args:
        out: Seekable binary file at its start.
        specification: For each tensor, by name, its type (uint8, int8, int16 or int32) and shape.
        metadata: The file's metadata.
    """

    def __init__(
        self,
        out: BinaryIO,
        specification: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
        metadata: Mapping[str, str],
    ) -> None:
        self._out, self._at, end = out, dict[str, int](), 0
        head: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        order = sorted(specification, key=lambda name: (-specification[name][0].itemsize, name))
        for name in order:  # those of wide integers first, so that all are aligned
            dtype, shape = specification[name]
            self._at[name], end = end, end + dtype.itemsize * prod(shape)
            head[name] = {
                "dtype": _TYPES[dtype.name],
                "shape": list(shape),
                "data_offsets": [self._at[name], end],
            }
        text = json.dumps(head, separators=(",", ":")).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        self._start = _LENGTH.size + len(text)
        out.write(_LENGTH.pack(len(text)) + text)

    def append(self, name: str, values: np.ndarray) -> None:
        """Write the next values of a tensor, of its type."""
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data
        self._out.seek(self._start + self._at[name])
        self._out.write(data)
        self._at[name] += data.nbytes
