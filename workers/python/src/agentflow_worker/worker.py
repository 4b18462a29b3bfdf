"""The worker: takes requests, works on many at once, answers each."""

import asyncio
import functools
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.store.base import TTLConfig

from agentflow_worker import commands, describe, encode, states
from agentflow_worker.errors import Refused, ServerError, clean, error, to_wire
from agentflow_worker.graphs import Access, Graph, Loaded, Opening
from agentflow_worker.link import Link, Watch
from agentflow_worker.runs import Run, RunFailed
from agentflow_worker.saver import RemoteSaver
from agentflow_worker.scope import Scope, current
from agentflow_worker.store import RemoteStore
from agentflow_worker.threads import Threads

Handler = Callable[[Scope, dict[str, Any]], Awaitable[Any]]

_STILL_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_EXIT_SECONDS = 2.0


class Worker:
    """Serves the graphs of a project over a link."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._graphs: dict[str, Loaded] = {}
        self._serde = JsonPlusSerializer()
        self._ttl: TTLConfig | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._scopes: dict[int, Scope] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._closed: str | None = None
        self._handlers: dict[str, Handler] = {
            "run": self._run,
            "state.get": self._state_get,
            "state.history": self._state_history,
            "state.update": self._state_update,
            "graph.schemas": self._schemas,
            "graph.drawing": self._drawing,
            "graph.subgraphs": self._subgraphs,
            "drain": self._drain,
        }

    def offer(self, graphs: list[Loaded], serde: JsonPlusSerializer, ttl: TTLConfig | None) -> None:
        """What is served from now on."""
        self._graphs = {loaded.graph_id: loaded for loaded in graphs}
        self._serde, self._ttl = serde, ttl

    async def serve(self, ready: dict[str, Any]) -> None:
        """Says `ready`, then works until the connection is closed or the server drained it."""
        assert self.link is not None
        loop = self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        if self._closed is not None:
            return
        loop.set_default_executor(Threads())
        watch = Watch(loop)
        self.link.every(_LOOK_SECONDS, _StallReport(watch, self.link).look)
        self.link.notify("ready", ready)
        await self._over.wait()
        for task in self._tasks.values():
            task.cancel()

    # In the thread of the connection

    def on_request(self, call_id: int, method: str, params: dict[str, Any]) -> None:
        if self._loop is None:
            self._refuse(call_id, error("invalid", "not ready yet"))
        else:
            self._loop.call_soon_threadsafe(self._begin, call_id, method, params)

    def on_notice(self, method: str, params: dict[str, Any]) -> None:
        if self._loop is None:
            return
        if method == "cancel":
            reason = str(params.get("reason") or "cancel")
            self._loop.call_soon_threadsafe(self._cancel, params.get("for"), reason)
        elif method == "run.credit":
            self._loop.call_soon_threadsafe(self._credit, params.get("for"), params.get("bytes"))

    def on_closed(self, reason: str) -> None:
        self._closed = reason
        # Whatever user code does, nobody is left to do it for.
        timer = threading.Timer(_EXIT_SECONDS, os._exit, (0,))
        timer.daemon = True
        timer.start()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    # In the loop

    def _end(self) -> None:
        for scope in self._scopes.values():
            scope.cancelled = scope.cancelled or "the connection was lost"
        assert self._over is not None
        self._over.set()

    def _begin(self, call_id: int, method: str, params: dict[str, Any]) -> None:
        if method == "ping":
            self._answer(call_id, {"rss_bytes": rss_bytes()})
            return
        handler = self._handlers.get(method)
        if handler is None:
            self._refuse(call_id, error("invalid", f"unknown method {method!r}"))
            return
        assert self.link is not None and self._loop is not None
        scope = self._scopes[call_id] = Scope(self.link, call_id)
        task = self._loop.create_task(self._work(scope, handler, params))
        scope.stop = functools.partial(self._stop, task)
        self._tasks[call_id] = task
        task.add_done_callback(functools.partial(self._done, call_id))

    def _stop(self, task: "asyncio.Task[None]") -> None:
        """Any thread may call it."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)

    def _done(self, call_id: int, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(call_id, None)
        self._scopes.pop(call_id, None)
        if not task.cancelled() and (err := task.exception()) is not None:
            traceback.print_exception(err)

    def _cancel(self, call_id: Any, reason: str) -> None:
        scope, task = self._scopes.get(call_id), self._tasks.get(call_id)
        if scope is not None and task is not None and scope.cancelled is None:
            scope.cancelled = reason
            task.cancel()

    def _credit(self, call_id: Any, credit: Any) -> None:
        scope = self._scopes.get(call_id)
        if scope is not None and scope.credit is not None and isinstance(credit, int):
            scope.credit(credit)

    async def _work(self, scope: Scope, handler: Handler, params: dict[str, Any]) -> None:
        """Works on a request and answers it, whatever happens."""
        current.set(scope)
        try:
            result = await handler(scope, params)
            if scope.cancelled is not None:
                self._refuse(scope.call_id, _cancelled(scope))
            elif scope.fatal is not None:
                # User code swallowed it.
                self._refuse(scope.call_id, to_wire(scope.fatal))
            else:
                self._answer(scope.call_id, result)
        except BaseException as err:
            self._refuse(scope.call_id, _told(scope, err))
        finally:
            scope.answered = True

    def _answer(self, call_id: int, result: Any) -> None:
        assert self.link is not None
        try:
            self.link.answer(call_id, result)
        except (ValueError, TypeError) as err:
            self._refuse(call_id, error("invalid", str(err), "ValueError"))

    def _refuse(self, call_id: int, told: dict[str, Any]) -> None:
        if self.link is not None:
            self.link.refuse(call_id, told)

    # Requests

    def _loaded(self, params: dict[str, Any]) -> Loaded:
        graph_id = params.get("graph_id")
        loaded = self._graphs.get(str(graph_id))
        if loaded is None:
            raise Refused("not_found", f"no graph {graph_id!r} in this project")
        return loaded

    @asynccontextmanager
    async def _graph(
        self, scope: Scope, params: dict[str, Any], access: Access, config: RunnableConfig
    ) -> AsyncIterator[Graph]:
        loaded = self._loaded(params)
        saver, store = RemoteSaver(scope, self._serde), RemoteStore(scope, self._ttl)
        opening = Opening(access, config, saver, store, user=commands.user(config))
        async with loaded.open(opening) as graph:
            yield graph

    async def _run(self, scope: Scope, params: dict[str, Any]) -> Any:
        ahead = params.get("durability") == "async"
        saver = RemoteSaver(scope, self._serde, ahead)
        run = Run(scope, saver, RemoteStore(scope, self._ttl))
        return await run.execute(self._loaded(params), params)

    async def _state_get(self, scope: Scope, params: dict[str, Any]) -> bytes:
        config = commands.configuration(params.get("config"))
        commands.place(config, params["checkpoint"])
        async with self._graph(scope, params, "threads.read", config) as graph:
            return await states.get(graph, params)

    async def _state_history(self, scope: Scope, params: dict[str, Any]) -> bytes:
        config = commands.configuration(params.get("config"))
        commands.place(config, params["checkpoint"])
        async with self._graph(scope, params, "threads.read", config) as graph:
            return await states.history(graph, params)

    async def _state_update(self, scope: Scope, params: dict[str, Any]) -> dict[str, Any]:
        config = commands.configuration(params.get("config"))
        async with self._graph(scope, params, "threads.update", config) as graph:
            return await states.update(graph, config, params)

    async def _schemas(self, scope: Scope, params: dict[str, Any]) -> bytes:
        async with self._graph(scope, params, "assistants.read", _no_config()) as graph:
            return encode.dumps(describe.schemas(graph))

    async def _drawing(self, scope: Scope, params: dict[str, Any]) -> bytes:
        async with self._graph(scope, params, "assistants.read", _no_config()) as graph:
            return encode.dumps(await describe.drawing(graph, int(params.get("depth") or 0)))

    async def _subgraphs(self, scope: Scope, params: dict[str, Any]) -> bytes:
        async with self._graph(scope, params, "assistants.read", _no_config()) as graph:
            namespace, recurse = params.get("namespace"), bool(params.get("recurse"))
            return encode.dumps(describe.subgraphs(graph, namespace, recurse))

    async def _drain(self, scope: Scope, params: dict[str, Any]) -> dict[str, Any]:
        others = [task for call_id, task in self._tasks.items() if call_id != scope.call_id]
        if others:
            await asyncio.wait(others)
        assert self._loop is not None and self._over is not None
        # After the answer is on its way.
        self._loop.call_soon(self._loop.call_soon, self._over.set)
        return {}


def _no_config() -> RunnableConfig:
    return RunnableConfig(configurable={}, metadata={}, tags=[])


def _told(scope: Scope, err: BaseException) -> dict[str, Any]:
    """The error that a request is answered with."""
    if scope.cancelled is not None:
        return _cancelled(scope)
    if scope.fatal is not None:
        return to_wire(scope.fatal)
    if isinstance(err, RunFailed):
        return err.error
    if isinstance(err, ServerError | Refused):
        return to_wire(err)
    return to_wire(err, "failed")


def _cancelled(scope: Scope) -> dict[str, Any]:
    told = error("cancelled", f"cancelled: {scope.cancelled}")
    if scope.threads:
        told["stuck_threads"] = scope.threads
    return told


class _StallReport:
    """Tells in the log what keeps the loop busy, once per stall, while it does."""

    def __init__(self, watch: Watch, link: Link) -> None:
        self._watch = watch
        self._link = link
        self._loop_thread = threading.get_ident()
        self._told = False

    def look(self) -> None:
        """Runs in the thread of the connection."""
        still = self._watch.still_for()
        if still >= _STILL_SECONDS and not self._told:
            self._told = True
            self._report(still)
        elif still == 0.0:
            self._told = False
        self._watch.ask()

    def _report(self, still: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        stack = clean("".join(traceback.format_stack(frame)[-12:])) if frame else ""
        message = (
            f"asynchronous code has blocked all runs of this process for {still:.1f} s; "
            f"make it await, or make the node synchronous (it gets a thread then):\n{stack}"
        )
        told = {"for": None, "level": "warning", "target": "agentflow_worker", "message": message}
        self._link.notify("log", told)


def rss_bytes() -> int:
    """Memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def ttl_config(store: Any) -> TTLConfig | None:
    """The `ttl` settings of the server's store, as LangGraph knows them."""
    ttl = store.get("ttl") if isinstance(store, dict) else None
    return cast(TTLConfig, ttl) if isinstance(ttl, dict) else None
