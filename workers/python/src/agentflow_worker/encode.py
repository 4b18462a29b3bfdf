"""Values of user code as JSON.

What clients get: messages and pydantic models as the object of their fields, dates in ISO 8601,
bytes in base64. Making JSON never fails: what JSON has no word for becomes something near it.
"""

import base64
import dataclasses
import decimal
import math
import os
import re
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any
from uuid import UUID

import orjson
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretBytes, SecretStr

from agentflow_worker.errors import clean, message_of

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MAX_DEPTH = 200
_ADDRESSES = (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)


def dumps(value: Any) -> bytes:
    """JSON text of anything."""
    try:
        return orjson.dumps(value, default=_shape, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        # A number of more than 64 bits, a lone surrogate, a cycle, a key that is a tuple.
        return orjson.dumps(_plain(value, _MAX_DEPTH))


def loads(text: bytes | str | None) -> Any:
    """The value of JSON text; `None` for none."""
    return None if text is None else orjson.loads(text)


def _shape(value: Any) -> Any:
    """The next simpler form of a value that JSON does not know."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, SecretStr | SecretBytes):
        return None
    if isinstance(value, set | frozenset | deque):
        return list(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": clean(message_of(value))}
    if isinstance(value, Send):
        return {"node": value.node, "arg": value.arg}
    if isinstance(value, Interrupt):
        return interrupt(value)
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, _ADDRESSES):
        return str(value)
    return _by_methods(value)


def _by_methods(value: Any) -> Any:
    """What a value says about itself, else its text."""
    if isinstance(value, type) or callable(value):
        return str(value)
    for method in ("model_dump", "_asdict", "dict"):
        if callable(made := getattr(value, method, None)):
            return made()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | range):
        return list(value)
    return str(value)


def interrupt(asked: Interrupt) -> dict[str, Any]:
    """An interrupt as clients see it."""
    return {
        "value": asked.value,
        "id": asked.id,
        "response_schema": getattr(asked, "response_schema", None),
    }


def _plain(value: Any, depth: int) -> Any:
    """A copy that JSON can carry whatever happens; below `depth` levels, text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, depth - 1)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return clean(value)
    if depth <= 0:
        return _safe_text(value)
    try:
        return _container(value, depth - 1)
    except Exception:
        return _safe_text(value)


def _container(value: Any, depth: int) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth) for key, item in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [_plain(item, depth) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Command | Interrupt):
        fields: Iterable[dataclasses.Field[Any]] = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name), depth) for field in fields}
    return _plain(_shape(value), depth)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return clean(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return clean(_safe_text(key))


def _safe_text(value: Any) -> str:
    try:
        return clean(str(value))
    except Exception:
        return f"<{type(value).__name__}>"
