"""Recalls what is near the question, answers, and keeps what it was told."""

import os
import uuid
from dataclasses import dataclass
from typing import Annotated

from langchain_core.tools import InjectedToolArg, tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore


@dataclass
class Context:
    """Whose memory."""

    user_id: str = "default"


@tool
async def remember(
    text: str,
    *,
    user_id: Annotated[str, InjectedToolArg],
    store: Annotated[BaseStore, InjectedToolArg],
) -> str:
    """Keeps a fact about the user."""
    await store.aput(("memories", user_id), key=str(uuid.uuid4()), value={"text": text})
    return f"Remembered: {text}"


async def call_model(state: MessagesState, runtime: Runtime[Context]) -> dict:
    """Recalls and answers."""
    store = runtime.store
    assert store is not None
    namespace = ("memories", runtime.context.user_id)
    question = str(state["messages"][-1].content)
    memories = await store.asearch(namespace, query=question, limit=3)
    known = "\n".join(f"- {memory.value['text']}" for memory in memories)
    model = ChatOpenAI(model=os.environ["MODEL"]).bind_tools([remember])
    system = f"You are helpful. What you know of the user:\n{known}"
    return {"messages": [await model.ainvoke([("system", system), *state["messages"]])]}


async def store_memory(state: MessagesState, runtime: Runtime[Context]) -> dict:
    """Does what the model wants to be remembered."""
    results = []
    for call in state["messages"][-1].tool_calls:
        told = await remember.ainvoke(
            {**call["args"], "user_id": runtime.context.user_id, "store": runtime.store}
        )
        results.append({"role": "tool", "content": told, "tool_call_id": call["id"]})
    return {"messages": results}


def route(state: MessagesState) -> str:
    """To the memory, or to the end."""
    return "store_memory" if state["messages"][-1].tool_calls else END


builder = StateGraph(MessagesState, context_schema=Context)
builder.add_node(call_model)
builder.add_node(store_memory)
builder.add_edge(START, "call_model")
builder.add_conditional_edges("call_model", route, ["store_memory", END])
builder.add_edge("store_memory", "call_model")
graph = builder.compile()
graph.name = "MemoryAgent"
