"""The commands on files that need no video: truncate, info, verify, tokens."""

import json
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from command_line import DAMAGED, FAILED, USAGE, Cli, is_one_error, names, spoil

from mptvc.cli.truncate import _parse_size
from mptvc.format.inspect import probe


def test_chain_from_video_to_quality(cli: Cli, made: Path, tmp_path: Path) -> None:
    coded = cli("encode", made / "in.mkv", "a.mpt", "--weights", "tokenizer", "--json", "-q")
    assert (coded.code, coded.err) == (0, "")
    sizes = json.loads(coded.out)["prefix_bytes"]
    assert (tmp_path / "a.mpt").read_bytes() == (made / "in.mpt").read_bytes()

    (shown,) = json.loads(cli("info", "a.mpt", "--json").out)
    assert (shown["width"], shown["height"], shown["frames"]) == (64, 48, 11)
    assert [level["prefix_bytes"] for level in shown["levels"]] == sizes

    for levels in (1, 2, 3):
        cut = f"{levels}.mpt"
        assert json.loads(cli("truncate", "a.mpt", cut, "--levels", levels, "--json").out)["levels"] == levels
        assert (tmp_path / cut).read_bytes() == (tmp_path / "a.mpt").read_bytes()[: sizes[levels - 1]]
        result = cli("decode", cut, f"{levels}.npy", "--json", "-q")
        assert json.loads(result.out) == {
            "output": f"{levels}.npy",
            "levels": levels,
            "frames": 11,
            "damage": [],
        }
        assert cli("decode", "a.mpt", f"full{levels}.npy", "--levels", levels).code == 0
        frames = np.load(tmp_path / f"{levels}.npy")
        assert frames.shape == (11, 48, 64, 3)
        assert np.array_equal(frames, np.load(tmp_path / f"full{levels}.npy"))

    (compared,) = json.loads(cli("compare", made / "in.mkv", "a.mpt", "--json").out)
    assert [level["size_bytes"] for level in compared["files"]["a.mpt"]] == sizes

    checked = json.loads(cli("verify", "a.mpt", "2.mpt", "--deep", "--json").out)
    assert [(file["ok"], file["complete_levels"]) for file in checked] == [(True, 3), (True, 2)]
    assert checked[0]["sha256"][:2] == checked[1]["sha256"]


def test_truncation_keeps_to_a_size_or_rate(cli: Cli, made: Path) -> None:
    header = probe(made / "in.mpt").header
    for option, limit in (
        ("--max-bytes", header.prefix_bytes(2)),
        ("--max-bitrate", f"{8 * header.prefix_bytes(2) / 0.44 / 1000 + 0.01:.2f}k"),
    ):
        result = cli("truncate", made / "in.mpt", "a.mpt", option, limit, "--json", "-f")
        assert json.loads(result.out)["levels"] == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("700", 700),
        ("1.5k", 1500),
        ("2K", 2000),
        ("2kB", 2000),
        ("3M", 3e6),
        ("1G", 1e9),
        ("2KiB", 2048),
        ("2Mi", 2 * 2**20),
        ("1 GiB", 2**30),
    ],
)
def test_units_are_of_1000_and_with_an_i_of_1024(text: str, size: float) -> None:
    assert _parse_size(text) == size


def test_info_says_how_far_a_cut_file_goes(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "in.mpt").read_bytes()
    header = probe(data).header
    start, end = header.prefix_bytes(2), header.prefix_bytes(3)
    (tmp_path / "cut.mpt").write_bytes(data[: start + ceil(0.37 * (end - start))])
    text = cli("info", "cut.mpt")
    assert "a prefix: 2 of 3 levels, 37 % of level 2" in " ".join((text.out + text.err).split())
    facts = json.loads(cli("info", "cut.mpt", "--json").out)
    facts = facts[0] if isinstance(facts, list) else facts
    assert facts["complete_levels"] == 2
    assert facts["next_level_share"] == pytest.approx(0.37, abs=0.01)


