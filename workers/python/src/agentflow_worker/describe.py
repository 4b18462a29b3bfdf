"""Pictures and schemas of graphs."""

import warnings
from collections.abc import Callable
from typing import Any

from langgraph.channels.base import BaseChannel
from langgraph.pregel import Pregel
from pydantic import create_model

from agentflow_worker.errors import Refused
from agentflow_worker.graphs import Graph


def schemas(graph: Graph) -> dict[str, Any]:
    """JSON Schemas; one that cannot be made is null."""
    context_schema = _try(graph.get_context_jsonschema)
    return {
        "input_schema": _try(graph.get_input_jsonschema),
        "output_schema": _try(graph.get_output_jsonschema),
        "state_schema": _try(lambda: _state_schema(graph)),
        # Older clients look for the context here.
        "config_schema": context_schema or {},
        "context_schema": context_schema,
    }


def _try(make: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except Exception:
        return None


def _state_schema(graph: Graph) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key in graph.stream_channels_list:
        channel = graph.channels[key]
        if isinstance(channel, BaseChannel):
            fields[key] = (channel.UpdateType, None)
    schema: dict[str, Any] = create_model(graph.get_name("State"), **fields).model_json_schema()
    return schema


async def drawing(graph: Graph, depth: int) -> dict[str, Any]:
    """Nodes and edges; `depth` levels of subgraphs are drawn in place."""
    drawn = (await graph.aget_graph(xray=depth if depth > 0 else False)).to_json()
    return {
        "nodes": [_node(node) for node in drawn["nodes"]],
        "edges": [_edge(edge) for edge in drawn["edges"]],
    }


def _node(node: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": str(node["id"])}
    data = node.get("data")
    if node.get("type") is not None:
        shown["type"] = "runnable"
        name = data.get("name") if isinstance(data, dict) else None
        shown["data"] = {"name": str(name or node["id"])}
    if node.get("metadata"):
        # Where the graph stops by itself.
        shown["metadata"] = node["metadata"]
    return shown


def _edge(edge: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"source": str(edge["source"]), "target": str(edge["target"])}
    if edge.get("conditional"):
        shown["conditional"] = True
    if edge.get("data") is not None:
        shown["data"] = str(edge["data"])
    return shown


def subgraphs(
    graph: Graph, namespace: str | None, recurse: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Subgraphs by namespace. Raises `Refused` if one is asked for that is not there."""
    found = [
        (name, schemas(inner))
        for name, inner in graph.get_subgraphs(namespace=namespace, recurse=recurse)
        if isinstance(inner, Pregel)
    ]
    if namespace is not None and not found:
        raise Refused("not_found", f"no subgraph {namespace!r}")
    return found
