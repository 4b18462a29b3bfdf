"""Inputs, commands and configurations, from the wire to LangGraph's types."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from agentflow_worker import encode
from agentflow_worker.errors import Refused
from agentflow_worker.user import User


def run_input(told: Any) -> Any:
    """What a graph is given: a value, a `Command`, or `None` to go on."""
    kind = told.get("kind") if isinstance(told, dict) else None
    if told is None or kind == "resume":
        return None
    if kind == "input":
        return encode.loads(told.get("value"))
    if kind == "command":
        return command(encode.loads(told.get("command")))
    raise Refused("invalid", f"unknown kind of input: {told!r}"[:200])


def command(told: Any) -> Command[Any]:
    """A `Command` from its JSON. Raises `Refused`."""
    if not isinstance(told, Mapping):
        raise Refused("invalid", "a command is an object")
    return Command(
        graph=told.get("graph"),
        update=_update(told.get("update")),
        resume=told.get("resume"),
        goto=_goto(told.get("goto")),
    )


def _update(told: Any) -> Any:
    """Pairs of channel and value become tuples, which is how LangGraph knows them."""
    if isinstance(told, list) and told and all(_is_pair(item) for item in told):
        return [tuple(item) for item in told]
    return told


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _goto(told: Any) -> Any:
    if told is None:
        return ()
    targets = told if isinstance(told, list) else [told]
    return [_target(target) for target in targets]


def _target(target: Any) -> Send | str:
    match target:
        case str():
            return target
        case {"node": str(node), **rest}:
            return Send(node, rest.get("input", rest.get("arg")))
        case _:
            raise Refused("invalid", f"a goto is a node or an object: {target!r}"[:200])


def configuration(told: Any) -> RunnableConfig:
    """A configuration as it came; without a thread it gets none."""
    told = told or {}
    config = RunnableConfig(
        configurable=dict(encode.loads(told.get("configurable")) or {}),
        metadata=dict(encode.loads(told.get("metadata")) or {}),
        tags=[*(told.get("tags") or ())],
    )
    if told.get("recursion_limit") is not None:
        config["recursion_limit"] = int(told["recursion_limit"])
    user = config["configurable"].get("langgraph_auth_user")
    if isinstance(user, Mapping):
        config["configurable"]["langgraph_auth_user"] = User(user)
    return config


def place(config: RunnableConfig, checkpoint: Mapping[str, Any] | None) -> None:
    """Points a configuration to a checkpoint; without one, to the latest of the root."""
    configurable = config["configurable"]
    for key in ("checkpoint_ns", "checkpoint_id", "checkpoint_map"):
        configurable.pop(key, None)
    if checkpoint is None:
        return
    if checkpoint.get("thread_id"):
        configurable["thread_id"] = checkpoint["thread_id"]
    configurable["checkpoint_ns"] = checkpoint.get("checkpoint_ns") or ""
    if checkpoint.get("checkpoint_id"):
        configurable["checkpoint_id"] = checkpoint["checkpoint_id"]


def as_uuid(text: Any) -> UUID | None:
    """A UUID, or `None` if it is none."""
    try:
        return UUID(str(text))
    except ValueError:
        return None


def user(config: RunnableConfig) -> User | None:
    """The user that a configuration carries."""
    found = config["configurable"].get("langgraph_auth_user")
    return found if isinstance(found, User) else None
