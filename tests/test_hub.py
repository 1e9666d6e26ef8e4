"""Weights from the Hub: the real client against a small Hub on this machine.

The client reads its environment once, so each environment has a process of its own; each process
loads a list of names and reports on all of them.
"""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer, Repository, Request, single_commit

from mptvc.model import Model
from mptvc.weights import CONFIG_FILE, TENSORS_FILE, write_weights

OLD, NEW = "a" * 40, "b" * 40
TOKEN = "hf_reader"

LOAD_ALL = """
import hashlib, json, sys
import numpy as np
import mptvc

frames = np.random.default_rng(1).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
import time
for name in json.load(sys.stdin):
    print(time.time(), name, file=open("/tmp/times.txt","a"))
    try:
        codec = mptvc.load(name, device="cpu")
        outcome = {
            "id": codec.clips.weights_id.hex(),
            "coded": hashlib.sha256(codec.compress(frames)).hexdigest(),
        }
    except Exception as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps({name: outcome}))
"""

Outcomes = dict[str, dict[str, str]]


class Child:
    """A process that loads each name with the Hub at ``endpoint``."""

    def __init__(self, names: Sequence[str], endpoint: str, cache: Path, **environment: str) -> None:
        foreign = ("HF_", "HUGGING", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(foreign)}
        own = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOAD_ALL],
            env={**kept, **own, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._names = list(names)
        self._process.stdin.write(json.dumps(self._names))
        self._process.stdin.close()
        self._process.stdin = None

    def outcomes(self) -> Outcomes:
        """What became of every name."""
        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, err
        found: Outcomes = {}
        for line in out.splitlines():
            found.update(json.loads(line))
        assert list(found) == self._names
        return found


@dataclass(frozen=True)
class Runs:
    """Outcomes of all processes.

    Attributes:
        folder: Local folder with the weights of team/weights.
        online: Nothing cached, no token.
        trusted: Nothing cached, with the token.
        offline: After ``online`` with its cache, HF_HUB_OFFLINE set, no Hub running.
        down: The same without HF_HUB_OFFLINE.
        requests: All that the Hub was asked for by ``online``.
    """

    folder: str
    online: Outcomes
    trusted: Outcomes
    offline: Outcomes
    down: Outcomes
    requests: list[Request]

    def requests_for(self, repository: str) -> list[Request]:
        return [request for request in self.requests if request.repository == repository]


def stored_files(model: Model, folder: Path) -> dict[str, bytes]:
    write_weights(model, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def runs(small_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("hub")
    other = copy.deepcopy(small_model)
    with torch.no_grad():
        other.level(0).synthesis.head.bias += 1
    new, old = stored_files(small_model, folder / "new"), stored_files(other, folder / "old")
    pickled = {CONFIG_FILE: new[CONFIG_FILE], "pytorch_model.bin": pickle.dumps({"weights": 1})}
    flaky, reset, failing = single_commit(new), single_commit(new), single_commit(new)
    flaky.faults[TENSORS_FILE] = ["cut"]
    reset.faults[TENSORS_FILE] = ["reset"] * 9
    failing.faults[CONFIG_FILE] = ["error"] * 9
    public = {
        "team/weights": Repository({OLD: old, NEW: new}, {"main": NEW, "v1": OLD}),
        "team/config-only": single_commit({CONFIG_FILE: new[CONFIG_FILE]}),
        "team/empty": single_commit({"README.md": b"soon"}),
        "team/pickled": single_commit(pickled),
        "team/damaged": single_commit({**new, TENSORS_FILE: new[TENSORS_FILE][:-9]}),
        "team/flaky": flaky,
        "team/reset": reset,
        "team/failing": failing,
    }
    closed = {
        "team/private": Repository({NEW: new}, {"main": NEW}, token=TOKEN),
        "team/gated": Repository({NEW: new}, {"main": NEW}, token=TOKEN, gated=True),
    }
    closed_names = [f"hf://{name}" for name in closed]
    names = [
        str(folder / "new"),
        "hf://team/weights",
        "hf://team/weights@main",
        "hf://team/weights@v1",
        f"hf://team/weights@{OLD}",
        "hf://team/weights@v9",
        "hf://team/absent",
        *(f"hf://{name}" for name in public if name != "team/weights"),
        *closed_names,
        *MALFORMED,
    ]
    cache = folder / "cache"
    with HubServer({**public, **closed}) as hub, HubServer(closed) as closed_hub:
        online = Child(names, hub.endpoint, cache)
        trusted = Child(closed_names, closed_hub.endpoint, folder / "trusted", HF_TOKEN=TOKEN)
        first = online.outcomes(), trusted.outcomes()
    again = ["hf://team/weights", "hf://team/weights@v1", f"hf://team/weights@{OLD}", "hf://team/unseen"]
    offline = Child(again, hub.endpoint, cache, HF_HUB_OFFLINE="1")
    down = Child(again, hub.endpoint, cache)
    return Runs(names[0], *first, offline.outcomes(), down.outcomes(), hub.requests)


MALFORMED = (
    "hf://",
    "hf://nonsense",
    "hf://team/",
    "hf:///weights",
    "hf://team/weights/more",
    "hf://team/weights@",
    "hf://team/weights@v1@v2",
    "hf://team/wei ghts",
    "hf://team/weights\nmore",
    "hf://team/..",
)


def refusal(outcome: dict[str, Any]) -> str:
    """The message of an outcome that must be a WeightsError with one short line."""
    assert outcome.get("error") == "WeightsError", outcome
    message = outcome["message"]
    assert len(message.splitlines()) == 1
    assert len(message) < 200
    return message


def test_hub_weights_code_the_same_bytes_as_the_folder_they_came_from(runs: Runs) -> None:
    assert "coded" in runs.online[runs.folder]
    assert runs.online["hf://team/weights"] == runs.online[runs.folder]


def test_only_the_two_files_of_a_weights_folder_are_requested(runs: Runs) -> None:
    assert {request.file for request in runs.requests} == {CONFIG_FILE, TENSORS_FILE}


def test_a_name_without_revision_means_main(runs: Runs) -> None:
    assert runs.online["hf://team/weights@main"] == runs.online["hf://team/weights"]


def test_a_tag_pins_other_weights_than_main(runs: Runs) -> None:
    pinned = runs.online["hf://team/weights@v1"]
    assert pinned["id"] != runs.online["hf://team/weights"]["id"]
    assert pinned["coded"] != runs.online["hf://team/weights"]["coded"]


def test_a_commit_hash_pins_the_same_weights_as_its_tag(runs: Runs) -> None:
    assert runs.online[f"hf://team/weights@{OLD}"] == runs.online["hf://team/weights@v1"]


def test_an_interrupted_download_goes_on_where_it_stopped(runs: Runs) -> None:
    assert runs.online["hf://team/flaky"] == runs.online[runs.folder]
    downloads = [
        request
        for request in runs.requests_for("team/flaky")
        if (request.method, request.file) == ("GET", TENSORS_FILE)
    ]
    assert [request.range is None for request in downloads] == [True, False]


@pytest.mark.parametrize("name", ["hf://team/weights", "hf://team/weights@v1", f"hf://team/weights@{OLD}"])
def test_downloaded_weights_load_without_the_hub(runs: Runs, name: str) -> None:
    assert runs.offline[name] == runs.online[name]
    assert runs.down[name] == runs.online[name]


@pytest.mark.parametrize("mode", ["offline", "down"])
def test_weights_never_downloaded_are_refused_without_the_hub(runs: Runs, mode: str) -> None:
    message = refusal(getattr(runs, mode)["hf://team/unseen"])
    assert "hf://team/unseen" in message
    assert "cannot be reached" in message


def test_a_failing_hub_counts_as_out_of_reach(runs: Runs) -> None:
    message = refusal(runs.online["hf://team/failing"])
    assert "hf://team/failing" in message
    assert "cannot be reached" in message


def test_a_connection_reset_in_mid_download_is_refused_with_the_name(runs: Runs) -> None:
    assert "cannot get hf://team/reset from the Hub" in refusal(runs.online["hf://team/reset"])


def test_a_missing_repository_is_named(runs: Runs) -> None:
    message = refusal(runs.online["hf://team/absent"])
    assert "hf://team/absent" in message
    assert "no such repository" in message


def test_a_missing_revision_is_named(runs: Runs) -> None:
    message = refusal(runs.online["hf://team/weights@v9"])
    assert "hf://team/weights@v9" in message
    assert "no such revision" in message


@pytest.mark.parametrize(
    ("name", "file"), [("hf://team/empty", CONFIG_FILE), ("hf://team/config-only", TENSORS_FILE)]
)
def test_a_missing_file_is_named(runs: Runs, name: str, file: str) -> None:
    assert f"{name} has no {file}" in refusal(runs.online[name])


def test_a_repository_of_pickles_is_refused_and_no_pickle_downloaded(runs: Runs) -> None:
    assert f"hf://team/pickled has no {TENSORS_FILE}" in refusal(runs.online["hf://team/pickled"])
    assert {request.file for request in runs.requests_for("team/pickled")} == {CONFIG_FILE, TENSORS_FILE}


def test_damaged_weights_on_the_hub_are_refused(runs: Runs) -> None:
    outcome = runs.online["hf://team/damaged"]
    assert outcome["error"] == "WeightsError"
    assert TENSORS_FILE in outcome["message"]


@pytest.mark.parametrize("name", ["hf://team/private", "hf://team/gated"])
def test_a_closed_repository_opens_with_its_token_only(runs: Runs, name: str) -> None:
    message = refusal(runs.online[name])
    assert name in message
    assert "HF_TOKEN" in message
    assert runs.trusted[name]["id"] == runs.online[runs.folder]["id"]


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_name_is_refused(runs: Runs, name: str) -> None:
    refusal(runs.online[name])


def test_no_malformed_name_reaches_the_hub(runs: Runs) -> None:
    known = {name.removeprefix("hf://").partition("@")[0] for name in runs.online if name not in MALFORMED}
    assert {request.repository for request in runs.requests} <= known
    assert "v1@v2" not in {request.revision for request in runs.requests}
