import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import build_small_config, build_small_model

from mptvc.codec.codec import Codec
from mptvc.codec.patches import PatchCoder
from mptvc.errors import CorruptPacketError, FormatError, MptError, WeightsError
from mptvc.evaluate.metrics import QualityMeter
from mptvc.format.bitstream import read_header
from mptvc.format.geometry import TileGrid
from mptvc.model.entropy_model import EntropyModel
from mptvc.model.model import Model
from mptvc.model.transforms import Synthesis, _Trunk

SHOTS = (6, 5)


def test_tokens_are_the_same_with_and_without_the_entropy_stage(small_codec, frames, data):
    tokens = small_codec.encode(frames, shots=SHOTS)
    for levels in (1, 2, 3):
        direct = small_codec.decode(tokens, levels=levels)
        assert np.array_equal(small_codec.decompress(data, levels=levels).frames, direct)


def test_tokens_have_the_documented_layout(small_codec, frames):
    tokens = small_codec.encode(frames, shots=SHOTS)
    assert [tuple(level.shape) for level in tokens.levels] == [(4, 2, 3, 12), (4, 4, 6, 12), (4, 8, 12, 12)]
    for level in tokens.levels:
        assert level.dtype == torch.uint8
        assert (level.amax((0, 1, 2)) < torch.tensor([63] * 4 + [15] * 8)).all()
        assert level.float().std() > 0


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [(1, 1, 1), (2, 2, 2), (3, 33, 31), (33, 8, 9), (5, 64, 96), (65, 5, 40)],
)
def test_any_size_and_count_come_back_exactly(small_codec, count, height, width):
    rng = np.random.default_rng(count)
    video = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    decoded = small_codec.decompress(small_codec.compress(video))
    assert decoded.frames.shape == video.shape
    assert decoded.complete


def test_cuts_lose_and_double_no_frame(codec):
    """Each frame is a flat grey of its own, so its number can be read from the picture."""
    shots = (1, 2, 3, 4, 5, 27, 1)
    greys = (np.arange(sum(shots)) * 5 + 10).astype(np.uint8)
    video = np.broadcast_to(greys[:, None, None, None], (len(greys), 32, 32, 3))
    decoded = codec.decompress(codec.compress(video, shots=shots)).frames
    found = decoded.mean((1, 2, 3))
    assert np.abs(found - greys).max() < 2.5


def test_every_prefix_decodes_or_says_what_is_missing(small_codec, frames, data):
    header = read_header(BytesIO(data))
    ends = [header.prefix_bytes(k) for k in (1, 2, 3)]
    whole = {k: small_codec.decompress(data, levels=k).frames for k in (1, 2, 3)}
    for length in range(0, len(data) + 1, 7):
        complete = sum(end <= length for end in ends)
        if complete == 0:
            with pytest.raises(FormatError):
                small_codec.decompress(data[:length])
        elif length - ends[complete - 1] < 14:  # decoding at each border is enough
            decoded = small_codec.decompress(data[:length])
            assert decoded.levels == complete
            assert np.array_equal(decoded.frames, whole[complete])


def test_more_levels_than_are_there_are_refused(small_codec, data):
    end = read_header(BytesIO(data)).prefix_bytes(2)
    with pytest.raises(FormatError, match="it has levels 0-1 complete"):
        small_codec.decompress(data[:end], levels=3)
    with pytest.raises(ValueError, match="1 to 3"):
        small_codec.decompress(data, levels=4)


def test_flipped_byte_names_level_and_clip(small_codec, data):
    header = read_header(BytesIO(data))
    for level in range(3):
        damaged = bytearray(data)
        damaged[header.offset(level, 0) + 2] ^= 1
        with pytest.raises(CorruptPacketError) as error:
            small_codec.decompress(bytes(damaged))
        assert (error.value.level, error.value.clip) == (level, 0)
        assert error.value.offset == header.offset(level, 0)


def test_other_weights_are_refused_with_both_names(small_model, data):
    other = Codec(PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"x" * 32))
    with pytest.raises(WeightsError) as error:
        other.decompress(data)
    assert error.value.expected == (b"w" * 32).hex()
    assert error.value.found == (b"x" * 32).hex()


def test_symbols_do_not_depend_on_the_tiles(small_codec, small_model, frames):
    """The number of coded symbols is that of the picture, and tiles change a value only rarely."""
    video = np.tile(frames, (1, 6, 4, 1))
    whole = small_codec.encode(video)
    tiled = Codec(PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=(128, 128)))
    pieces = tiled.encode(video)
    assert pieces.layout.geometry.tiles[2] == TileGrid(3, 3, 8)
    for a, b in zip(whole.levels, pieces.levels, strict=True):
        assert a.shape == b.shape
        assert (a != b).float().mean() < 0.02


