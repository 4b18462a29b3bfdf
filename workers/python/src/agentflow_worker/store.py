"""LangGraph's long-term memory, kept by the server."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from agentflow_worker import encode
from agentflow_worker.scope import Scope


class RemoteStore(BaseStore):
    """A store that asks the server, in the name of one request."""

    supports_ttl = True

    def __init__(self, scope: Scope, ttl: TTLConfig | None = None) -> None:
        self._scope = scope
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        asked = [*ops]
        if not asked:
            return []
        answers = self._scope.call_sync("store.batch", {"ops": [_op(op) for op in asked]})
        return [_result(op, answer) for op, answer in zip(asked, answers, strict=True)]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        asked = [*ops]
        if not asked:
            return []
        answers = await self._scope.call("store.batch", {"ops": [_op(op) for op in asked]})
        return [_result(op, answer) for op, answer in zip(asked, answers, strict=True)]


def _op(op: Op) -> dict[str, Any]:
    if isinstance(op, GetOp):
        return {
            "op": "get",
            "namespace": [*op.namespace],
            "key": op.key,
            "refresh_ttl": op.refresh_ttl,
        }
    if isinstance(op, PutOp):
        return {
            "op": "put",
            "namespace": [*op.namespace],
            "key": op.key,
            "value": None if op.value is None else encode.dumps(op.value),
            "ttl": op.ttl,
            "index": op.index,
        }
    if isinstance(op, SearchOp):
        return {
            "op": "search",
            "namespace_prefix": [*op.namespace_prefix],
            "filter": encode.dumps(op.filter or {}),
            "limit": op.limit,
            "offset": op.offset,
            "query": op.query,
            "refresh_ttl": op.refresh_ttl,
        }
    conditions = {
        condition.match_type: [*condition.path] for condition in op.match_conditions or ()
    }
    return {
        "op": "list_namespaces",
        "prefix": conditions.get("prefix"),
        "suffix": conditions.get("suffix"),
        "max_depth": op.max_depth,
        "limit": op.limit,
        "offset": op.offset,
    }


def _result(op: Op, answer: Any) -> Result:
    if isinstance(op, PutOp) or answer is None:
        return None
    if isinstance(op, GetOp):
        return Item(**_fields(answer))
    if isinstance(op, SearchOp):
        return [SearchItem(**_fields(item), score=item.get("score")) for item in answer]
    assert isinstance(op, ListNamespacesOp)
    return [tuple(namespace) for namespace in answer]


def _fields(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(item["namespace"]),
        "key": item["key"],
        "value": encode.loads(item["value"]),
        "created_at": datetime.fromisoformat(item["created_at"]),
        "updated_at": datetime.fromisoformat(item["updated_at"]),
    }
