"""Files of every published format version decode for ever to what they decoded to when they were made.

``make_golden.py`` made them. A failure here means that published files no longer play: the code is wrong,
never the golden file. Version 1 was never published: a file of it is kept to show that it is refused by name.
"""

import hashlib
import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from make_golden import FACTS, GOLDEN, WEIGHTS, frame_means, header_facts, sampled

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.decoder import Decompressor
from mptvc.errors import UnsupportedVersionError
from mptvc.files.digests import symbol_digests
from mptvc.format.bitstream import VERSION, read_header
from mptvc.format.sections import open_side

#: The first version that was published.
FIRST = 2
UNPUBLISHED = ("v1-clip.mpt",)
FILES = tuple(f"v2-{name}.mpt" for name in ("pixel", "clip", "cuts", "tiles", "tags", "sound", "gains"))
#: Pixels are floating point. By how much they may differ, in what share of all values, and by how much a
#: frame's mean may; found between instruction sets: (0, 0, 0.001) in float32, (1, 0.072, 0.047) in bfloat16.
TOLERANCE = {"float32": (1, 0.005, 0.02), "bfloat16": (3, 0.2, 0.2)}


@pytest.fixture(scope="module")
def golden_codec() -> Codec:
    return mptvc.load(WEIGHTS, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(FACTS.read_text())
    return facts


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def facts(name: str, recorded: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = recorded[name]
    return found


@pytest.fixture
def data(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def test_no_golden_file_is_missing_or_forgotten(recorded: dict[str, Any]) -> None:
    assert sorted(recorded) == sorted(FILES)
    assert sorted(path.name for path in GOLDEN.glob("*.mpt")) == sorted((*UNPUBLISHED, *FILES))
    assert {facts["version"] for facts in recorded.values()} == set(range(FIRST, VERSION + 1))
    assert {(GOLDEN / name).read_bytes()[8] for name in UNPUBLISHED} == set(range(1, FIRST))


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_a_version_that_was_not_published_is_refused_by_name(golden_codec: Codec, name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    for read in (mptvc.probe, mptvc.verify, golden_codec.decompress):
        with pytest.raises(UnsupportedVersionError, match="encode the source again") as refusal:
            read(data)
        assert (refusal.value.found, refusal.value.supported) == (data[8], (VERSION,))


def test_golden_file_is_the_one_that_was_made(data: bytes, facts: dict[str, Any]) -> None:
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]


def test_golden_weights_keep_their_identity(golden_codec: Codec, facts: dict[str, Any]) -> None:
    assert golden_codec.coder.weights_id.hex() == facts["header"]["weights_id"]
    assert golden_codec.coder.entropy_id.hex() == facts["header"]["entropy_id"]


def test_header_says_what_it_said(data: bytes, facts: dict[str, Any]) -> None:
    assert data[8] == facts["version"]
    assert header_facts(read_header(BytesIO(data))) == facts["header"]
    assert facts["header"]["prefix_bytes"][-1] == len(data)


def test_side_section_is_what_it_was(data: bytes, facts: dict[str, Any]) -> None:
    side = open_side(BytesIO(data), read_header(BytesIO(data)))
    assert (side and hashlib.sha256(side.read()).hexdigest()) == facts["side_sha256"]


def test_golden_files_cover_what_the_format_can_say(recorded: dict[str, Any]) -> None:
    headers = {name: facts["header"] for name, facts in recorded.items()}
    assert headers["v2-pixel.mpt"]["size"] == [1, 1]
    assert len(headers["v2-clip.mpt"]["slice_shots"]) == 1
    assert len(headers["v2-cuts.mpt"]["slice_shots"]) == 4
    assert any(len(set(shots)) > 1 for shots in headers["v2-cuts.mpt"]["slice_shots"])
    assert headers["v2-tiles.mpt"]["tiles"][2] == [2, 3, 8]
    assert headers["v2-tags.mpt"]["rotation"] == 270
    assert len(headers["v2-tags.mpt"]["time_steps"]) == 7
    assert headers["v2-sound.mpt"]["side"] is not None
    assert headers["v2-gains.mpt"]["gains"] == [[-24, -24], [-24, -24], [-8, -8]]


def test_every_prefix_decodes_to_the_recorded_symbols(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    assert len(facts["digests"]) == 3
    for levels, end in enumerate(facts["header"]["prefix_bytes"], start=1):
        assert symbol_digests(data[:end], codec=golden_codec) == facts["digests"][:levels]


def test_every_thread_count_decodes_to_the_recorded_symbols(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (2, 8):
            torch.set_num_threads(threads)
            assert symbol_digests(data, codec=golden_codec) == facts["digests"]
    finally:
        torch.set_num_threads(before)


def test_clips_in_reverse_order_give_the_recorded_symbols(
    golden_codec: Codec, data: bytes, facts: dict[str, Any]
) -> None:
    reader = Decompressor(golden_codec.coder, BytesIO(data), len(data))
    clips = reversed([reader.symbols(clip) for clip in reversed(range(reader.header.shots.num_clips))])
    for level, parts in enumerate(zip(*clips, strict=True)):
        symbols = golden_codec.model.level(level).fsq.to_symbols(torch.cat(parts))
        assert hashlib.sha256(symbols.numpy().tobytes()).hexdigest() == facts["digests"][level]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_prefix_decodes_to_the_recorded_pixels(
    name: str, data: bytes, facts: dict[str, Any], dtype: str
) -> None:
    codec = mptvc.load(WEIGHTS, device="cpu", dtype=dtype)
    most, share, mean = TOLERANCE[dtype]
    video = facts["header"]
    one_value = most / (video["size"][0] * video["size"][1])
    with np.load((GOLDEN / name).with_suffix(".npz"), allow_pickle=False) as pixels:
        for levels, end in enumerate(video["prefix_bytes"], start=1):
            decoded = codec.decompress(data[:end])
            assert decoded.levels == levels
            assert decoded.frames.shape == (video["frames"], *video["size"][::-1], 3)
            expected = pixels[f"levels{levels}"]
            found = sampled(decoded.frames, facts["pixel_step"])
            apart = np.abs(found.astype(np.int16) - expected)
            assert apart.max() <= most
            assert (apart > 0).sum() <= share * apart.size + 1
            means = np.array(frame_means(decoded.frames)) - facts["frame_means"][levels - 1]
            assert np.abs(means).max() <= mean + one_value
