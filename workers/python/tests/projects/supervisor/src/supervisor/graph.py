"""The supervisor decides who works next; each worker is a graph of its own."""

import os
from typing import Literal

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from .workers import math_agent, research_agent

WORKERS = ("researcher", "mathematician")


class State(MessagesState):
    """The conversation, and who works."""

    next: str


def supervise(state: State) -> Command[Literal["researcher", "mathematician", "__end__"]]:
    """Asks the model for the name of a worker, or whether all is done."""
    model = ChatOpenAI(model=os.environ["MODEL"])
    answer = model.invoke(
        [("system", f"You are a supervisor of {', '.join(WORKERS)}. Who is next? Or FINISH."),
         *state["messages"]]
    )  # fmt: skip
    chosen = str(answer.content).strip()
    goto = chosen if chosen in WORKERS else END
    return Command(goto=goto, update={"next": goto})


builder = StateGraph(State)
builder.add_node("supervisor", supervise)
builder.add_node("researcher", research_agent)
builder.add_node("mathematician", math_agent)
builder.add_edge(START, "supervisor")
builder.add_edge("researcher", "supervisor")
builder.add_edge("mathematician", "supervisor")
graph = builder.compile()
