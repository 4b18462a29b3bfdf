"""What storing each superstep costs Python's savers; the cases of `agentflow-bench checkpoints`.

Usage: checkpoints.py URL POSTMASTER [ONLY]

One JSON line a case. `saver_` is PostgresSaver in threads, `async_saver_` is AsyncPostgresSaver in
tasks. With many threads each has a saver with a connection of its own: one saver for all would
let them in one by one.
"""

import asyncio
import base64
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Annotated, TypedDict

import psycopg
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages

STEPS, STEPS_EACH, THREADS = 200, 60, 16
TALK, PART, PARTS, MESSAGE = 30, 50, 4, 1 << 10
STARTS = {"1kb": 1 << 10, "100kb": 100 << 10, "1mb": 1 << 20}
BYTES = """SELECT pg_current_wal_insert_lsn() - '0/0', (SELECT
    sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'
    AND relname IN ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes'))"""


class Counter(TypedDict):
    n: int


class Whole(TypedDict):
    messages: Annotated[list, add_messages]
    n: int


class Delta(TypedDict):
    messages: Annotated[list, DeltaChannel(_messages_delta_reducer)]
    n: int


def counter(steps):
    graph = StateGraph(Counter)
    graph.add_node("step", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["n"] < steps else END)
    return graph


def noise(size):
    """Letters that say nothing twice, so that no compression hides how many bytes are stored."""
    return base64.b64encode(random.randbytes(size * 3 // 4)).decode()


def conversation(state, steps):
    def say(state):
        n = state.get("n", 0)
        said = {"role": "assistant", "content": noise(MESSAGE), "id": f"m{n}"}
        return {"messages": [said], "n": n + 1}

    graph = StateGraph(state)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", lambda state: END if state["n"] % steps == 0 else "say")
    return graph


def ran(path):
    try:
        with open(f"{path}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9
    except OSError:
        return 0.0


class Meter:
    def __init__(self, url, postmaster):
        self.connection = psycopg.connect(url, autocommit=True)
        self.postmaster = postmaster

    def read(self):
        wal, tables = self.connection.execute(BYTES).fetchone()
        with open(f"/proc/{self.postmaster}/task/{self.postmaster}/children") as file:
            children = file.read().split()
        database = sum(ran(f"/proc/{child}") for child in children)
        database += ran(f"/proc/{self.postmaster}")
        return float(wal), float(tables), database, time.process_time(), time.perf_counter()

    def since(self, before, case, units):
        seconds = time.perf_counter() - before[4]
        wal, tables, database, cpu, _ = self.read()
        line = {
            "case": case,
            "per_second": units / seconds,
            "cpu_us": (cpu - before[3]) * 1e6 / units,
            "database_cpu_us": (database - before[2]) * 1e6 / units,
            "wal_bytes": (wal - before[0]) / units,
            "table_bytes": (tables - before[1]) / units,
        }
        print(json.dumps(line), flush=True)


def config(thread):
    return {"configurable": {"thread_id": f"{thread} {os.getpid()}"}, "recursion_limit": 1000}


def loops(url, meter, threads, durability, only):
    case = f"saver_loop_{durability}_{threads}"
    if only not in case:
        return
    steps = STEPS if threads == 1 else STEPS_EACH
    with ExitStack() as stack:
        opened = [PostgresSaver.from_conn_string(url) for _ in range(threads)]
        savers = [stack.enter_context(saver) for saver in opened]
        workers = stack.enter_context(ThreadPoolExecutor(threads))

        def all_of_them(name, steps):
            graphs = [counter(steps).compile(checkpointer=saver) for saver in savers]

            def one(number):
                place = config(f"{case} {name} {number}")
                graphs[number].invoke({"n": 0}, place, durability=durability)

            list(workers.map(one, range(threads)))

        all_of_them("warm", 5)
        before = meter.read()
        all_of_them("measured", steps)
        meter.since(before, case, steps * threads)


async def async_loops(url, meter, threads, durability, only):
    case = f"async_saver_loop_{durability}_{threads}"
    if only not in case:
        return
    steps = STEPS if threads == 1 else STEPS_EACH
    async with AsyncExitStack() as stack:
        opened = [AsyncPostgresSaver.from_conn_string(url) for _ in range(threads)]
        savers = [await stack.enter_async_context(saver) for saver in opened]

        async def all_of_them(name, steps):
            graphs = [counter(steps).compile(checkpointer=saver) for saver in savers]

            async def one(number):
                place = config(f"{case} {name} {number}")
                await graphs[number].ainvoke({"n": 0}, place, durability=durability)

            await asyncio.gather(*(one(number) for number in range(threads)))

        await all_of_them("warm", 5)
        before = meter.read()
        await all_of_them("measured", steps)
        meter.since(before, case, steps * threads)


def conversations(url, meter, only):
    with PostgresSaver.from_conn_string(url) as saver:
        for name, state in {"whole": Whole, "delta": Delta}.items():
            for size, start in STARTS.items():
                case = f"saver_talk_{name}_{size}"
                if only in case:
                    graph = conversation(state, TALK).compile(checkpointer=saver)
                    first = {"messages": [("user", noise(start))], "n": 0}
                    before = meter.read()
                    graph.invoke(first, config(case), durability="sync")
                    meter.since(before, case, TALK)
            case = f"saver_grow_{name}"
            if only in case:
                graph = conversation(state, PART).compile(checkpointer=saver)
                for part in range(1, PARTS + 1):
                    said = {"messages": [("user", noise(MESSAGE))]}
                    before = meter.read()
                    graph.invoke(said, config(case), durability="sync")
                    meter.since(before, f"{case}_{part * PART}", PART)


def main(url, postmaster, only=""):
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
    meter = Meter(url, int(postmaster))
    for threads in [1, THREADS]:
        for durability in ["sync", "async"]:
            loops(url, meter, threads, durability, only)
            asyncio.run(async_loops(url, meter, threads, durability, only))
    conversations(url, meter, only)


if __name__ == "__main__":
    main(*sys.argv[1:])
