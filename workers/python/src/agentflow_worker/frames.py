"""Frames of the worker protocol: a length, then one MessagePack array."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import ormsgpack

REQUEST, ANSWER, NOTICE = 0, 1, 2

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Largest body until the server said otherwise in its answer to `hello`."""

_LENGTH = struct.Struct(">I")


class FrameTooLarge(ValueError):
    """A body that the other side would refuse."""


class BadFrame(Exception):
    """Bytes that are no frame; the connection cannot go on."""


def pack(message: list[Any], limit: int = MAX_FRAME_BYTES) -> bytes:
    """A message as a frame.

    Raises `FrameTooLarge`, which names the value to blame, if the body is over `limit` bytes.
    """
    body = ormsgpack.packb(message)
    if len(body) > limit:
        raise FrameTooLarge(
            f"a message of {len(body)} bytes is over the limit of {limit}; {_largest(message)}"
        )
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> list[Any]:
    """The array in a body. Raises `BadFrame`."""
    try:
        message = ormsgpack.unpackb(body)
    except ValueError as err:
        raise BadFrame(f"a body is not MessagePack: {err}") from err
    if not isinstance(message, list) or not message:
        raise BadFrame("a body is not an array")
    return message


class Splitter:
    """Cuts a stream of bytes into bodies."""

    def __init__(self) -> None:
        self.limit = MAX_FRAME_BYTES
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are complete with `data`. Raises `BadFrame`."""
        self._bytes += data
        start = 0
        while len(self._bytes) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes, start)
            if length > self.limit:
                raise BadFrame(f"a frame of {length} bytes is over the limit of {self.limit}")
            end = start + _LENGTH.size + length
            if len(self._bytes) < end:
                break
            yield bytes(memoryview(self._bytes)[start + _LENGTH.size : end])
            start = end
        if start:
            del self._bytes[:start]


def _largest(message: list[Any]) -> str:
    """Says where in a message the largest piece of text or bytes is."""
    found = ("", 0)

    def look(value: Any, path: str) -> None:
        nonlocal found
        if isinstance(value, bytes | str):
            if len(value) > found[1]:
                found = (path, len(value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                look(item, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                look(item, f"{path}[{index}]")

    look(message[-1], "")
    return f"the largest value is {found[0] or 'the result'} with {found[1]} bytes"
