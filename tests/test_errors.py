"""Errors say what they know, also after a journey between processes."""

import pickle

import pytest

from mptvc.errors import (
    CorruptPacketError,
    FormatError,
    LimitExceededError,
    MptError,
    NotMptError,
    SizeChangeError,
    UnsupportedVersionError,
    VideoError,
    WeightsError,
)

ERRORS = [
    MptError("plain"),
    MptError("about a.mpt", file="a.mpt"),
    FormatError("damaged", offset=3),
    NotMptError("no mpt"),
    UnsupportedVersionError(9, (1, 2)),
    CorruptPacketError("checksum", level=1, clip=2, offset=4),
    LimitExceededError("too large"),
    WeightsError("others", expected="a", found="b"),
    VideoError("no video"),
    SizeChangeError("another size", at=0.5),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("named", [False, True])
def test_an_error_travels_between_processes(error: MptError, named: bool) -> None:
    sent = pickle.loads(pickle.dumps(error))
    if named:
        sent.name_file("b.mpt")
    back = pickle.loads(pickle.dumps(sent))
    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(sent), vars(sent))


def test_a_file_is_named_once() -> None:
    error = FormatError("damaged", offset=3)
    error.name_file("in")
    error.name_file("out")
    assert (str(error), error.file) == ("in: damaged (byte 3)", "in")


def test_an_error_about_a_file_is_not_blamed_on_another() -> None:
    error = MptError("cannot write out.mpt", file="out.mpt")
    error.name_file("in.mpt")
    assert (str(error), error.file) == ("cannot write out.mpt", "out.mpt")
