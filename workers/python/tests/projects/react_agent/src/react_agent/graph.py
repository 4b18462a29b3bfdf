"""A loop of model and tools."""

from datetime import UTC, datetime
from typing import Literal, cast

from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage
from langgraph.graph import StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime

from react_agent.context import Context
from react_agent.state import InputState, State
from react_agent.tools import TOOLS


async def call_model(state: State, runtime: Runtime[Context]) -> dict[str, list[AIMessage]]:
    """Asks the model, which may ask for tools."""
    model = init_chat_model(runtime.context.model).bind_tools(TOOLS)
    system = f"{runtime.context.system_prompt}\n\nSystem time: {datetime.now(tz=UTC).isoformat()}"
    response = cast(
        AIMessage,
        await model.ainvoke([{"role": "system", "content": system}, *state.messages]),
    )
    if state.is_last_step and response.tool_calls:
        sorry = "Sorry, I could not find an answer in the given number of steps."
        return {"messages": [AIMessage(id=response.id, content=sorry)]}
    return {"messages": [response]}


def route_model_output(state: State) -> Literal["__end__", "tools"]:
    """Where to go after the model spoke."""
    last = state.messages[-1]
    if not isinstance(last, AIMessage):
        raise ValueError(f"expected a message of the model, got {type(last).__name__}")
    return "tools" if last.tool_calls else "__end__"


builder = StateGraph(State, input_schema=InputState, context_schema=Context)
builder.add_node(call_model)
builder.add_node("tools", ToolNode(TOOLS))
builder.add_edge("__start__", "call_model")
builder.add_conditional_edges("call_model", route_model_output)
builder.add_edge("tools", "call_model")
graph = builder.compile(name="ReAct Agent")
