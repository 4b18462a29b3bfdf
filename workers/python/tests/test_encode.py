"""JSON of whatever user code has, as LangGraph's server was seen to write it."""

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretStr

from agentflow_worker import encode

UTC = datetime.UTC


class Model(BaseModel):
    a: int = 1
    when: datetime.datetime = datetime.datetime(2026, 1, 2, tzinfo=UTC)
    secret: SecretStr = SecretStr("s")


@dataclasses.dataclass
class Data:
    a: int
    b: Any


class Color(enum.Enum):
    RED = "red"


class Pair(collections.namedtuple("Pair", "p q")):
    pass


class OldModel:
    def dict(self) -> dict[str, int]:
        return {"d": 1}


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


SHOWN_MODEL = {"a": 1, "when": "2026-01-02T00:00:00+00:00", "secret": None}

CASES: list[tuple[Any, Any]] = [
    (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(1, 2, 3), "01:02:03"),
    (datetime.timedelta(seconds=5.5), 5.5),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ({1}, [1]),
    (frozenset([2]), [2]),
    (collections.deque([1]), [1]),
    ((1, (2,)), [1, [2]]),
    (range(3), [0, 1, 2]),
    (b"abc", "YWJj"),
    (b"\xff\xfe", "//4="),
    (bytearray(b"q"), "cQ=="),
    (decimal.Decimal("1.5"), 1.5),
    (decimal.Decimal("NaN"), None),
    (pathlib.PurePosixPath("/a"), "/a"),
    (Color.RED, "red"),
    (Model(), SHOWN_MODEL),
    (Data(1, Model()), {"a": 1, "b": SHOWN_MODEL}),
    (Pair(1, 2), {"p": 1, "q": 2}),
    (float("nan"), None),
    (float("inf"), None),
    (2**70, str(2**70)),
    (-(2**63), -(2**63)),
    ({1: "a", None: 2, 1.5: 4, uuid.UUID(int=1): 5},
     {"1": "a", "null": 2, "1.5": 4, "00000000-0000-0000-0000-000000000001": 5}),
    ({(1, 2): 3, True: datetime.date(2026, 1, 2)}, {"(1, 2)": 3, "true": "2026-01-02"}),
    (re.compile("a"), "a"),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (SecretStr("hidden"), None),
    ("a\ud800b", "a?b"),
    ("a\x00b", "a\x00b"),
    (["a\ud800b", Model(), Color.RED], ["a?b", SHOWN_MODEL, "red"]),
    (ValueError("boom"), {"error": "ValueError", "message": "boom"}),
    (Send("n", {"q": 1}), {"node": "n", "arg": {"q": 1}}),
    (Command(goto="a", update={"x": 1}),
     {"graph": None, "update": {"x": 1}, "resume": None, "goto": "a"}),
    (Interrupt("q", id="i"), {"value": "q", "id": "i", "response_schema": None}),
    (OldModel(), {"d": 1}),
    (Document(page_content="x", metadata={"y": 1}),
     {"id": None, "metadata": {"y": 1}, "page_content": "x", "type": "Document"}),
    (HumanMessage("hi", id="m1"),
     {"content": "hi", "additional_kwargs": {}, "response_metadata": {}, "type": "human",
      "name": None, "id": "m1"}),
    (AIMessage("yo", id="a1", tool_calls=[{"name": "t", "args": {"a": 1}, "id": "c1"}]),
     {"content": "yo", "additional_kwargs": {}, "response_metadata": {}, "type": "ai",
      "name": None, "id": "a1", "invalid_tool_calls": [], "usage_metadata": None,
      "tool_calls": [{"name": "t", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]}),
    (AIMessageChunk("c", id="k1"),
     {"content": "c", "additional_kwargs": {}, "response_metadata": {}, "type": "AIMessageChunk",
      "name": None, "id": "k1", "tool_calls": [], "invalid_tool_calls": [],
      "usage_metadata": None, "tool_call_chunks": [], "chunk_position": None}),
    (ToolMessage("res", tool_call_id="c1", id="t1", artifact={"z": 1}),
     {"content": "res", "additional_kwargs": {}, "response_metadata": {}, "type": "tool",
      "name": None, "id": "t1", "tool_call_id": "c1", "artifact": {"z": 1}, "status": "success"}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), CASES, ids=lambda value: type(value).__name__)
def test_values(value: Any, expected: Any) -> None:
    assert json.loads(encode.dumps(value)) == expected


def test_nothing_fails() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for value in (cycle, deep, Hostile(), {"x": Hostile()}, object(), print, int, ..., 1 + 2j):
        json.loads(encode.dumps(value))
    # One odd value does not change its neighbours.
    mixed = json.loads(encode.dumps({"odd": 2**80, "model": Model(), "data": Data(1, {1})}))
    assert mixed["model"] == SHOWN_MODEL and mixed["data"] == {"a": 1, "b": [1]}
