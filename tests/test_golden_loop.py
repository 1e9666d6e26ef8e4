"""Files with prediction decode for ever to what they decoded to when they were made; as ``test_golden.py``.

``make_golden_loop.py`` makes them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from make_golden_loop import FACTS, FILES, FORMS, GOLDEN, golden_weights

import mptvc
from mptvc.codec.codec import Codec
from mptvc.format.bitstream import VERSION
from mptvc.format.slices import KINDS
from mptvc.model.fineness import FINEST
from mptvc.model.motion import UNITS
from mptvc.model.side_symbols import BASE_CHOICE, CHOICES

NAMES = tuple(f"v{VERSION}-{name}.mpt" for name in FILES)
#: Bytes of all golden files of a form together.
MOST_BYTES = 40_000


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """The folder: weights without filters, or with them."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(form: str) -> Path:
    return GOLDEN / form


@pytest.fixture(scope="module")
def golden_codec(form: str) -> Codec:
    with golden_weights(form) as folder:
        return mptvc.load(folder, device="cpu")


@pytest.fixture(scope="module")
def recorded(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    return facts


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def facts(name: str, recorded: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = recorded[name]
    return found


@pytest.fixture
def data(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def test_no_golden_file_is_missing_or_forgotten_or_long(folder: Path, recorded: dict[str, Any]) -> None:
    assert sorted(recorded) == sorted(NAMES) == sorted(path.name for path in folder.glob("*.mpt"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES


def test_golden_file_is_the_one_that_was_made(data: bytes, facts: dict[str, Any]) -> None:
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    header = mptvc.probe(data).header
    assert [data[8], header.shots.clip_frames] == [facts["version"], facts["clip_frames"]]
    assert [header.video.width, header.video.height] == facts["size"]
    assert list(header.shots.lengths) == facts["shots"]
    assert [header.prefix_bytes(k + 1) for k in range(3)] == facts["prefix_bytes"]
    assert facts["prefix_bytes"][-1] == len(data)


def test_golden_weights_keep_their_identity(golden_codec: Codec, facts: dict[str, Any]) -> None:
    assert golden_codec.coder.weights_id.hex() == facts["weights_id"]
    assert golden_codec.coder.entropy_id.hex() == facts["entropy_id"]


def test_golden_files_cover_all_that_packets_can_say(folder: Path, golden_codec: Codec) -> None:
    """Slices of every kind and length at every level, and blocks that are predicted in every way."""
    files = [golden_codec.unpack((folder / name).read_bytes()) for name in NAMES]
    choices: set[int] = set()
    for level in range(3):
        slices = set()
        for tokens in files:
            shots, mine = tokens.layout.shots, tokens.predictions[level]
            lengths = [len(s) for clip in range(shots.num_clips) for s in shots.slices(clip)]
            slices |= set(zip(lengths, mine.kinds.tolist(), strict=True))
            choices |= set(mine.choices.unique().tolist())
        assert slices >= {(4, kind) for kind in range(KINDS)}
        assert {length for length, _ in slices} == {1, 2, 3, 4}
        assert len({int(gain) for tokens in files for gain in tokens.predictions[level].gains}) >= 3
        holds = [tokens.levels[level].any(-1) for tokens in files]
        shapes = [tokens.predictions[level].shapes[mine] for tokens, mine in zip(files, holds, strict=True)]
        assert torch.cat(shapes).unique().tolist() == [0, 1]
        own = [tokens.predictions[level] for tokens in files]
        assert all((one.choices[0] == BASE_CHOICE).all() for one in own)
    assert choices == set(range(CHOICES))
    fineness = torch.cat([tokens.predictions[0].fineness.flatten() for tokens in files])
    assert fineness.unique().tolist() == list(range(-FINEST, FINEST + 1))
    far = max(int(tokens.predictions[0].vectors.abs().max()) for tokens in files)
    assert far > 2 * UNITS * max(tokens.layout.video.width for tokens in files)
    assert any((tokens.predictions[0].coefficients != 0).any() for tokens in files)


def test_every_prefix_decodes_to_the_recorded_symbols(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    assert len(facts["digests"]) == 3
    for levels, end in enumerate(facts["prefix_bytes"], start=1):
        assert mptvc.symbol_digests(data[:end], codec=golden_codec) == facts["digests"][:levels]


def test_two_threads_decode_to_the_recorded_symbols(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert mptvc.symbol_digests(data, codec=golden_codec) == facts["digests"]
    finally:
        torch.set_num_threads(before)


def test_tokens_make_the_recorded_bytes_again(golden_codec: Codec, data: bytes) -> None:
    assert golden_codec.pack(golden_codec.unpack(data)) == data


def test_every_prefix_decodes_to_the_recorded_pixels(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    width, height = facts["size"]
    for levels, end in enumerate(facts["prefix_bytes"], start=1):
        decoded = golden_codec.decompress(data[:end])
        assert (decoded.levels, decoded.frames.shape) == (levels, (sum(facts["shots"]), height, width, 3))
        assert hashlib.sha256(decoded.frames.tobytes()).hexdigest() == facts["pixels"][levels - 1]
