"""Times of Python's graph engine on the graphs of `agentflow-bench engine`; one JSON line a case.

Usage: engine.py FOLDER. Databases are made in FOLDER.
"""

import json
import operator
import os
import sqlite3
import sys
import tempfile
import time
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send

STEPS, FAN, MESSAGES = 1000, 100, 100


class Counter(TypedDict):
    n: int


class Fan(TypedDict):
    out: Annotated[list, operator.add]


class Chat(TypedDict):
    messages: Annotated[list, add_messages]
    n: int


def counter():
    graph = StateGraph(Counter)
    graph.add_node("step", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["n"] < STEPS else END)
    return graph


def fan():
    graph = StateGraph(Fan)
    graph.add_node("plan", lambda state: None)
    graph.add_node("work", lambda item: {"out": [item]})
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("work", i) for i in range(FAN)], ["work"])
    graph.add_edge("work", END)
    return graph


def chat():
    def say(state):
        said = {"role": "assistant", "content": "ok", "id": f"m{state['n']}"}
        return {"messages": [said], "n": state["n"] + 1}

    graph = StateGraph(Chat)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", lambda state: "say" if state["n"] < MESSAGES else END)
    return graph


def measure(name, graph, value, units, folder, durability=None, synchronous=None):
    with tempfile.TemporaryDirectory(dir=folder) as place:
        saver, options = None, {}
        if durability:
            path = os.path.join(place, "bench.db")
            connection = sqlite3.connect(path, check_same_thread=False)
            saver = SqliteSaver(connection)
            saver.setup()
            if synchronous:
                connection.execute(f"PRAGMA synchronous={synchronous}")
            options["durability"] = durability
        compiled = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "bench"}, "recursion_limit": 2 * STEPS}
        # Once without storage, untimed: the first run of a program pays for what is loaded lazily.
        graph.compile().invoke(value, {"recursion_limit": 2 * STEPS})
        started = time.perf_counter()
        compiled.invoke(value, config, **options)
        micros = (time.perf_counter() - started) * 1e6 / units
        print(json.dumps({"case": name, "us_per_unit": micros}), flush=True)


def main(folder):
    large = {"messages": [{"role": "user", "content": "x" * 102400, "id": "u"}], "n": 0}
    measure("loop", counter(), {"n": 0}, STEPS, folder)
    for durability in ["sync", "async", "exit"]:
        name = f"loop_sqlite_{durability}"
        measure(name, counter(), {"n": 0}, STEPS, folder, durability, "NORMAL")
        measure(name + "@full", counter(), {"n": 0}, STEPS, folder, durability)
    measure("fan", fan(), {"out": []}, FAN, folder)
    measure("fan_sqlite_sync", fan(), {"out": []}, FAN, folder, "sync", "NORMAL")
    measure("messages_100kb", chat(), large, MESSAGES, folder)
    measure("messages_100kb_sqlite_sync", chat(), large, MESSAGES, folder, "sync", "NORMAL")


if __name__ == "__main__":
    main(sys.argv[1])
