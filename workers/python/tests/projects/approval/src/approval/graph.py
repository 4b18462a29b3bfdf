"""Draft, ask, send."""

import operator
import os
from typing import Annotated, Any, Literal, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class State(TypedDict, total=False):
    """A letter on its way."""

    topic: str
    draft: str
    sent: str
    log: Annotated[list[str], operator.add]


async def draft(state: State) -> State:
    """The model writes."""
    model = ChatOpenAI(model=os.environ["MODEL"])
    answer = await model.ainvoke(f"Write one sentence about {state['topic']}.")
    return {"draft": str(answer.content), "log": ["drafted"]}


def review(state: State) -> Command[Literal["send", "draft", "__end__"]]:
    """A person answers: approve, edit, or refuse."""
    answer: dict[str, Any] = interrupt({"question": "Send this?", "draft": state["draft"]})
    match answer["type"]:
        case "approve":
            return Command(goto="send", update={"log": ["approved"]})
        case "edit":
            return Command(goto="send", update={"draft": answer["draft"], "log": ["edited"]})
        case _:
            return Command(goto=END, update={"log": ["refused"]})


def send(state: State) -> State:
    """Would send."""
    return {"sent": state["draft"], "log": ["sent"]}


graph = (
    StateGraph(State)
    .add_node(draft)
    .add_node(review)
    .add_node(send)
    .add_edge(START, "draft")
    .add_edge("draft", "review")
    .add_edge("send", END)
    .compile()
)
