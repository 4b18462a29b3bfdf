"""Executing a run."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import EmptyInputError, InvalidUpdateError
from langgraph.types import StreamMode
from langgraph.version import __version__ as langgraph_version

from agentflow_worker import commands, context, encode
from agentflow_worker.errors import ServerError, error, message_of, to_wire
from agentflow_worker.events import EventSink
from agentflow_worker.graphs import Graph, Loaded, Opening
from agentflow_worker.saver import RemoteSaver
from agentflow_worker.scope import Scope
from agentflow_worker.store import RemoteStore

_INTERRUPT = "__interrupt__"
_INPUT_REFUSED = (EmptyInputError, InvalidUpdateError)

_SETTLE_SECONDS = 3.0
"""How long a run that failed or was cancelled waits for what was complete to be stored."""

Durability = Literal["sync", "async", "exit"]


class RunFailed(Exception):
    """A run that ended with an error, in the form of an answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class Run:
    """One attempt of a run."""

    def __init__(self, scope: Scope, saver: RemoteSaver, store: RemoteStore) -> None:
        self._scope = scope
        self._saver = saver
        self._store = store
        self._began = False
        """Whether the graph took its input: it reported something."""
        self._last_values: Any = None
        self._last_json: bytes | None = None
        self._stopped = False
        """Whether nodes may be left that would run next."""

    async def execute(self, loaded: Loaded, params: dict[str, Any]) -> dict[str, Any]:
        """Runs a graph and returns the answer. Raises `RunFailed`, `Refused`."""
        sink = EventSink(self._scope, int(params.get("credit") or 0))
        self._scope.credit = sink.give
        config = self._configuration(params)
        told = encode.loads(params.get("context"))
        graph_input = await self._input(params, config)
        try:
            opening = Opening(
                access="threads.create_run",
                config=config,
                saver=self._saver,
                store=self._store,
                context=told,
                user=commands.user(config),
            )
            async with loaded.open(opening) as graph:
                await self._stream(graph, graph_input, config, told, params, sink)
                sink.finish()
                outcome = await self._outcome(graph, config)
            await self._saver.settle()
            return outcome
        except asyncio.CancelledError:
            await self._stored()
            if self._scope.cancelled is not None or self._scope.fatal is not None:
                raise
            raise RunFailed(to_wire(asyncio.CancelledError("a task was cancelled"))) from None
        # Everything that user code may raise, sys.exit() too, is the end of the run alone.
        except BaseException as err:
            _flush(sink)
            await self._stored()
            if self._scope.fatal is not None:
                raise self._scope.fatal from err
            raise RunFailed(self._told(err)) from err

    async def _stored(self) -> None:
        """Lets what was complete when the run failed be stored."""
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._saver.settle()
        except Exception as err:
            # The run has an error already; one that ends the request is in its scope.
            self._scope.failed(err)

    def _told(self, err: BaseException) -> dict[str, Any]:
        if isinstance(err, ServerError):
            # A refused call that a node did not handle: its own failure.
            return error("failed", message_of(err), err.class_name or type(err).__name__)
        refused = isinstance(err, _INPUT_REFUSED) and not self._began
        return to_wire(err, "invalid" if refused else "failed")

    def _configuration(self, params: dict[str, Any]) -> RunnableConfig:
        config = commands.configuration(params.get("config"))
        configurable, metadata = config["configurable"], config["metadata"]
        configurable["thread_id"] = params["thread_id"]
        configurable["run_id"] = params["run_id"]
        configurable.setdefault("graph_id", params["graph_id"])
        commands.place(config, params.get("checkpoint"))
        # The next attempt knows by it which checkpoints are its own.
        metadata["run_id"] = params["run_id"]
        metadata["thread_id"] = params["thread_id"]
        metadata["run_attempt"] = params.get("attempt") or 1
        metadata.setdefault("graph_id", params["graph_id"])
        metadata.setdefault("langgraph_version", langgraph_version)
        if (run_id := commands.as_uuid(params["run_id"])) is not None:
            config["run_id"] = run_id
        return config

    async def _input(self, params: dict[str, Any], config: RunnableConfig) -> Any:
        """The input, or `None` if an earlier attempt of this run came as far as a checkpoint."""
        if int(params.get("attempt") or 1) > 1:
            newest = await self._saver.aget_tuple(
                {"configurable": {"thread_id": params["thread_id"], "checkpoint_ns": ""}}
            )
            if newest is not None and newest.metadata.get("run_id") == params["run_id"]:
                commands.place(config, None)
                return None
        return commands.run_input(params.get("input"))

    async def _stream(
        self,
        graph: Graph,
        graph_input: Any,
        config: RunnableConfig,
        told: Any,
        params: dict[str, Any],
        sink: EventSink,
    ) -> None:
        wanted: list[str] = [*(params.get("modes") or ())]
        # Values are the answer, updates tell of interrupts: both are needed, reported or not.
        modes = cast(list[StreamMode], [*dict.fromkeys([*wanted, "values", "updates"])])
        subgraphs = bool(params.get("subgraphs"))
        before, after = params.get("interrupt_before"), params.get("interrupt_after")
        self._stopped = bool(
            before or after or graph.interrupt_before_nodes or graph.interrupt_after_nodes
        )
        stream = graph.astream(
            graph_input,
            config,
            context=context.of_run(graph, told, config["configurable"]),
            stream_mode=modes,
            output_keys=graph.output_channels,
            interrupt_before=before,
            interrupt_after=after,
            durability=cast(Durability | None, params.get("durability")),
            subgraphs=subgraphs,
        )
        # Closed whatever happens, or the graph would go on after the answer.
        async with aclosing(cast(AsyncGenerator[Any, None], stream)) as parts:
            async for part in parts:
                ns, mode, data = part if subgraphs else ((), *part)
                self._began = True
                text = await sink.send(ns, mode, data) if mode in wanted else None
                if not ns:
                    self._look(mode, data, text)

    def _look(self, mode: str, data: Any, text: bytes | None) -> None:
        """Takes note of what the answer needs."""
        asked = isinstance(data, Mapping) and _INTERRUPT in data
        if asked and mode in ("values", "updates"):
            self._stopped = True
        if mode == "values":
            if asked:
                data = {key: value for key, value in data.items() if key != _INTERRUPT}
                text = None
                if not data:
                    return
            self._last_values, self._last_json = data, text

    async def _outcome(self, graph: Graph, config: RunnableConfig) -> dict[str, Any]:
        values = self._last_json or encode.dumps(self._last_values)
        if not self._stopped:
            return {"values": values, "interrupts": b"[]", "next": []}
        commands.place(config, None)
        state = await graph.aget_state(config)
        return {
            "values": values,
            "interrupts": encode.dumps([encode.interrupt(asked) for asked in state.interrupts]),
            "next": [*state.next],
        }


def _flush(sink: EventSink) -> None:
    """Sends what a failed run reported; its error matters more than one of the connection."""
    try:
        sink.flush()
    except (ValueError, OSError):
        pass
