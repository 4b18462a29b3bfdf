"""The static context of a run."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langgraph.pregel import Pregel
from pydantic import BaseModel

_OF_THE_SERVER = frozenset(
    {
        "thread_id",
        "run_id",
        "graph_id",
        "assistant_id",
        "user_id",
        "checkpoint_ns",
        "checkpoint_id",
        "checkpoint_map",
    }
)


def of_run(graph: Pregel[Any, Any, Any, Any], context: Any, configurable: Mapping[str, Any]) -> Any:
    """The context that a graph is run with.

    As on LangGraph's server, a run without a context has what its configuration says, so that a
    graph with a context schema gets its defaults, and older clients reach newer graphs.
    """
    if context is not None:
        return context
    public = {
        key: value
        for key, value in configurable.items()
        if key not in _OF_THE_SERVER and not key.startswith(("__", "langgraph_"))
    }
    schema = graph.context_schema
    if schema is None:
        return public or None
    known = _names(schema)
    if known is None:
        return public or None
    return {key: value for key, value in public.items() if key in known}


def _names(schema: Any) -> set[str] | None:
    """The fields of a context schema; `None` if it cannot be told."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        aliases = {field.alias for field in schema.model_fields.values() if field.alias}
        return {*schema.model_fields, *aliases}
    if is_dataclass(schema):
        return {field.name for field in fields(schema)}
    return None
