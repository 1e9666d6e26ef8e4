"""Weights from the Hub: the real client against a small Hub on this machine.

The client reads its environment once, so it runs in processes with an environment of their own.
"""

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import torch
from hub_server import HubServer, Repository, Request, single_commit

from mptvc.codec.stored import CONFIG_FILE, TENSORS_FILE, write_weights
from mptvc.model.model import Model

OLD, NEW = "a" * 40, "b" * 40
TOKEN = "hf_reader"
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

LOAD = """
import hashlib, json, os, sys, time
import numpy as np
import mptvc, mptvc.codec.weights

time.sleep = lambda seconds: None  # the client's pauses between its attempts
frames = np.random.default_rng(1).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
for line in sys.stdin:
    name, token = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        codec = mptvc.load(name, device="cpu")
        outcome = {
            "id": codec.coder.weights_id.hex(),
            "coded": hashlib.sha256(codec.compress(frames)).hexdigest(),
        }
    except Exception as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(outcome), flush=True)
"""

Outcome = dict[str, str]
Outcomes = dict[str, Outcome]


class Loader:
    """A process that loads weights by name, with the Hub at ``endpoint``; between ``with`` and its end."""

    def __init__(self, endpoint: str, cache: Path, **environment: str) -> None:
        foreign = ("HF_", "HUGGING", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(foreign)}
        own = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOAD],
            env={**kept, **own, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes, which ends it, and waits
            pass

    def load(self, name: str, token: str | None = None) -> Outcome:
        """Identity and digest of coded frames, or error and message."""
        print(json.dumps([name, token]), file=self._process.stdin, flush=True)
        outcome: Outcome = json.loads(self._process.stdout.readline())
        return outcome


@dataclass(frozen=True)
class Runs:
    """Outcomes of all loads by name.

    Attributes:
        folder: Local folder with the weights of team/weights.
        online: With the Hub, no token.
        trusted: With the Hub and the token.
        down: Afterwards, without a Hub.
        offline: Like ``down``, in another process with HF_HUB_OFFLINE.
        requests: All that the Hub was asked for.
    """

    folder: str
    online: Outcomes
    trusted: Outcomes
    down: Outcomes
    offline: Outcomes
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
    names = [
        str(folder / "new"),
        "hf://team/weights@main",
        "hf://team/weights@v1",
        f"hf://team/weights@{OLD}",
        "hf://team/weights@v9",
        "hf://team/absent",
        *(f"hf://{name}" for name in (*public, *closed)),
        *MALFORMED,
    ]
    again = ["hf://team/weights", "hf://team/weights@v1", f"hf://team/weights@{OLD}", "hf://team/unseen"]
    cache = folder / "cache"
    hub = HubServer({**public, **closed})
    with (
        Loader(hub.endpoint, cache) as online,
        Loader(hub.endpoint, cache, HF_HUB_OFFLINE="1") as offline,
    ):
        with hub:
            with_hub = {name: online.load(name) for name in names}
            with_token = {f"hf://{name}": online.load(f"hf://{name}", TOKEN) for name in closed}
        without_hub = {name: online.load(name) for name in again}
        forbidden = {name: offline.load(name) for name in again}
    return Runs(names[0], with_hub, with_token, without_hub, forbidden, hub.requests)


def refusal(outcome: Outcome) -> str:
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


def test_an_interrupted_download_is_taken_up_again(runs: Runs) -> None:
    assert runs.online["hf://team/flaky"] == runs.online[runs.folder]
    methods = [r.method for r in runs.requests_for("team/flaky") if r.file == TENSORS_FILE]
    assert methods == ["HEAD", "GET", "GET"]


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
