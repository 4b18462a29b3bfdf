"""LangGraph's checkpoints, kept by the server."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from agentflow_worker import encode
from agentflow_worker.scope import Scope

if TYPE_CHECKING:
    # Not in older releases, which do not ask for it.
    from langgraph.checkpoint.base import DeltaChannelHistory

_AHEAD_BYTES = 8 * 1024 * 1024
"""How much may wait to be stored before a graph has to wait too."""


class RemoteSaver(BaseCheckpointSaver[str]):
    """A saver that asks the server, in the name of one request.

    Values are serialized here, so that what is stored is what LangGraph's own savers store. One
    commit is under way at a time; what is written meanwhile travels together in the next one.
    """

    def __init__(
        self, scope: Scope, serde: SerializerProtocol | None = None, ahead: bool = False
    ) -> None:
        """`ahead`: asynchronous writes return before they are stored, as durability `async`
        allows; `settle` must be awaited at the end."""
        super().__init__(serde=serde)
        self._scope = scope
        self._ahead = ahead
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ops: list[dict[str, Any]] = []
        self._waiting_bytes = 0
        self._next: asyncio.Future[None] | None = None
        """The end of the commit that `_ops` will be."""
        self._sent: asyncio.Future[None] | None = None
        """The end of the commit that is under way."""
        self._failed: BaseException | None = None

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """The number after `current`, and a fraction that tells forks apart."""
        if current is None:
            number = 0
        elif isinstance(current, int):
            number = current
        else:
            number = int(current.split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # Reading

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        await self.settle()
        found = await self._scope.call("saver.get", _where(config))
        return None if found is None else self._tuple(found)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._settle_sync()
        found = self._scope.call_sync("saver.get", _where(config))
        return None if found is None else self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        await self.settle()
        for found in await self._scope.call("saver.list", _query(config, filter, before, limit)):
            yield self._tuple(found)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        self._settle_sync()
        for found in self._scope.call_sync("saver.list", _query(config, filter, before, limit)):
            yield self._tuple(found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> "Mapping[str, DeltaChannelHistory]":
        if not channels:
            return {}
        await self.settle()
        asked = {**_where(config), "channels": [*channels]}
        return self._histories(channels, await self._scope.call("saver.delta_history", asked))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> "Mapping[str, DeltaChannelHistory]":
        if not channels:
            return {}
        self._settle_sync()
        asked = {**_where(config), "channels": [*channels]}
        return self._histories(channels, self._scope.call_sync("saver.delta_history", asked))

    # Writing

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self._commit(self._put(config, checkpoint, metadata, new_versions))
        return _stored(config, checkpoint)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        op = self._put(config, checkpoint, metadata, new_versions)
        self._scope.call_sync("saver.commit", {"ops": [op]})
        return _stored(config, checkpoint)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._commit(self._writes(config, writes, task_id, task_path))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        op = self._writes(config, writes, task_id, task_path)
        self._scope.call_sync("saver.commit", {"ops": [op]})

    async def adelete_thread(self, thread_id: str) -> None:
        await self._scope.call("saver.delete_thread", {"thread_id": thread_id})

    def delete_thread(self, thread_id: str) -> None:
        self._scope.call_sync("saver.delete_thread", {"thread_id": thread_id})

    # Forms

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> dict[str, Any]:
        where = _where(config)
        return {
            "op": "put",
            "thread_id": where["thread_id"],
            "checkpoint_ns": where["checkpoint_ns"],
            "parent_id": where["checkpoint_id"],
            "checkpoint": self.serde.dumps_typed(checkpoint),
            "metadata": encode.dumps(get_checkpoint_metadata(config, metadata)),
            "new_versions": [*new_versions],
        }

    def _writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> dict[str, Any]:
        return {
            "op": "writes",
            **_where(config),
            "task_id": task_id,
            "task_path": task_path,
            "writes": [[channel, self.serde.dumps_typed(value)] for channel, value in writes],
        }

    def _tuple(self, found: dict[str, Any]) -> CheckpointTuple:
        thread_id, ns = found["thread_id"], found["checkpoint_ns"]
        parent = found.get("parent_id")
        return CheckpointTuple(
            config=_config(thread_id, ns, found["checkpoint_id"]),
            checkpoint=self._load(found["checkpoint"]),
            metadata=cast(CheckpointMetadata, encode.loads(found["metadata"]) or {}),
            parent_config=_config(thread_id, ns, parent) if parent else None,
            pending_writes=[
                (task_id, channel, self._load(typed))
                for task_id, channel, typed in found.get("writes") or ()
            ],
        )

    def _histories(
        self, channels: Sequence[str], found: Sequence[dict[str, Any]]
    ) -> "dict[str, DeltaChannelHistory]":
        histories: dict[str, DeltaChannelHistory] = {}
        for channel, entry in zip(channels, found, strict=True):
            history: DeltaChannelHistory = {
                "writes": [
                    (task_id, name, self._load(typed)) for task_id, name, typed in entry["writes"]
                ]
            }
            if entry.get("seed") is not None:
                history["seed"] = self._load(entry["seed"])
            histories[channel] = history
        return histories

    def _load(self, typed: Any) -> Any:
        kind, data = typed
        return self.serde.loads_typed((kind, data))

    # Commits

    async def settle(self) -> None:
        """Waits until everything that was handed over is stored. Raises if it was not."""
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            elsewhere = asyncio.run_coroutine_threadsafe(self.settle(), self._loop)
            await asyncio.wrap_future(elsewhere)
            return
        while self._sent is not None or self._ops:
            await self._stored()
        if self._failed is not None:
            raise self._failed

    def _settle_sync(self) -> None:
        """As `settle`, for threads. In the loop's own thread there is no way to wait."""
        loop = self._loop
        if loop is None or (self._sent is None and not self._ops):
            return
        try:
            if asyncio.get_running_loop() is loop:
                return
        except RuntimeError:
            pass
        asyncio.run_coroutine_threadsafe(self.settle(), loop).result()

    async def _commit(self, op: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            # A loop that user code made for itself, in a thread.
            await self._scope.call("saver.commit", {"ops": [op]})
            return
        self._scope.check()
        if self._failed is not None:
            raise self._failed
        self._ops.append(op)
        self._waiting_bytes += _size(op)
        if self._next is None:
            self._next = loop.create_future()
            # Nobody may be left to look at an error.
            self._next.add_done_callback(lambda end: end.cancelled() or end.exception())
            if self._sent is None:
                loop.call_soon(self._send)
        if not self._ahead or self._waiting_bytes > _AHEAD_BYTES:
            await self._stored()

    async def _stored(self) -> None:
        """Waits for the newest op to be stored."""
        end = self._next or self._sent
        if end is not None:
            # Whoever waits may be cancelled; the others still want to know.
            await self._scope.wait(asyncio.shield(end))

    def _send(self) -> None:
        """Sends what gathered; one commit is under way at a time, so the next gathers more."""
        loop, end, ops = self._loop, self._next, self._ops
        if loop is None or end is None or self._sent is not None:
            return
        self._sent, self._next, self._ops, self._waiting_bytes = end, None, [], 0
        answer: asyncio.Future[Any] = loop.create_future()
        answer.add_done_callback(self._answered)
        try:
            self._scope.ask("saver.commit", {"ops": ops}, answer, loop)
        except Exception as err:
            answer.set_exception(err)

    def _answered(self, answer: "asyncio.Future[Any]") -> None:
        end, self._sent = self._sent, None
        assert end is not None
        err = answer.exception()
        if err is None:
            end.set_result(None)
            self._send()
            return
        # What came after cannot be stored either.
        later, self._next, self._ops = self._next, None, []
        self._failed = self._failed or err
        for one in (end, later):
            if one is not None and not one.done():
                one.set_exception(err)
        self._scope.failed(err)


def _size(op: dict[str, Any]) -> int:
    """About how many bytes an op keeps."""
    if op["op"] == "put":
        return len(op["checkpoint"][1]) + len(op["metadata"])
    return sum(len(typed[1]) for _, typed in op["writes"])


def _where(config: RunnableConfig) -> dict[str, Any]:
    """The checkpoint that a configuration names; its id `None` for the latest."""
    configurable = config["configurable"]
    return {
        "thread_id": str(configurable["thread_id"]),
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": get_checkpoint_id(config),
    }


def _query(
    config: RunnableConfig | None,
    metadata: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> dict[str, Any]:
    configurable = config["configurable"] if config else {}
    thread_id = configurable.get("thread_id")
    return {
        "thread_id": None if thread_id is None else str(thread_id),
        "checkpoint_ns": configurable.get("checkpoint_ns"),
        "checkpoint_id": get_checkpoint_id(config) if config else None,
        "filter": encode.dumps(metadata or {}),
        "before": get_checkpoint_id(before) if before else None,
        "limit": limit,
    }


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": ns,
            "checkpoint_id": checkpoint_id,
        }
    }


def _stored(config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
    where = _where(config)
    return _config(where["thread_id"], where["checkpoint_ns"], checkpoint["id"])
