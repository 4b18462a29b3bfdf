"""What the crash driver runs: each task appends a line to a file, then waits a little."""

import asyncio
import operator
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    nodes: int
    file: str
    count: int
    done: Annotated[list[str], operator.add]


async def reset(state: State) -> State:
    return {"count": 0}


async def record(state: State, config: RunnableConfig) -> State:
    at, meta = config["configurable"], config["metadata"]
    task = at["__pregel_task_id"]
    line = f"{at['thread_id']} {at['run_id']} {task} {meta['langgraph_step']}\n"
    with open(state["file"], "a") as out:
        out.write(line)
    await asyncio.sleep(0.002)
    return {"count": state["count"] + 1, "done": [task]}


def more(state: State) -> str:
    return "record" if state["count"] < state["nodes"] else END


graph = (
    StateGraph(State)
    .add_node(reset)
    .add_node(record)
    .add_edge(START, "reset")
    .add_edge("reset", "record")
    .add_conditional_edges("record", more, ["record", END])
    .compile()
)
