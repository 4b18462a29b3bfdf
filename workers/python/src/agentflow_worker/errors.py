"""Errors on the wire, both ways."""

import traceback
from typing import Any

from agentflow_worker.frames import FrameTooLarge

_TRACEBACK_CHARS = 64 * 1024
_MESSAGE_CHARS = 64 * 1024

FATAL = frozenset({"conflict", "busy", "uncertain"})
"""Kinds after which the request cannot go on; user code does not get to swallow them."""


class ServerError(Exception):
    """What the server answered to a call."""

    def __init__(self, kind: str, message: str, class_name: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.class_name = class_name

    @classmethod
    def read(cls, error: Any) -> "ServerError":
        """From the error of an answer."""
        if not isinstance(error, dict):
            return cls("bug", f"an error that is no map: {error!r}")
        return cls(
            str(error.get("kind") or "bug"),
            str(error.get("message") or ""),
            error.get("class"),
        )


class Refused(Exception):
    """A request that this worker cannot do; `kind` says what is wrong with it."""

    def __init__(self, kind: str, message: str, class_name: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.class_name = class_name


class ConnectionLost(ConnectionError):
    """The server is gone."""


def to_wire(err: BaseException, kind: str = "failed") -> dict[str, Any]:
    """An exception as the error of an answer, with its traceback if user code may be to blame."""
    if isinstance(err, ServerError | Refused):
        return error(err.kind, str(err), err.class_name)
    if isinstance(err, FrameTooLarge):
        return error("invalid", str(err), "ValueError")
    told = error(kind, message_of(err), type(err).__name__)
    told["traceback"] = clean("".join(traceback.format_exception(err)))[-_TRACEBACK_CHARS:]
    return told


def message_of(err: BaseException) -> str:
    """`str(err)`, whatever that does."""
    try:
        return str(err)
    except Exception as worse:
        return f"<{type(worse).__name__} while reading the message>"


def error(kind: str, message: str, class_name: str | None = None) -> dict[str, Any]:
    """The map that stands for an error."""
    told: dict[str, Any] = {"kind": kind, "message": clean(message)[:_MESSAGE_CHARS]}
    if class_name:
        told["class"] = class_name
    return told


def clean(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
