"""A file that is no video is called what it is."""

import struct
from pathlib import Path

import av
import pytest
from patterns import make_source

from mptvc.errors import VideoError
from mptvc.video.source import VideoSource


def refusal(path: Path) -> str:
    with pytest.raises(VideoError) as error:
        VideoSource(path)
    return str(error.value)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    assert refusal(tmp_path / "a.mp4").endswith("a.mp4: cannot be read as video: the file is empty")


@pytest.mark.parametrize("text", ["<html>404</html>", "ü " * 5000])
def test_text_is_called_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mp4").write_text(text)
    assert "it is text" in refusal(tmp_path / "a.mp4")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_an_mp4_without_its_index_is_called_cut(tmp_path: Path, share: float) -> None:
    data = make_source(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: int(share * data.index(b"moov"))])
    assert "its index (moov) is missing" in refusal(tmp_path / "a.mp4")


def test_encrypted_pictures_are_called_encrypted(tmp_path: Path) -> None:
    path = make_source(tmp_path / "a.mp4", ())
    data = path.read_bytes()
    assert data.count(b"avc1") >= 1
    at = data.rindex(b"avc1")
    path.write_bytes(data[:at] + b"encv" + data[at + 4 :])
    assert "its pictures are encrypted" in refusal(path)


def test_animated_webp_is_called_so(tmp_path: Path) -> None:
    with av.open(tmp_path / "still.webp", "w") as out:
        stream = out.add_stream("libwebp", rate=1, width=16, height=16, pix_fmt="yuv420p")
        out.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        out.mux(stream.encode(None))
    assert VideoSource(tmp_path / "still.webp").info.width == 16
    chunks = (
        b"VP8X" + struct.pack("<I", 10) + bytes([2]) + bytes(9) + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    )
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    assert "it is an animated WebP" in refusal(tmp_path / "a.webp")
