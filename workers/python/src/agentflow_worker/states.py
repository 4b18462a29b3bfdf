"""States: reading, history, changes."""

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.types import StateSnapshot, StateUpdate

from agentflow_worker import commands, encode
from agentflow_worker.errors import Refused
from agentflow_worker.graphs import Graph


async def get(graph: Graph, params: dict[str, Any]) -> bytes:
    """JSON of one snapshot. Raises `Refused` for an unknown namespace."""
    config = _config(params)
    try:
        state = await graph.aget_state(config, subgraphs=bool(params.get("subgraphs")))
    except ValueError as err:
        raise _unknown_namespace(err) from err
    return encode.dumps(snapshot(state, params["checkpoint"]))


async def history(graph: Graph, params: dict[str, Any]) -> bytes:
    """JSON of snapshots, newest first."""
    before: RunnableConfig | None = None
    if params.get("before"):
        before = {"configurable": {"checkpoint_id": params["before"]}}
    states = graph.aget_state_history(
        _config(params),
        filter=encode.loads(params.get("metadata")) or None,
        before=before,
        limit=params.get("limit"),
    )
    try:
        found = [snapshot(state, params["checkpoint"]) async for state in states]
    except ValueError as err:
        raise _unknown_namespace(err) from err
    return encode.dumps(found)


async def update(graph: Graph, config: RunnableConfig, params: dict[str, Any]) -> dict[str, Any]:
    """Applies supersteps; the new checkpoint. Raises `Refused` if the graph refuses them."""
    commands.place(config, params["checkpoint"])
    supersteps = [[_update(one) for one in step] for step in params["supersteps"]]
    try:
        if len(supersteps) == 1 and len(supersteps[0]) == 1:
            one = supersteps[0][0]
            changed = await graph.aupdate_state(config, one.values, as_node=one.as_node)
        else:
            changed = await graph.abulk_update_state(config, supersteps)
    except InvalidUpdateError as err:
        raise Refused("unprocessable", str(err), type(err).__name__) from err
    except ValueError as err:
        if "not found" in str(err):
            raise Refused("not_found", str(err)) from err
        raise Refused("unprocessable", str(err), type(err).__name__) from err
    return _checkpoint(changed, params["checkpoint"])


def _update(told: Mapping[str, Any]) -> StateUpdate:
    values = encode.loads(told.get("values"))
    told_command = encode.loads(told.get("command"))
    if told_command is not None:
        values = commands.command(told_command)
    return StateUpdate(values, told.get("as_node"))


def _config(params: dict[str, Any]) -> RunnableConfig:
    config = RunnableConfig(configurable={})
    commands.place(config, params["checkpoint"])
    return config


def _unknown_namespace(err: ValueError) -> Exception:
    return Refused("not_found", str(err)) if "not found" in str(err) else err


def snapshot(state: StateSnapshot, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot as clients see it."""
    return {
        "values": state.values,
        "next": [*state.next],
        "tasks": [_task(task, asked) for task in state.tasks],
        "metadata": state.metadata,
        "created_at": state.created_at,
        "checkpoint": _checkpoint(state.config, asked),
        "parent_checkpoint": (
            _checkpoint(state.parent_config, asked) if state.parent_config else None
        ),
        "interrupts": [encode.interrupt(one) for one in state.interrupts],
    }


def _task(task: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    inner = task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": [*task.path],
        "error": None if task.error is None else _error(task.error),
        "interrupts": [encode.interrupt(one) for one in task.interrupts],
        "checkpoint": _checkpoint(inner, asked) if isinstance(inner, dict) else None,
        "state": snapshot(inner, asked) if isinstance(inner, StateSnapshot) else None,
        "result": task.result,
    }


def _error(err: Any) -> str:
    return err if isinstance(err, str) else repr(err)


def _checkpoint(config: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    configurable = (config or {}).get("configurable", {})
    return {
        "thread_id": configurable.get("thread_id", asked.get("thread_id")),
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": configurable.get("checkpoint_id"),
    }
