"""A graph of many supersteps that do nothing, and how long one takes here or behind a server.

As a program: `steps.py FOLDER` prints times without a server, `steps.py --url URL` with one.
"""

import argparse
import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

STEPS = 50
RUNS = 20


class State(TypedDict, total=False):
    n: int


async def one(state: State) -> State:
    return {"n": state["n"] + 1}


builder = (
    StateGraph(State)
    .add_node(one)
    .add_edge(START, "one")
    .add_conditional_edges("one", lambda state: "one" if state["n"] < STEPS else END, ["one", END])
)
graph = builder.compile()


def told(case: str, times: list[float]) -> None:
    """The median time of a superstep."""
    times.sort()
    print(json.dumps({"case": case, "us_per_step": times[len(times) // 2] * 1e6 / STEPS}))


async def measure(case: str, run) -> None:
    times = []
    for number in range(RUNS + 3):
        started = time.perf_counter()
        await run(str(uuid.uuid4()))
        if number >= 3:
            times.append(time.perf_counter() - started)
    told(case, times)


async def here(folder: Path) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async def run(compiled, thread: str) -> None:
        config = {"configurable": {"thread_id": thread}, "recursion_limit": STEPS + 10}
        async for _ in compiled.astream({"n": 0}, config, stream_mode=["values", "updates"]):
            pass

    in_memory = builder.compile(checkpointer=InMemorySaver())
    await measure("python alone, in memory", lambda thread: run(in_memory, thread))
    file = folder / "steps.db"
    file.unlink(missing_ok=True)
    async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
        await saver.conn.execute("PRAGMA synchronous=NORMAL")
        stored = builder.compile(checkpointer=saver)
        await measure("python alone, its SQLite saver", lambda thread: run(stored, thread))


async def behind(url: str) -> None:
    from langgraph_sdk import get_client

    client = get_client(url=url)

    async def run(_: str) -> None:
        config = {"recursion_limit": STEPS + 10}
        await client.runs.wait(None, "steps", input={"n": 0}, config=config)

    await measure("behind AgentFlow, SQLite", run)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--url")
    given = parser.parse_args()
    asyncio.run(behind(given.url) if given.url else here(given.folder))
