"""The command that decodes: prefixes, damage, targets."""

import json
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from command_line import DAMAGED, FAILED, Cli, is_one_error, names, spoil

from mptvc.format.inspect import probe


def test_best_effort_writes_what_is_sound_and_exits_with_3(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil("flipped byte", (made / "in.mpt").read_bytes()))
    result = cli("decode", "bad.mpt", "a.mp4", "--best-effort", "--json")
    assert result.code == DAMAGED
    assert "warning: level 2, clip 0 is damaged" in result.err
    assert len(json.loads(result.out)["damage"]) == 1
    assert names(tmp_path) == ["a.mp4", "bad.mpt"]


def test_levels_that_are_cut_off_exit_with_3(cli: Cli, made: Path, tmp_path: Path) -> None:
    size = probe(made / "in.mpt").header.prefix_bytes(1)
    (tmp_path / "cut.mpt").write_bytes((made / "in.mpt").read_bytes()[:size])
    result = cli("decode", "cut.mpt", "a.mp4", "--levels", "2")
    assert result.code == DAMAGED
    assert is_one_error(result)
    assert names(tmp_path) == ["cut.mpt"]


@pytest.mark.parametrize(
    ("levels", "share", "options", "note"),
    [
        (3, 0, [], "levels 0-2"),
        (3, 0, ["--levels", "2"], "levels 0-1 (the file has levels 0-2)"),
        (2, 0, [], "levels 0-1 (the file is a prefix: 2 of 3 levels)"),
        (2, 0, ["--levels", "1"], "level 0 (the file has levels 0-1)"),
        (1, 0.6, [], "level 0 (the file is a prefix: 1 of 3 levels, 60 % of level 1)"),
        (1, 0.6, ["--allow-partial"], "levels 0-1 (the file is a prefix: 1 of 3 levels, 60 % of level 1)"),
    ],
)
def test_decoding_says_what_the_file_has_beside_what_was_decoded(
    cli: Cli, made: Path, tmp_path: Path, levels: int, share: float, options: list[str], note: str
) -> None:
    data = (made / "long.mpt").read_bytes()
    header = probe(data).header
    start, end = (header.prefix_bytes(min(count, 3)) for count in (levels, levels + 1))
    (tmp_path / "cut.mpt").write_bytes(data[: start + ceil(share * (end - start))])
    result = cli("decode", "cut.mpt", "a.npy", "--duration", "0.4", *options)
    assert result.code == 0
    assert result.err == f"a.npy: 10 frames 16x16, {note}\n"


def test_unknown_codec_exits_with_1_and_leaves_nothing(cli: Cli, made: Path, tmp_path: Path) -> None:
    result = cli("decode", made / "in.mpt", "a.mp4", "--codec", "nonsense")
    assert result.code == FAILED
    assert is_one_error(result)
    assert names(tmp_path) == []


def test_partial_level_is_decoded_on_request(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "long.mpt").read_bytes()
    header = probe(data).header
    (tmp_path / "cut.mpt").write_bytes(data[: header.offset(1, 1)])
    outputs = []
    for name, options in (("a.npy", []), ("b.npy", ["--allow-partial"])):
        assert cli("decode", "cut.mpt", name, *options).code == 0
        outputs.append(np.load(name))
    assert not np.array_equal(outputs[0][:32], outputs[1][:32])
    assert np.array_equal(outputs[0][32:], outputs[1][32:])


def test_frames_replace_frames_and_nothing_else(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    assert cli("decode", made / "in.mpt", "frames", "-q").code == 0
    assert len(names(tmp_path / "frames")) == 11
    assert cli("decode", made / "in.mpt", "frames", "-q").code == FAILED
    assert cli("decode", made / "in.mpt", "frames", "-f", "--duration", "0.2", "-q").code == 0
    assert len(names(tmp_path / "frames")) == 5
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    result = cli("decode", made / "in.mpt", "frames", "-f")
    assert result.code == FAILED
    assert "holds notes.txt, which would be lost" in result.err
    assert len(names(tmp_path / "frames")) == 6