def test_a_file_that_lacks_a_byte_is_never_100_per_cent(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.mpt").write_bytes((made / "in.mpt").read_bytes()[:-1])
    assert "2 of 3 levels, 99 % of level 2" in cli("info", "cut.mpt").out
    assert "2 of 3 levels, 99 % of level 2" in cli("verify", "cut.mpt").out


def test_a_prefix_that_ends_with_a_level_has_no_share_of_the_next(
    cli: Cli, made: Path, tmp_path: Path
) -> None:
    cli("truncate", made / "in.mpt", "two.mpt", "--levels", 2)
    assert cli("info", "two.mpt").out.splitlines()[1].endswith("a prefix: 2 of 3 levels")
    assert cli("verify", "two.mpt").out.endswith("a prefix: 2 of 3 levels\n")


def test_info_goes_on_after_a_file_that_is_missing(cli: Cli, made: Path) -> None:
    result = cli("info", "nowhere.mpt", made / "in.mpt")
    assert result.code == FAILED
    assert "nowhere.mpt" in result.err
    assert "11 frames" in result.out


def test_one_damaged_file_of_several_is_named(cli: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mpt").write_bytes(spoil("flipped byte", (made / "in.mpt").read_bytes()))
    result = cli("verify", "bad.mpt", made / "in.mpt")
    assert result.code == DAMAGED
    assert result.err.startswith("error: bad.mpt: level 2, clip 0")
    assert result.out == f"{made / 'in.mpt'}: ok, complete\n"
    listed = json.loads(cli("verify", "bad.mpt", made / "in.mpt", "--json").out)
    assert [file["ok"] for file in listed] == [False, True]


def test_verify_tells_a_prefix_from_a_file_without_a_level(cli: Cli, made: Path, tmp_path: Path) -> None:
    data = (made / "in.mpt").read_bytes()
    header = probe(data).header
    (tmp_path / "one.mpt").write_bytes(data[: header.prefix_bytes(1) + 3])
    (tmp_path / "none.mpt").write_bytes(data[: header.prefix_bytes(1) - 3])
    one, none = cli("verify", "one.mpt"), cli("verify", "none.mpt")
    assert one.code == 0
    assert "ok, a prefix: 1 of 3 levels" in one.out
    assert none.code == DAMAGED
    assert "no level is complete" in none.err
    (state,) = json.loads(cli("verify", "one.mpt", "--json").out)
    assert (state["complete_levels"], state["levels"]) == (1, 3)


def test_quiet_check_says_whose_the_hashes_are(cli: Cli, made: Path) -> None:
    files = [made / "in.mpt", made / "long.mpt"]
    silent = cli("verify", *files, "-q")
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    each = [cli("verify", file, "-q", "--deep").out for file in files]
    assert [text.count("  level ") for text in each] == [text.count("\n") for text in each] == [3, 3]
    both = cli("verify", *files, "-q", "--deep")
    assert both.out == "".join(f"{file}:\n{text}" for file, text in zip(files, each, strict=True))


def test_tokens_out_and_back(cli: Cli, made: Path, tmp_path: Path) -> None:
    out = cli("tokens", made / "in.mpt", "a.safetensors", "--json")
    assert out.code == 0
    assert json.loads(out.out)["levels"] == [[3, 2, 2, 160], [3, 4, 4, 320], [3, 8, 8, 256]]
    assert cli("tokens", "a.safetensors", "back.mpt").code == 0
    assert cli("verify", "back.mpt", "--deep", "-q").code == 0
    digests = [json.loads(cli("verify", path, "--deep", "--json").out)[0]["sha256"]
               for path in (made / "in.mpt", "back.mpt")]  # fmt: skip
    assert digests[0] == digests[1]
    assert names(tmp_path) == ["a.safetensors", "back.mpt"]


def test_tokens_show_progress_both_ways(cli: Cli, made: Path) -> None:
    for arguments in ((made / "long.mpt", "a.safetensors"), ("a.safetensors", "back.mpt")):
        lines = cli("tokens", *arguments, "--progress", "json", "-q").err.splitlines()
        assert [json.loads(line)["done"] for line in lines] == list(range(1, 16))
        assert json.loads(lines[-1]) == {"job": "tokens", "done": 15, "total": 15}


@pytest.mark.parametrize(
    "arguments", [["a.mpt", "b.npy"], ["a.mpt", "b.mpt"], ["a.safetensors", "b.mpt", "--levels", "1"]]
)
def test_tokens_need_one_file_of_each_kind(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    result = cli("tokens", *arguments)
    assert result.code == USAGE
    assert is_one_error(result)
    assert names(tmp_path) == []
