"""What prediction leaves of a picture: pixels to symbols, and symbols to pixels."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mptvc.codec.quantization import quantized
from mptvc.codec.stages import stage
from mptvc.model.activity import Residual
from mptvc.model.activity_bits import contexts_apart
from mptvc.model.contexts import Context
from mptvc.model.loop_model import Kind
from mptvc.model.smoothing import smoothed
from mptvc.native import calls, pictures
from mptvc.native.choices import Quantizer

#: Pixels of a picture that tensors work on at once, so that what they make stays in the cache; and kernels,
#: so that what is passed to them takes little memory.
_BAND_PIXELS, _KERNEL_BAND_PIXELS = 2**17, 2**19


@stage("analysis")
def analysed(
    kind: Kind,
    picture: Tensor,
    prediction: Tensor,
    context: Context,
    quantizer: Callable[[Kind], Quantizer],
) -> Residual:
    """What prediction leaves of a picture, quantized; the quantizer is of a kind, where kernels need one."""
    mine = quantizer(kind) if calls.serve(picture.device) else None
    outer = contexts_apart(kind.entropy_model, context)
    symbols = picture.new_empty(*context.classes.shape, kind.channels, dtype=torch.int16)
    quartered = torch.empty_like(context.classes, dtype=torch.bool)
    for tokens, rows in _bands(kind, picture):
        left = picture[:, rows].to(torch.int16) - prediction[:, rows]
        found = quantized(kind, left, outer[tokens].flatten(0, 1), context.envelope.of_rows(tokens), mine)
        symbols[tokens].flatten(0, 1).copy_(found.symbols)
        quartered[tokens].flatten().copy_(found.quartered)
    return Residual(symbols, quartered)


@stage("synthesis")
def synthesised(
    kind: Kind,
    coded: Tensor,
    values: Tensor,
    quartered: Tensor,
    prediction: Tensor,
    steps: Tensor,
    smoothing: float,
) -> Tensor:
    """The picture uint8 ``[3, H, W]`` before restoration: the predicted one itself, where nothing is left."""
    if not len(values):
        return prediction
    decoded = prediction.clone()
    if calls.serve(decoded.device):
        flags, symbols = (calls.array(coded), calls.array(quartered)), calls.array(values)
        matrices = [x.numpy() for x in (kind.exact_dct, kind.exact_half_dct, kind.exact_colours)]
        pictures.reconstruct(decoded.numpy(), *flags, symbols, calls.array(steps), matrices)
    else:
        _reconstruct(kind, decoded, coded, values, quartered, steps)
    return smoothed(decoded, coded, smoothing * steps)


def _reconstruct(
    kind: Kind, picture: Tensor, coded: Tensor, values: Tensor, quartered: Tensor, steps: Tensor
) -> None:
    """Add what symbols stand for to a picture in place."""
    (height, width), patch, done = coded.shape, kind.patch, 0
    cells = picture.view(3, height, patch, width, patch).permute(1, 3, 0, 2, 4)
    for tokens, _ in _bands(kind, picture):
        band, mine = cells[tokens], coded[tokens]
        count = int(mine.sum())
        latents = kind.restored(values[done : done + count], steps[tokens][mine])
        done += count
        residuals = kind.pixels(latents, quartered[tokens][mine])
        band[mine] = residuals.add_(band[mine]).round_().clamp_(0, 255).to(torch.uint8)


def _bands(kind: Kind, picture: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows of tokens and of pixels, a few at a time."""
    _, height, width = picture.shape
    most = _KERNEL_BAND_PIXELS if calls.serve(picture.device) else _BAND_PIXELS
    step = max(1, most // (kind.patch * width))
    for first in range(0, height // kind.patch, step):
        last = min(first + step, height // kind.patch)
        yield slice(first, last), slice(first * kind.patch, last * kind.patch)