@pytest.mark.parametrize(
    ("tile", "cores"),
    [
        pytest.param((256, 256), [(512, 512), (256, 256), (256, 256)], id="16 tokens at least"),
        pytest.param((512, 1024), [(512, 1024), (512, 1024), (512, 1024)], id="height and width"),
    ],
)
def test_tiles_are_counted_in_source_pixels_at_every_level(small_model, tile, cores):
    """At what size a level works on its picture is no matter of the user's."""
    coder = PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=tile)
    geometry = coder.geometry(2048, 2048)
    found = [(2048 // grid.rows, 2048 // grid.columns) for grid in geometry.tiles]
    assert found == cores


@pytest.mark.parametrize("tile", [(127, 256), (256, 127), (0, 0)])
def test_a_tile_that_is_too_small_is_refused(small_model, tile):
    with pytest.raises(ValueError, match=f"at least 128 pixels wide and high, found {tile[1]}x{tile[0]}"):
        PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=tile)


@pytest.mark.parametrize(
    ("details", "linear"),
    [((1, 1, 1), (0, 0, 0)), ((1, 2, 1), (4, 0, 0)), ((2, 1, 1), (0, 4, 0)), ((2, 2, 1), (0, 4, 4))],
)
def test_levels_of_any_shape_are_coded_as_the_model_codes_them(frames, details, linear):
    """In one tile as whole pictures in float32; in tiles nearly so."""
    model = build_small_model(build_small_config(details, linear))
    video = np.tile(frames[:8], (1, 6, 4, 1))[:, :288, :256]
    x = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = model.encode(x)
        pixels = (model.decode(latents)[0].permute(1, 2, 3, 0) + 1) * 127.5
    for tile in (None, (128, 128)):
        codec = Codec(PatchCoder(model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=tile))
        tokens = codec.encode(video)
        for k, (mine, theirs) in enumerate(zip(latents, tokens.levels, strict=True)):
            assert (model.level(k).fsq.to_symbols(mine[0]) != theirs).float().mean() < 0.02
        decoded = codec.decode(tokens)
        assert np.abs(decoded - pixels.round().clamp(0, 255).numpy()).mean() < 0.5
        sizes = [codec.coder.picture_size(tokens.layout.geometry, k + 1) for k in range(3)]
        shrinks = [4 // details[0], 2 // details[1], 1]
        assert sizes == [(288 // shrink, 256 // shrink) for shrink in shrinks]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tile_batch_never_changes_a_byte(codec, dtype):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 24, 32, 3), dtype=np.uint8)
    video = coarse.repeat(10, 1).repeat(10, 2)
    files = []
    for batch in (1, 4, 100):
        coder = PatchCoder(
            codec.model,
            entropy_id=b"e" * 32,
            weights_id=b"w" * 32,
            dtype=dtype,
            tile=(128, 128),
            tile_batch=batch,
        )
        files.append(hashlib.sha256(Codec(coder).compress(video)).hexdigest())
    assert len(set(files)) == 1


def test_a_network_that_returns_nan_is_reported_with_its_tile(small_config, frames):
    model = Model(small_config).eval()
    with torch.no_grad():
        model.level(1).analysis.head.bias.fill_(float("nan"))
    broken = Codec(PatchCoder(model, entropy_id=b"e" * 32, weights_id=b"w" * 32))
    with pytest.raises(MptError, match=r"level 1: .* not finite in the tile at \(0, 0\)"):
        broken.compress(frames)


def test_the_tile_that_is_not_finite_is_named(small_model):
    """Infinity in the third of three tiles, which starts at 32 with its margin."""
    coder = PatchCoder(small_model, entropy_id=b"e" * 32, weights_id=b"w" * 32, tile=(128, 128))
    analysis, calls = coder.model.level(2).analysis, []
    latents = analysis.latents

    def broken(h, shots):
        calls.append(h.shape)
        return latents(h, shots) / (0 if len(calls) == 3 else 1)

    analysis.latents = broken
    try:
        with pytest.raises(MptError, match=r"level 2: .* not finite in the tile at \(32, 0\)"):
            Codec(coder).compress(np.random.default_rng(0).integers(0, 255, (4, 64, 264, 3), dtype=np.uint8))
    finally:
        del analysis.latents


@pytest.mark.parametrize("size", [(479, 863), (481, 865), (1920, 1080), (1, 2000), (2000, 1)])
def test_large_odd_sizes_come_back(small_codec, size):
    """With tiles, cut at what is not a multiple of anything."""
    frames = np.random.default_rng(1).integers(0, 255, (1, *size, 3), dtype=np.uint8)
    assert small_codec.decompress(small_codec.compress(frames)).frames.shape == frames.shape


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 8, 8), np.uint8), np.zeros((3, 8, 8, 3)), np.zeros((0, 8, 8, 3), np.uint8)],
)
def test_wrong_frames_are_refused(small_codec, wrong):
    with pytest.raises(ValueError, match="frames are uint8"):
        small_codec.compress(wrong)


