"""One clip: frames to symbols, symbols to packets, and back.

Knows tensors and packets; knows no file. Memory is bounded by one clip and one batch of tiles.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.rate import RateControl
from mptvc.codec.tiled_networks import TiledNetworks
from mptvc.codec.tiles import choose_grid
from mptvc.errors import CorruptPacketError, MptError
from mptvc.format.gain import gain_factor
from mptvc.format.geometry import TileGrid
from mptvc.format.header import Header, VideoInfo
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.model import Model, fresh_slices
from mptvc.model.pyramid import expand

#: Largest core of a tile that is chosen automatically, in tokens (height, width).
CORE_TOKENS = (144, 256)
#: Smallest core that may be asked for, in tokens.
SMALLEST_CORE = 16
_WRONG_ROWS = (
    "the file is forged, or this machine computes the entropy model wrongly; then report `mptvc env`"
)


@dataclass(frozen=True)
class CodedLevel:
    """One level of one clip.

    Attributes:
        symbols: Centred symbols, int8 ``[T, h, w, C]``.
        packet: The packet that holds them.
        gain: How much finer than in training they are quantized.
    """

    symbols: Tensor
    packet: bytes
    gain: int


@contextmanager
def _within_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MptError('out of memory: use device="cpu", or encode with a smaller tile=') from error


class ClipCoder:
    """A model with what is needed to code one clip with it.

    Args:
        model: Networks, in evaluation mode on their device.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        dtype: Type of the networks' matrix products; the entropy model is exact in any case.
        tile: Largest (height, width) of a tile's core in pixels of a level; None chooses.
        tile_batch: Tiles that the networks see at once; more is faster on a GPU and takes memory.

    Raises:
        ValueError: The tile is too small or the batch is below 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        entropy_id: bytes,
        weights_id: bytes,
        dtype: torch.dtype = torch.float32,
        tile: tuple[int, int] | None = None,
        tile_batch: int = 1,
    ) -> None:
        self.model, self.config = model, model.config
        self.entropy_id, self.weights_id = entropy_id, weights_id
        self.networks = TiledNetworks(model, dtype, tile_batch)
        self.device = self.networks.device
        patch = self.config.patch_size
        self._core = CORE_TOKENS if tile is None else (tile[0] // patch, tile[1] // patch)
        if min(self._core) < SMALLEST_CORE:
            raise ValueError(f"a tile is at least {SMALLEST_CORE * patch} pixels wide and high")
        self._tables = [
            Tables(model.level(k).entropy_model.frequencies.cpu().numpy())
            for k in range(len(self.config.levels))
        ]

    def header(self, video: VideoInfo, shots: tuple[int, ...]) -> Header:
        """A header for this model, without sections."""
        config = self.config
        none = TileGrid(1, 1, 0)
        header = Header(
            video=video,
            shots=shots,
            patch_frames=config.patch_frames,
            patch_size=config.patch_size,
            clip_frames=config.clip_frames,
            tiles=(none,) * len(config.levels),
            entropy_id=self.entropy_id,
            weights_id=self.weights_id,
            index=(),
        )
        grids = (choose_grid(*header.grid(k), self._core) for k in range(len(config.levels)))
        return replace(header, tiles=tuple(grids))

    @torch.no_grad()
    @_within_memory()
    def encode_clip(
        self,
        frames: np.ndarray,
        header: Header,
        scenes: tuple[int, ...],
        control: RateControl,
    ) -> list[CodedLevel]:
        """Coded frames to the symbols and packets of every level.

        Args:
            frames: uint8 ``[F, H, W, 3]``.
            header: Geometry.
            scenes: Shot number of each slice.
            control: Chooses the gains; it has started the clip.

        Raises:
            MptError: A network returned a number that is not finite, or the memory is too small.
        """
        pictures = self.networks.pyramid(torch.from_numpy(frames).to(self.device), header)
        shots = torch.tensor([scenes], device=self.device)
        coded: list[CodedLevel] = []
        x_hat = None
        for k, picture in enumerate(pictures):
            latents = self.networks.analyse(k, picture, x_hat, header, shots)
            coded.append(self._quantize(latents, coded, scenes, control))
            control.spend(k, len(coded[k].packet))
            if k + 1 < len(pictures):
                factor = gain_factor(coded[k].gain)
                x_hat = self.networks.synthesise(k, coded[k].symbols, factor, x_hat, header, shots)
        return coded

    def _quantize(
        self,
        latents: Tensor,
        coarser: list[CodedLevel],
        scenes: tuple[int, ...],
        control: RateControl,
    ) -> CodedLevel:
        """Latents of the next level to symbols and a packet, at the gain that rate control asks for."""
        level, parents = len(coarser), [c.symbols for c in coarser]
        tried: dict[int, CodedLevel] = {}

        def size_of(gain: int) -> int:
            writer = PacketWriter(self._tables[level])
            y = latents * gain_factor(gain) if gain else latents
            symbols = self._code(level, writer, y.shape[:3], parents, scenes, y)
            # Tried gains below this one fit and those above do not: only the largest below can still win.
            for other in sorted(tried, key=lambda g: (g < gain, g))[:-1]:
                del tried[other]
            tried[gain] = CodedLevel(symbols, writer.finish(), gain)
            return len(tried[gain].packet)

        def finest() -> int:
            return self.model.level(level).fsq.finest_gain(latents)

        gain = control.gain(level, finest, size_of)
        if gain not in tried:
            size_of(gain)
        return tried[gain]

    @torch.no_grad()
    @_within_memory()
    def pack_level(
        self, level: int, symbols: Tensor, coarser: list[Tensor], scenes: tuple[int, ...]
    ) -> bytes:
        """The packet of one level of one clip from its centred symbols ``[T, h, w, C]``.

        Raises:
            MptError: The memory is too small.
        """
        writer = PacketWriter(self._tables[level])
        shape = symbols.shape[:3]
        self._code(level, writer, shape, coarser, scenes, symbols.to(self.device), False)
        return writer.finish()

    @_within_memory()
    def unpack_level(
        self, level: int, packet: bytes, header: Header, coarser: list[Tensor], clip: int
    ) -> Tensor:
        """Centred symbols of one level of one clip, int8 ``[T, h, w, C]``.

        Raises:
            CorruptPacketError: The packet does not fit the geometry.
            MptError: The memory is too small.
        """
        scenes = header.plan(clip).scenes
        shape = (len(scenes), *header.grid(level))
        try:
            reader = PacketReader(self._tables[level], packet)
            symbols = self._code(level, reader, shape, coarser, scenes, None)
            reader.finish()
        except ValueError as error:
            offset = header.offset(level, clip)
            message = f"{error}, though its checksum is right: {_WRONG_ROWS}"
            raise CorruptPacketError(message, level=level, clip=clip, offset=offset) from error
        return symbols

    def _code(
        self,
        level: int,
        coder: PacketWriter | PacketReader,
        shape: Sequence[int],
        coarser: list[Tensor],
        scenes: tuple[int, ...],
        latents: Tensor | None,
        choose: bool = True,
    ) -> Tensor:
        fresh = fresh_slices(torch.tensor([scenes]))[0].tolist()
        parent = coarser[level - 1] if level else None
        grid = (shape[0], shape[1], shape[2])
        return self.model.level(level).entropy_model.code(coder, grid, parent, fresh, latents, choose=choose)

    @torch.no_grad()
    @_within_memory()
    def decode_clip(
        self,
        symbols: list[Tensor],
        header: Header,
        clip: int,
        *,
        source_size: bool = True,
    ) -> np.ndarray:
        """Centred symbols of the first levels to coded frames.

        Args:
            symbols: For each decoded level ``[T, h, w, C]``.
            header: Geometry.
            clip: Number of the clip.
            source_size: Enlarge to the source's size; otherwise the last level's own size.

        Returns:
            uint8 ``[F, H, W, 3]``.

        Raises:
            MptError: The memory is too small.
        """
        shots = torch.tensor([header.plan(clip).scenes], device=self.device)
        x_hat = None
        for k, level_symbols in enumerate(symbols):
            factor = gain_factor(header.gain(k, clip))
            x_hat = self.networks.synthesise(k, level_symbols, factor, x_hat, header, shots)
        if x_hat is None:
            raise ValueError("at least one level is needed")
        doublings = self.config.shrink(len(symbols) - 1).bit_length() - 1
        size = self.picture_size(header, len(symbols) if not source_size else header.levels)
        frames = np.empty((x_hat.shape[1], *size, 3), dtype=np.uint8)
        for t in range(x_hat.shape[1]):
            frame = x_hat[:, t].float()
            for _ in range(doublings if source_size else 0):
                frame = expand(frame)
            frame = ((frame[:, : size[0], : size[1]] + 1) * 127.5).round_().clamp_(0, 255)
            frames[t] = frame.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return frames

    def picture_size(self, header: Header, levels: int) -> tuple[int, int]:
        """Height and width of the picture of the last of ``levels`` levels."""
        shrink = self.config.shrink(levels - 1)
        return -(-header.video.height // shrink), -(-header.video.width // shrink)
