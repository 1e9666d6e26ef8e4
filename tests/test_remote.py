"""Files behind addresses: few requests, one connection, and a server that misbehaves."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from conftest import build_small_config, build_small_model
from hub_server import HubServer, single_commit
from range_server import RangeServer
from safetensors.numpy import load_file

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.patches import PatchCoder
from mptvc.format.remote import RemoteFile

#: What is fetched at the start.
FIRST = 2**14


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def noise(tmp_path: Path) -> bytes:
    """A megabyte that no part of which comes twice, as ``noise``."""
    data = np.random.default_rng(2).bytes(2**20)
    (tmp_path / "noise").write_bytes(data)
    return data


# Requests


def test_many_small_reads_in_a_row_take_few_requests(server: RangeServer, noise: bytes) -> None:
    with RemoteFile(f"{server.url}/noise") as file:
        parts = [file.read(200) for _ in range(3000)]
    assert crc32(b"".join(parts)) == crc32(noise[: 3000 * 200])
    assert len(server.requests) <= 12
    assert server.connections == 1


def test_reading_at_several_places_in_turn_takes_few_requests(server: RangeServer, noise: bytes) -> None:
    """As decoding does: a section of each level for each clip."""
    starts = [k * 2**17 for k in range(8)]
    with RemoteFile(f"{server.url}/noise") as file:
        for step in range(400):
            for start in starts:
                file.seek(start + 150 * step)
                assert file.read(150) == noise[start + 150 * step : start + 150 * (step + 1)]
    assert len(server.requests) <= 8 * 14


def test_reads_here_and_there_fetch_what_they_read(server: RangeServer, noise: bytes) -> None:
    rng = np.random.default_rng(5)
    with RemoteFile(f"{server.url}/noise") as file:
        for start in rng.integers(FIRST, 2**20 - 3000, 60).tolist():
            file.seek(start)
            assert file.read(2999) == noise[start : start + 2999]
    assert server.sent_bytes <= FIRST + 60 * 2999


def test_never_more_than_as_many_bytes_again_are_fetched_ahead(server: RangeServer, noise: bytes) -> None:
    with RemoteFile(f"{server.url}/noise") as file:
        for count in range(1, 2500):
            file.read(211)
            assert server.sent_bytes <= max(FIRST, 2 * 211 * count)
        assert file.fetched_bytes == server.sent_bytes


def test_a_part_that_was_skipped_is_not_mistaken_for_the_next(server: RangeServer, noise: bytes) -> None:
    """Forwards and backwards within what was fetched ahead, and beyond its end."""
    rng, at = np.random.default_rng(8), FIRST
    with RemoteFile(f"{server.url}/noise") as file:
        for step in rng.integers(-3000, 6000, 300).tolist():
            file.seek(at)
            assert file.read(1000) == noise[at : at + 1000]
            at += 1000 if step % 3 else max(step, FIRST - at)


# One connection


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Codec]:
    """A file of three levels in 100 clips, and its codec."""
    config = replace(build_small_config(), clip_frames=4)
    codec = Codec(PatchCoder(build_small_model(config), entropy_id=b"e" * 32, weights_id=b"w" * 32))
    path = tmp_path_factory.mktemp("many") / "a.mpt"
    frames = np.random.default_rng(1).integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)
    path.write_bytes(codec.compress(frames))
    return path, codec


def decoded(source: str | Path, codec: Codec, folder: Path) -> int:
    mptvc.decode_file(source, folder / "out.npy", codec=codec, force=True)
    return crc32((folder / "out.npy").read_bytes())


def truncated(source: str | Path, codec: Codec, folder: Path) -> int:
    mptvc.truncate(source, folder / "out.mpt", levels=2, force=True)
    return crc32((folder / "out.mpt").read_bytes())


def exported(source: str | Path, codec: Codec, folder: Path) -> dict[str, int]:
    mptvc.export_tokens(source, folder / "out.safetensors", codec=codec, force=True)
    return {name: crc32(array) for name, array in load_file(folder / "out.safetensors").items()}


def played(source: str | Path, codec: Codec, folder: Path) -> int:
    with mptvc.VideoReader(source, codec=codec) as reader:
        return crc32(reader[:40])


@pytest.mark.parametrize(
    "use",
    [
        lambda source, codec, folder: mptvc.probe(source),
        lambda source, codec, folder: mptvc.verify(source),
        lambda source, codec, folder: mptvc.symbol_digests(source, codec=codec),
        decoded,
        truncated,
        exported,
        played,
    ],
    ids=["probe", "verify", "symbol_digests", "decode_file", "truncate", "export_tokens", "VideoReader"],
)
def test_an_address_serves_as_a_file_does_through_one_connection(
    use: Callable[[str | Path, Codec, Path], object], many: tuple[Path, Codec], tmp_path: Path
) -> None:
    path, codec = many
    with RangeServer.running(path.parent) as server:
        assert use(f"{server.url}/a.mpt", codec, tmp_path) == use(path, codec, tmp_path)
        assert server.connections == 1
        assert len(server.requests) <= 30  # of 300 sections


def test_an_address_as_long_as_no_path_is_no_path(many: tuple[Path, Codec], tmp_path: Path) -> None:
    path, codec = many
    with RangeServer.running(path.parent) as server:
        signed = f"{server.url}/a.mpt?signature={'0' * 400}"
        report = mptvc.decode_file(signed, tmp_path / "out.npy", codec=codec, levels=1, duration=0.1)
        assert report.video.num_frames == 3
        assert server.requests[0] == ("GET", f"/a.mpt?signature={'0' * 400}")


def test_a_server_that_has_hung_up_is_called_again(server: RangeServer, noise: bytes) -> None:
    server.hangs_up = True
    with RemoteFile(f"{server.url}/noise") as file:
        start = time.monotonic()
        for place in (50_000, 20_000, 90_000):
            file.seek(place)
            assert file.read(100) == noise[place : place + 100]
        assert time.monotonic() - start < 0.4  # the pause after a failure
    assert server.connections == len(server.requests) == 4


def test_threads_share_a_file(server: RangeServer, noise: bytes) -> None:
    found: list[bytes] = []

    def take(file: RemoteFile) -> None:
        while part := file.read(4096):
            found.append(part)

    with RemoteFile(f"{server.url}/noise") as file:
        threads = [threading.Thread(target=take, args=(file,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(noise[i : i + 4096] for i in range(0, 2**20, 4096))
    assert server.connections == 1


def test_a_closed_file_is_not_read(server: RangeServer, noise: bytes) -> None:
    file = RemoteFile(f"{server.url}/noise")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_server_that_sends_more_than_was_asked_for_and_breaks_off(noise: bytes) -> None:
    """The small Hub sends all to the end, and closes after every answer."""
    repository = single_commit({"noise": noise[:30_000]})
    repository.faults["noise"] = ["cut", "reset"]
    with HubServer({"team/video": repository}) as hub:
        file = RemoteFile(f"{hub.endpoint}/team/video/resolve/main/noise")
        file.seek(20_000)
        assert file.read(5000) == noise[20_000:25_000]
    assert [request.range for request in hub.requests] == [f"bytes=0-{FIRST - 1}"] * 3 + ["bytes=20000-24999"]


# Redirects


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RangeServer]:
    with RangeServer.running(tmp_path) as running:
        yield running


def test_a_redirect_to_another_host_is_followed_once(
    server: RangeServer, other: RangeServer, noise: bytes
) -> None:
    server.leads["/here"] = f"{other.url}/noise"
    with RemoteFile(f"{server.url}/here") as file:
        assert crc32(file.read()) == crc32(noise)
    assert (len(server.requests), server.sent_bytes) == (1, 0)
    assert other.connections == 1


def test_a_redirect_within_a_host_may_be_relative(server: RangeServer, noise: bytes) -> None:
    server.leads["/below/here"] = "../noise"
    assert RemoteFile(f"{server.url}/below/here").read(100) == noise[:100]


def test_an_address_that_has_expired_is_asked_for_again(
    server: RangeServer, other: RangeServer, noise: bytes
) -> None:
    server.leads["/here"] = f"{other.url}/noise"
    with RemoteFile(f"{server.url}/here") as file:
        other.fail_next, other.fail_with = 1, 403
        assert crc32(file.read()) == crc32(noise)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("/here", "more than 10 redirects"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("http://", "http://"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused(server: RangeServer, to: str, message: str) -> None:
    server.leads["/here"] = to
    with pytest.raises(mptvc.MptError, match=message) as caught:
        RemoteFile(f"{server.url}/here")
    assert caught.value.file == f"{server.url}/here"


# Proxies


def test_the_proxy_of_the_environment_is_used(
    server: RangeServer, noise: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("://", "://me:se%20cret@"))
    with RemoteFile("http://far.invalid/noise?a=b") as file:
        assert crc32(file.read()) == crc32(noise)
    assert server.requests[-1] == ("GET", "http://far.invalid/noise?a=b")
    assert server.headers["Host"] == "far.invalid"
    assert server.headers["Proxy-Authorization"] == "Basic bWU6c2UgY3JldA=="
    assert server.connections == 1


def test_hosts_without_proxy_are_asked_directly(
    server: RangeServer, other: RangeServer, noise: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert RemoteFile(f"{server.url}/noise").read(100) == noise[:100]
    assert other.requests == []


def test_a_proxy_is_asked_for_a_tunnel_to_a_secure_host(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(mptvc.MptError, match=r"^https://far\.invalid/a: .*403"):
        RemoteFile("https://far.invalid/a")
    assert set(server.requests) == {("CONNECT", "far.invalid:443")}


# Messages


def test_nothing_at_a_path_is_an_error_at_once(server: RangeServer) -> None:
    with pytest.raises(mptvc.MptError, match=r"^http://127\.0\.0\.1:\d+/absent: 404 Not Found$"):
        mptvc.probe(f"{server.url}/absent")
    assert len(server.requests) == 1


def test_no_mpt_file_at_an_address_is_named_once(server: RangeServer, noise: bytes, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for name in ("noise", "empty"):
        with pytest.raises(mptvc.NotMptError) as caught:
            mptvc.verify(f"{server.url}/{name}")
        assert str(caught.value).count(server.url) == 1
        assert caught.value.file == f"{server.url}/{name}"


@pytest.mark.parametrize("url", ["http://", "http:///a.mpt", "http://[::1/a.mpt"])
def test_an_address_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(mptvc.MptError, match="instead of an http:// or https:// address"):
        mptvc.probe(url)
