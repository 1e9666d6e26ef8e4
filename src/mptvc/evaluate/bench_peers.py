"""Seconds that other codecs and tokenizers take for the frames that `bench` measures on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch

from mptvc.evaluate.peers import PEERS, decode_packets, encode_packets

#: Latents of the Cosmos tokenizer stand for this many frames after the first.
_COSMOS_FRAMES = 8
_QUALITY = 27
Result = TypeVar("Result")


@dataclass(frozen=True)
class PeerTime:
    """What one peer takes.

    Attributes:
        name: The peer and how it was run.
        encode_ns: Nanoseconds for each source pixel.
        decode_ns: Nanoseconds for each source pixel.
    """

    name: str
    encode_ns: float
    decode_ns: float


def time_peers(frames: np.ndarray, device: torch.device, dtype: torch.dtype) -> list[PeerTime]:
    """Time the encode and decode of frames uint8 ``[T, H, W, 3]``, of Cosmos too if ``has_cosmos``.

    The Cosmos tokenizer has random weights, which its speed does not depend on, and the first frames only,
    since it takes a number of frames that is one more than a multiple of eight. On a processor it runs in
    float32, because torch lacks one of its layers in bfloat16.
    """
    classic = [_time_classic(name, frames) for name in ("x264", "x265")]
    return [*classic, _time_cosmos(frames, device, dtype)] if has_cosmos() else classic


def has_cosmos() -> bool:
    """Whether the extra ``peers`` is installed, which has the Cosmos tokenizer."""
    return find_spec("diffusers") is not None


def _time_classic(name: str, frames: np.ndarray) -> PeerTime:
    peer = PEERS[name]
    (packets, header), encode_s = _timed(lambda: encode_packets(peer, _QUALITY, frames, Fraction(25)))
    _, decode_s = _timed(lambda: sum(1 for _ in decode_packets(peer, packets, header)))
    pixels = frames[..., 0].size
    return PeerTime(f"{peer.describe()}, crf {_QUALITY}", 1e9 * encode_s / pixels, 1e9 * decode_s / pixels)


def _time_cosmos(frames: np.ndarray, device: torch.device, dtype: torch.dtype) -> PeerTime:
    from diffusers import AutoencoderKLCosmos

    torch.manual_seed(0)
    model = AutoencoderKLCosmos().to(device).eval()
    frames = frames[: (len(frames) - 1) // _COSMOS_FRAMES * _COSMOS_FRAMES + 1]
    x = torch.from_numpy(frames).to(device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    sides = [-side % 16 for side in x.shape[:2:-1]]
    x = torch.nn.functional.pad(x, (0, sides[0], 0, sides[1], 0, 0))
    low = device.type != "cpu" and dtype != torch.float32
    with torch.inference_mode(), torch.autocast(device.type, dtype if low else None, enabled=low):
        latents, encode_s = _timed(lambda: model.encode(x).latent_dist.mode(), device)
        _, decode_s = _timed(lambda: model.decode(latents).sample, device)
    pixels = frames[..., 0].size
    kind = str(dtype if low else torch.float32).removeprefix("torch.")
    label = f"Cosmos CV8x8x8 (diffusers, random weights, {kind}, {len(frames)} frames)"
    return PeerTime(label, 1e9 * encode_s / pixels, 1e9 * decode_s / pixels)


def _timed(work: Callable[[], Result], device: torch.device | None = None) -> tuple[Result, float]:
    """What work returns, and the seconds it takes."""
    start = time.perf_counter()
    result = work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start
