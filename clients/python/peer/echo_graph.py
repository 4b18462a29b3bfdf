"""The twin of the fixture server's graph `echo`, for the development server of LangGraph."""

from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class State(TypedDict, total=False):
    messages: Annotated[list, add_messages]
    n: int


def echo(state: State) -> State:
    text = state["messages"][-1].content
    return {"messages": [AIMessage(content=f"echo: {text}")], "n": state.get("n", 0) + 1}


builder = StateGraph(State)
builder.add_node("echo", echo)
builder.add_edge(START, "echo")
builder.add_edge("echo", END)
graph = builder.compile()
