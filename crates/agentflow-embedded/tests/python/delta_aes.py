"""Threads with a delta channel, plain and encrypted.

usage: delta_aes.py write FILE EXPECTED
           a thread in FILE; in EXPECTED, as JSON, what rebuilds its channel at each checkpoint
       delta_aes.py read ORIGINAL COPY
           COPY holds the thread of ORIGINAL, encrypted with the key; it is equal and goes on

The key is LANGGRAPH_AES_KEY.
"""

import json
import sqlite3
import sys
from typing import Annotated, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

CONFIG = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def appended(state, writes):
    return [*state, *(item for write in writes for item in write)]


class State(TypedDict, total=False):
    log: Annotated[list, DeltaChannel(appended, snapshot_frequency=4)]


def graph(saver):
    g = StateGraph(State)
    g.add_node("a", lambda s: {"log": [f"a{len(s['log'])}"]})
    g.add_node("b", lambda s: {"log": [f"b{len(s['log'])}"]})
    g.add_edge(START, "a")
    g.add_edge(START, "b")
    return g.compile(checkpointer=saver)


def histories(saver):
    found = {}
    for saved in list(saver.list(CONFIG)):
        history = saver.get_delta_channel_history(config=saved.config, channels=["log"])["log"]
        seed = history.get("seed")
        found[saved.checkpoint["id"]] = {
            "seed": seed.value if isinstance(seed, _DeltaSnapshot) else seed,
            "writes": [[task, value] for task, _, value in history["writes"]],
        }
    return found


def write(path, expected):
    with SqliteSaver.from_conn_string(path) as saver:
        compiled = graph(saver)
        for turn in range(5):
            compiled.invoke({"log": [f"in {turn}"]}, CONFIG)
        # A branch, and what came before it goes on beside it.
        compiled.invoke({"log": ["branch"]}, list(compiled.get_state_history(CONFIG))[5].config)
        with open(expected, "w") as file:
            json.dump(histories(saver), file)


def read(original, copy):
    connection = sqlite3.connect(copy, check_same_thread=False)
    for table in ("checkpoints", "writes"):
        words = {word for (word,) in connection.execute(f"SELECT DISTINCT type FROM {table}")}
        assert words and all(word.endswith("+aes") for word in words), words
    secret = SqliteSaver(connection, serde=EncryptedSerializer.from_pycryptodome_aes())
    with SqliteSaver.from_conn_string(original) as plain:
        assert histories(plain) == histories(secret)
        want = graph(plain).get_state(CONFIG).values
    compiled = graph(secret)
    assert compiled.get_state(CONFIG).values == want
    after = compiled.invoke({"log": ["more"]}, CONFIG)["log"]
    assert after[: len(want["log"]) + 1] == [*want["log"], "more"], after


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
