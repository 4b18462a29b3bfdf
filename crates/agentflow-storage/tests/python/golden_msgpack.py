"""Prints golden vectors of LangGraph's serializer as JSON.

usage: golden_msgpack.py > tests/golden/msgpack.json

Needs langgraph and langchain-core. `json` is what an HTTP client sees, where it is plain.
"""

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import sys
import uuid
import zoneinfo

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item
from langgraph.types import Command, Interrupt, Overwrite, Send


@dataclasses.dataclass
class Point:
    x: int
    y: list


class Color(enum.Enum):
    RED = "red"


Pair = collections.namedtuple("Pair", "left right")

PLAIN = {
    "nil": None, "true": True, "false": False, "empty text": "", "empty list": [], "empty map": {},
    **{f"int {n}": n for n in (
        0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
        -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63))},
    **{f"float {n}": n for n in (0.0, 1.0, 1.5, -2.5e300, 1e-300)},
    **{f"text of {n}": "x" * n for n in (1, 31, 32, 255, 256)},
    **{f"list of {n}": [1] * n for n in (1, 15, 16)},
    **{f"map of {n}": {f"k{i}": i for i in range(n)} for n in (1, 15, 16)},
    "unicode": "\u00e4\U0001f600\x00",
    "nested": {"a": [{"b": [None, 1.0, {"c": "d"}]}]},
    "tuple": (1, "a", (2,)),
}
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
OTHER = {
    "large text": "x" * 65536, "large list": [0] * 65536, "large map": {str(n): n for n in range(65536)},
    "infinite": float("inf"), "bytes": b"\x00\xff", "no bytes": b"",
    "inner bytes": [b"a" * 255, b"b" * 256], "keys": {1: "a", 2.5: "b", None: "c", "d": 1, (1, 2): "e", b"f": 1},
    "set": {1}, "frozenset": frozenset(["a"]), "deque": collections.deque([1, 2]),
    "uuid": uuid.UUID(int=7), "decimal": decimal.Decimal("1.50"), "path": pathlib.Path("/a/b"),
    "pattern": re.compile("a+", re.I), "address": ipaddress.ip_address("127.0.0.1"),
    "enum": Color.RED, "zone": zoneinfo.ZoneInfo("Europe/Berlin"),
    "date": MOMENT.date(), "time": MOMENT.timetz(), "moment": MOMENT, "local": MOMENT.replace(tzinfo=None),
    "span": datetime.timedelta(days=1, seconds=2, microseconds=3),
    "offset": datetime.timezone(datetime.timedelta(hours=1)),
    "dataclass": Point(1, [2]), "named tuple": Pair(1, "r"), "error": ValueError("boom"),
    "send": Send("n", {"x": 1}), "interrupt": Interrupt("q", id="abc"), "overwrite": Overwrite([1]),
    "command": Command(update={"a": 1}, goto=["b"], resume="r"),
    "item": Item(value={"a": 1}, key="k", namespace=("n", "m"), created_at=MOMENT, updated_at=MOMENT),
    "human": HumanMessage("hi", id="m1", name="n", additional_kwargs={"a": 1}),
    "ai": AIMessage("x", id="m2", tool_calls=[{"name": "t", "args": {"q": [1, 2.0]}, "id": "c"}],
                    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    "ai chunk": AIMessageChunk("x", id="m3"), "system": SystemMessage([{"type": "text", "text": "s"}]),
    "tool": ToolMessage("r", tool_call_id="c", artifact={"raw": b"1"}), "remove": RemoveMessage("m1"),
    "document": Document("text", metadata={"source": "s"}),
    "messages": {"messages": [HumanMessage("a"), AIMessage("b")], "next": Send("n", HumanMessage("c"))},
    "delta": _DeltaSnapshot({"a": 1}),
}


def main() -> None:
    serializer = JsonPlusSerializer()
    vectors = []
    for name, value in {**PLAIN, **OTHER}.items():
        word, data = serializer.dumps_typed(value)
        if len(data) > 70000 and name != "large text":
            continue
        shown = value if name in PLAIN else None
        vectors.append({"name": name, "word": word, "hex": data.hex(), "json": shown})
    vectors = [vector for vector in vectors if len(vector["hex"]) < 5000]
    lines = ",\n".join(json.dumps(vector) for vector in vectors)
    sys.stdout.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
