"""One clip of patches, without prediction from other frames: frames to symbols, symbols to packets, and back.

Knows tensors and packets; knows no file. Memory is bounded by one clip and one batch of tiles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mptvc.codec.coder import ClipCoder, CodedSection, Damaged, Piece, require_geometry
from mptvc.codec.plain_grid import patch_shots
from mptvc.codec.rate import RateControl
from mptvc.codec.settings import computing
from mptvc.codec.stages import stage
from mptvc.codec.tiled_networks import TiledNetworks
from mptvc.codec.tiles import choose_tiles
from mptvc.codec.tokens import TOKENS
from mptvc.format.gain import gain_factor
from mptvc.format.geometry import Geometry, PatchShots, Shots, token_grid
from mptvc.format.header import Layout
from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.model import LevelStep, Model, decode_levels, fresh_slices
from mptvc.model.pyramid import expand

#: Largest core of a tile that is chosen automatically, in tokens (height, width).
CORE_TOKENS = (144, 256)
#: Smallest core that may be asked for, in tokens.
SMALLEST_CORE = 16


@dataclass(frozen=True)
class CodedLevel(CodedSection):
    """One level of one clip.

    Attributes:
        data: The packet that holds it; empty where none is asked for.
        gain: How much finer than in training it is quantized.
        symbols: Centred symbols, int8 ``[T, h, w, C]``.
    """

    symbols: Tensor

    @property
    def factor(self) -> float:
        """What latents were multiplied by."""
        return gain_factor(self.gain)


class PatchCoder(ClipCoder):
    """A model of patches with what is needed to code one clip with it.

    Args:
        model: Networks, in evaluation mode on their device.
        entropy_id: SHA-256 of the weights' entropy-relevant part.
        weights_id: SHA-256 of the whole weights.
        dtype: Type of the networks' matrix products; the entropy model is exact in any case.
        tile: Largest (height, width) of a tile's core in source pixels, but never less than 16 tokens of a
            level; None chooses.
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
        if tile_batch < 1:
            raise ValueError(f"tile_batch is at least 1, found {tile_batch}")
        device = next(model.parameters()).device
        super().__init__(model.config, device, entropy_id=entropy_id, weights_id=weights_id, dtype=dtype)
        self.model, self.config, self.tile_batch = model, model.config, tile_batch
        self._cores = [self._core(level, tile) for level in range(len(self.config.levels))]
        self._tables = [
            Tables(model.level(k).entropy_model.frequencies.cpu().numpy())
            for k in range(len(self.config.levels))
        ]

    def _core(self, level: int, tile: tuple[int, int] | None) -> tuple[int, int]:
        """Largest core of a level's tiles in tokens (height, width)."""
        if tile is None:
            return CORE_TOKENS
        smallest = SMALLEST_CORE * self.config.patch_size
        if min(tile) < smallest:
            raise ValueError(f"a tile is at least {smallest} pixels wide and high, found {tile[1]}x{tile[0]}")
        token = self.config.token_side(level)
        return max(SMALLEST_CORE, tile[0] // token), max(SMALLEST_CORE, tile[1] // token)

    def geometry(self, width: int, height: int) -> Geometry:
        """Grids and tiles of a video of so many pixels."""
        patch, count = self.config.patch_size, len(self._cores)
        grids = [token_grid(width, height, patch, count, level) for level in range(count)]
        tiles = tuple(choose_tiles(*grid, core) for grid, core in zip(grids, self._cores, strict=True))
        return Geometry(width, height, patch, tiles)

    def shots(self, lengths: tuple[int, ...]) -> PatchShots:
        """Slices and clips of shots of so many frames."""
        return PatchShots(lengths, self.config.clip_frames, self.config.patch_frames)

    def require_shots(self, shots: Shots) -> None:
        """Check that slices and clips are such as these weights code.

        Raises:
            FormatError: They are not.
        """
        mine = self.config.patch_frames, self.config.clip_frames
        fits = isinstance(shots, PatchShots) and (shots.patch_frames, shots.clip_frames) == mine
        require_geometry(fits)

    @torch.no_grad()
    @computing()
    def encode_clip(
        self, frames: np.ndarray, geometry: Geometry, shots: tuple[int, ...], control: RateControl
    ) -> list[CodedLevel]:
        """Coded frames to the symbols and packets of every level that is wanted.

        Args:
            frames: uint8 ``[F, H, W, 3]``, F a multiple of ``patch_frames``.
            geometry: Of the video.
            shots: Shot number of each slice, T = F / patch_frames of them.
            control: Chooses the gains, and whether to make packets; it has started the clip.

        Raises:
            MptError: A network returned a number that is not finite, or the memory is too small.
        """
        networks, slice_shots = self._networks(geometry), self._slice_shots(shots)
        coded: list[CodedLevel] = []

        def quantize(level: int, latents: Tensor) -> CodedLevel:
            found = self._quantize(level, latents, coded, shots, control)
            control.spend(level, len(found.data))
            return found

        step: LevelStep[CodedLevel] | None = None
        pictures = networks.pyramid(torch.from_numpy(frames).to(self.device))
        for k, picture in enumerate(pictures[: control.levels]):
            coarser = None if step is None else step.x_hat
            step = LevelStep(networks, k, picture, coarser, slice_shots, quantize)
            coded.append(step.coded)
        return coded

    def _quantize(
        self,
        level: int,
        latents: Tensor,
        coarser: list[CodedLevel],
        shots: tuple[int, ...],
        control: RateControl,
    ) -> CodedLevel:
        """Latents ``[T, h, w, C]`` to symbols, and a packet, at the gain that rate control asks for."""
        parents = [c.symbols for c in coarser]
        tried: dict[int, CodedLevel] = {}

        def size_of(gain: int) -> int:
            writer = PacketWriter(self._tables[level]) if control.packs else None
            y = latents * gain_factor(gain) if gain else latents
            symbols = self._code(level, writer, y.shape[:3], parents, shots, y)
            # Tried gains below this one fit and those above do not: only the largest below can still win.
            for other in sorted(tried, key=lambda g: (g < gain, g))[:-1]:
                del tried[other]
            tried[gain] = CodedLevel(b"" if writer is None else writer.finish(), gain, symbols)
            return len(tried[gain].data)

        def finest() -> int:
            return self.model.level(level).fsq.finest_gain(latents)

        gain = control.gain(level, finest, size_of)
        if gain not in tried:
            size_of(gain)
        return tried[gain]

    @torch.no_grad()
    @computing()
    def pack_level(self, level: int, symbols: Tensor, coarser: list[Tensor], shots: tuple[int, ...]) -> bytes:
        """The packet of one level of one clip.

        Args:
            level: The level.
            symbols: Its centred symbols ``[T, h, w, C]``.
            coarser: Those of the coarser levels.
            shots: Shot number of each slice.

        Raises:
            MptError: The memory is too small.
        """
        writer = PacketWriter(self._tables[level])
        self._code(level, writer, symbols.shape[:3], coarser, shots, symbols.to(self.device), False)
        return writer.finish()

    @computing()
    def unpack_level(
        self, level: int, packet: bytes, coarser: list[Tensor], geometry: Geometry, shots: tuple[int, ...]
    ) -> Tensor:
        """Centred symbols of one level of one clip, int8 ``[T, h, w, C]``; arguments as in ``pack_level``.

        Raises:
            ValueError: The packet does not fit the geometry.
            MptError: The memory is too small.
        """
        reader = PacketReader(self._tables[level], packet)
        symbols = self._code(level, reader, (len(shots), *geometry.grid(level)), coarser, shots, None)
        reader.finish()
        return symbols

    @stage("entropy")
    def _code(
        self,
        level: int,
        coder: PacketWriter | PacketReader | None,
        shape: Sequence[int],
        coarser: list[Tensor],
        shots: tuple[int, ...],
        latents: Tensor | None,
        choose: bool = True,
    ) -> Tensor:
        fresh = fresh_slices(torch.tensor([shots]))[0].tolist()
        parent = coarser[level - 1] if level else None
        grid = (shape[0], shape[1], shape[2])
        return self.model.level(level).entropy_model.code(coder, grid, parent, fresh, latents, choose=choose)

    @torch.no_grad()
    @computing()
    def decode_clip(
        self,
        symbols: list[Tensor],
        gains: Sequence[int],
        geometry: Geometry,
        shots: tuple[int, ...],
        *,
        source_size: bool = True,
    ) -> np.ndarray:
        """Centred symbols of the first levels to coded frames.

        Args:
            symbols: For each decoded level ``[T, h, w, C]``.
            gains: Gain of each level, or of more.
            geometry: Of the video.
            shots: Shot number of each slice.
            source_size: Enlarge to the source's size; otherwise the last level's own size.

        Returns:
            uint8 ``[F, H, W, 3]``.

        Raises:
            MptError: The memory is too small.
            ValueError: There is no level.
        """
        factors = [gain_factor(gain) for gain in gains]
        x_hat = decode_levels(self._networks(geometry), symbols, factors, self._slice_shots(shots))
        doublings = self.config.shrink(len(symbols) - 1).bit_length() - 1
        size = self.picture_size(geometry, geometry.num_levels if source_size else len(symbols))
        frames = np.empty((x_hat.shape[1], *size, 3), dtype=np.uint8)
        for t in range(x_hat.shape[1]):
            frame = x_hat[:, t].float()
            for _ in range(doublings if source_size else 0):
                frame = expand(frame)
            frame = ((frame[:, : size[0], : size[1]] + 1) * 127.5).round_().clamp_(0, 255)
            frames[t] = frame.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return frames

    def symbols(self, sections: Sequence[bytes], layout: Layout, clip: int, damaged: Damaged) -> list[Tensor]:
        """Centred symbols of a clip's first levels, int8 ``[T, h, w, C]``; arguments as for ``pieces``."""
        found: list[Tensor] = []
        shots = patch_shots(layout).clip(clip).shots
        for level, packet in enumerate(sections):
            try:
                found.append(self.unpack_level(level, packet, found, layout.geometry, shots))
            except ValueError as error:
                damaged(level, error)
                break
        return found

    def pieces(
        self, sections: Sequence[bytes], layout: Layout, clip: int, damaged: Damaged
    ) -> Iterator[Piece]:
        """Decode a clip, in one piece; as ``ClipCoder.pieces``."""
        symbols = self.symbols(sections, layout, clip, damaged)
        if symbols:
            yield Patches(self, symbols, layout, clip)

    def frames(
        self, symbols: list[Tensor], layout: Layout, clip: int, *, source_size: bool = True
    ) -> np.ndarray:
        """Source frames of one clip, uint8 ``[T, H, W, 3]``, from centred symbols of its first levels."""
        plan, gains = patch_shots(layout).clip(clip), layout.clip_gains(clip)
        coded = self.decode_clip(symbols, gains, layout.geometry, plan.shots, source_size=source_size)
        kept: np.ndarray = coded[plan.kept]
        return kept

    def _networks(self, geometry: Geometry) -> TiledNetworks:
        return TiledNetworks(self.model, geometry, self.dtype, self.tile_batch)

    def _slice_shots(self, shots: tuple[int, ...]) -> Tensor:
        return torch.tensor([shots], device=self.device) - shots[0]  # so that a clip is coded alike anywhere


class Patches(Piece):
    """A decoded clip of patches."""

    def __init__(self, coder: PatchCoder, symbols: list[Tensor], layout: Layout, clip: int) -> None:
        self._coder, self._symbols, self._layout, self._clip = coder, symbols, layout, clip
        self._plan = patch_shots(layout).clip(clip)
        self.num_levels, self.num_frames = len(symbols), len(self._plan.kept)

    def frames(self, levels: int, *, source_size: bool = True, out: np.ndarray | None = None) -> np.ndarray:
        """Frames of a prefix; as ``Piece.frames``."""
        symbols = self._symbols[:levels]
        frames = self._coder.frames(symbols, self._layout, self._clip, source_size=source_size)
        if out is None:
            return frames
        out[:] = frames
        return out

    def symbols(self, level: int) -> Iterator[Tensor]:
        """All symbols of a level, from 0 on; as ``Piece.symbols``."""
        yield self._coder.model.level(level).fsq.to_symbols(self._symbols[level].to(self._coder.device))

    @torch.no_grad()
    @computing()
    def bits(self, level: int, frame: int) -> np.ndarray:
        """Bits of a slice's tokens, hyper symbols left out; as ``Piece.bits``."""
        slice_ = self._plan.kept[frame] // self._coder.config.patch_frames
        # A slice depends on the one before and no other.
        near, device = slice(max(0, slice_ - 1), slice_ + 1), self._coder.device
        parent = None if level == 0 else self._symbols[level - 1][near][None].to(device)
        fresh = fresh_slices(torch.tensor([self._plan.shots], device=device))[:, near]
        symbols = self._symbols[level][near][None].to(device)
        bits, _ = self._coder.model.level(level).entropy_model(symbols, parent, fresh)
        result: np.ndarray = bits[0, -1].sum(-1).float().cpu().numpy()
        return result

    def arrays(self, level: int) -> dict[str, Tensor]:
        """Tokens alone; as ``Piece.arrays``."""
        return {TOKENS: next(self.symbols(level)).cpu()}
