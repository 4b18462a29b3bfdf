"""One task per subject, side by side; then one that chooses."""

import operator
import os
from typing import Annotated, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send


class State(TypedDict, total=False):
    """Subjects and jokes."""

    topic: str
    subjects: list[str]
    jokes: Annotated[list[str], operator.add]
    best: str


class JokeState(TypedDict):
    """What one task gets."""

    subject: str


def plan(state: State) -> State:
    """The subjects."""
    return {"subjects": [f"{state['topic']} {number}" for number in (1, 2, 3)]}


def fan_out(state: State) -> list[Send]:
    """One task for each."""
    return [Send("joke", {"subject": subject}) for subject in state["subjects"]]


async def joke(state: JokeState) -> State:
    """The model jokes."""
    model = ChatOpenAI(model=os.environ["MODEL"])
    answer = await model.ainvoke(f"A joke about {state['subject']}, please.")
    return {"jokes": [f"{state['subject']}: {answer.content}"]}


def choose(state: State) -> State:
    """The longest is the best."""
    return {"best": max(state["jokes"], key=len)}


def build() -> StateGraph:
    """The graph, not yet compiled."""
    return (
        StateGraph(State)
        .add_node(plan)
        .add_node(joke)
        .add_node(choose)
        .add_edge(START, "plan")
        .add_conditional_edges("plan", fan_out, ["joke"])
        .add_edge("joke", "choose")
        .add_edge("choose", END)
    )