def test_wrong_shots_are_refused(small_codec, frames):
    with pytest.raises(ValueError, match="do not add up"):
        small_codec.encode(frames, shots=(5, 5))


def test_levels_improve_the_picture(codec, frames):
    data = codec.compress(frames, shots=SHOTS)
    scores = []
    for levels in (1, 2, 3):
        meter = QualityMeter()
        meter.add(frames, codec.decompress(data, levels=levels).frames)
        scores.append(meter.rgb)
    assert scores[0] < scores[1] < scores[2]
    assert scores[2] > 30


DIGESTS = """
import sys, torch, mptvc
torch.set_num_threads(int(sys.argv[2]))
print(*mptvc.symbol_digests(sys.argv[1], codec=mptvc.load("tokenizer", device="cpu", dtype=sys.argv[3])))
"""

SETTINGS = [
    ("default", "SSE41", "1", "float32"),
    ("avx2", "AVX2", "2", "float32"),
    ("avx512", "AVX512_CORE_BF16", "2", "bfloat16"),
]


def test_one_file_gives_the_same_symbols_on_every_instruction_set(codec, frames, tmp_path):
    """The forced sets also change the kernels that the networks and the integer sums run on."""
    path = tmp_path / "a.mpt"
    path.write_bytes(codec.compress(np.tile(frames, (1, 3, 3, 1)), shots=SHOTS))
    found = set()
    for aten, onednn, threads, dtype in SETTINGS:
        env = os.environ | {
            "ATEN_CPU_CAPABILITY": aten,
            "ONEDNN_MAX_CPU_ISA": onednn,
            "MKL_ENABLE_INSTRUCTIONS": {"default": "SSE4_2", "avx2": "AVX2", "avx512": "AVX512"}[aten],
        }
        command = [sys.executable, "-c", DIGESTS, str(path), threads, dtype]
        found.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_tiles_of_the_file_are_used_whatever_the_decoder_prefers(codec, frames):
    video = np.tile(frames, (1, 5, 4, 1))
    tiled = PatchCoder(
        codec.model, entropy_id=codec.coder.entropy_id, weights_id=codec.coder.weights_id, tile=(128, 128)
    )
    data = Codec(tiled).compress(video)
    plain = PatchCoder(codec.model, entropy_id=codec.coder.entropy_id, weights_id=codec.coder.weights_id)
    assert np.array_equal(Codec(tiled).decompress(data).frames, Codec(plain).decompress(data).frames)
    header = read_header(BytesIO(data))
    assert header.geometry.tiles[2].rows == 2


@pytest.mark.parametrize("rate", [0, -25])
def test_frame_rate_above_zero_is_needed(small_codec, frames, rate):
    with pytest.raises(ValueError, match="frame_rate"):
        small_codec.compress(frames, frame_rate=Fraction(rate))


def test_frame_rate_of_a_float_is_kept_closely(small_codec, frames):
    data = small_codec.compress(frames, frame_rate=Fraction(29.97))
    assert abs(read_header(BytesIO(data)).video.frame_rate - Fraction(2997, 100)) < 1e-9


def test_frames_larger_than_the_format_are_refused(small_codec):
    with pytest.raises(ValueError, match="sides of 1 to 65536"):
        small_codec.compress(np.zeros((1, 1, 65537, 3), np.uint8))


def test_batch_that_does_not_fit_the_memory_goes_tile_by_tile(
    small_model: Model, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is short for more than one tile at a time; no byte and no pixel depends on it."""
    ids = {"entropy_id": b"e" * 32, "weights_id": b"w" * 32}
    wide = np.repeat(np.repeat(frames, 6, 1), 6, 2)
    plain, batched = (Codec(PatchCoder(small_model, tile=(128, 128), tile_batch=n, **ids)) for n in (1, 8))
    data = plain.compress(wide)
    forward, asked = _Trunk.forward, []

    def short(self: _Trunk, h: torch.Tensor, shots: torch.Tensor) -> torch.Tensor:
        asked.append(len(h))
        if len(h) > 1:
            raise torch.OutOfMemoryError("no more")
        return forward(self, h, shots)

    monkeypatch.setattr(_Trunk, "forward", short)
    assert batched.compress(wide) == data
    assert max(asked) > 1
    assert np.array_equal(batched.decompress(data).frames, plain.decompress(data).frames)


@pytest.mark.parametrize("part", [(_Trunk, "forward"), (Synthesis, "patches"), (EntropyModel, "_walk_slice")])
def test_too_little_memory_is_a_clear_error(
    small_codec: Codec, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, part: tuple[type, str]
) -> None:
    data = small_codec.compress(frames)

    def none(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(*part, none)
    with pytest.raises(MptError, match="out of memory"):
        small_codec.compress(frames)
    with pytest.raises(MptError, match="out of memory"):
        small_codec.decompress(data)
