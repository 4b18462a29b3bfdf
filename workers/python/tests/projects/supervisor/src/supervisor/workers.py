"""The workers."""

import os

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command


def _worker(name: str, prompt: str):
    async def think(state: MessagesState):
        model = ChatOpenAI(model=os.environ["MODEL"])
        answer = await model.ainvoke([("system", prompt), *state["messages"]])
        return {"messages": [answer]}

    def report(state: MessagesState):
        told = state["messages"][-1].content
        message = HumanMessage(f"{name}: {told}", name=name)
        return Command(graph=Command.PARENT, goto="supervisor", update={"messages": [message]})

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("report", report)
    builder.add_edge(START, "think")
    builder.add_edge("think", "report")
    return builder.compile(name=name)


research_agent = _worker("researcher", "You find facts.")
math_agent = _worker("mathematician", "You compute.")
