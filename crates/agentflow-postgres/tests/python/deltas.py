"""A thread with a delta channel.

usage: deltas.py write URL EXPECTED
           a thread with branches; in EXPECTED, as JSON, what rebuilds its channel everywhere
       deltas.py read ORIGINAL COPY
           the copy holds the same thread, or what pruning left of it, and goes on
"""

import json
import sys
from typing import Annotated, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
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


def write(url, expected):
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        compiled = graph(saver)
        for turn in range(5):
            compiled.invoke({"log": [f"in {turn}"]}, CONFIG)
        # A branch, and what came before it goes on beside it.
        compiled.invoke({"log": ["branch"]}, list(compiled.get_state_history(CONFIG))[5].config)
        with open(expected, "w") as file:
            json.dump(histories(saver), file)


def read(original, copy):
    with PostgresSaver.from_conn_string(original) as plain:
        want = graph(plain).get_state(CONFIG).values
        history = histories(plain)
    with PostgresSaver.from_conn_string(copy) as saver:
        for checkpoint_id, found in histories(saver).items():
            if len(list(saver.list(CONFIG))) == len(history):
                assert found == history[checkpoint_id], checkpoint_id
        compiled = graph(saver)
        assert compiled.get_state(CONFIG).values == want
        after = compiled.invoke({"log": ["more"]}, CONFIG)["log"]
        assert after[: len(want["log"]) + 1] == [*want["log"], "more"], after


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
