"""Frames as callers give them."""

from typing import Any

import numpy as np


def as_frames(frames: Any) -> np.ndarray:
    """Frames uint8 ``[T, H, W, 3]`` as one array.

    Args:
        frames: An array, a tensor in main memory, or a list of pictures.

    Raises:
        ValueError: They have another shape or type, or there is none.
    """
    try:
        array = np.asarray(frames)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, pictures of several sizes
        raise ValueError(f"frames are uint8 [T, H, W, 3]: {error}") from error
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or array.size == 0:
        advice = ""
        if np.issubdtype(array.dtype, np.floating):
            advice = "; make them of floats from 0 to 1 by (255 * frames).round().astype(np.uint8)"
        raise ValueError(f"frames are uint8 [T, H, W, 3], found {array.dtype} {array.shape}{advice}")
    return array
