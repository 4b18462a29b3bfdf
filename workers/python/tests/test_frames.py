"""Frames alone."""

import pytest

from agentflow_worker.frames import BadFrame, FrameTooLarge, Splitter, pack, unpack


def test_the_bytes_of_the_document() -> None:
    frame = pack([2, "cancel", {"for": 17}])
    assert frame.hex(" ") == "00 00 00 0f 93 02 a6 63 61 6e 63 65 6c 81 a3 66 6f 72 11"


def test_frames_come_in_any_pieces() -> None:
    messages = [[2, "a", {"n": number, "text": "x" * number}] for number in range(300)]
    data = b"".join(pack(message) for message in messages)
    for size in (1, 3, 1000, len(data)):
        splitter = Splitter()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [unpack(body) for piece in pieces for body in splitter.feed(piece)] == messages


def test_limits() -> None:
    message = [0, 1, "m", {"small": b"x", "deep": [{"big": b"y" * 200}]}]
    with pytest.raises(FrameTooLarge, match=r"limit of 100; the largest value is deep\[0\].big"):
        pack(message, 100)
    splitter = Splitter()
    splitter.limit = 100
    with pytest.raises(BadFrame):
        list(splitter.feed(b"\x00\x00\x00\xff"))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x90", b"\x01", b"\x92\x01"])
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(BadFrame):
        unpack(body)
