"""Loading the graphs of a project, and opening them for a request."""

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import StateGraph
from langgraph.pregel import Pregel

from agentflow_worker.errors import Refused, to_wire
from agentflow_worker.project import GraphSpec, Project
from agentflow_worker.saver import RemoteSaver
from agentflow_worker.store import RemoteStore
from agentflow_worker.user import User

Access = Literal["threads.create_run", "threads.update", "threads.read", "assistants.read"]
"""Why a graph is opened; factories may ask."""

Graph = Pregel[Any, Any, Any, Any]

_DEFAULT_NAME = "LangGraph"


class NotAGraph(TypeError):
    """What `langgraph.json` names is nothing that can be run."""


@dataclass(frozen=True)
class Opening:
    """What a graph is opened with."""

    access: Access
    config: RunnableConfig
    saver: RemoteSaver
    store: RemoteStore
    context: Any = None
    user: User | None = None


@dataclass
class Loaded:
    """A graph of the project: a value to copy, a factory to call, or an error to tell."""

    graph_id: str
    description: str | None
    value: Graph | None = None
    factory: "Factory | None" = None
    error: dict[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """As `ready` tells it."""
        name = self.value.name if self.value is not None else _DEFAULT_NAME
        return {
            "graph_id": self.graph_id,
            "name": self.graph_id if name == _DEFAULT_NAME else name,
            "description": self.description,
            "factory": self.factory is not None,
            "error": self.error,
        }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Graph]:
        """The graph with the saver and the store of one request."""
        if self.error is not None:
            raise Refused(
                self.error["kind"], self.error["message"], self.error.get("class")
            ) from None
        if self.value is not None:
            yield self._prepared(self.value, opening)
            return
        assert self.factory is not None
        async with self.factory.make(opening) as made:
            yield self._prepared(as_graph(made, self.graph_id), opening)

    def _prepared(self, graph: Graph, opening: Opening) -> Graph:
        """A copy, because requests share the graph and not the saver."""
        prepared = copy.copy(graph)
        prepared.checkpointer = opening.saver
        prepared.store = opening.store
        if prepared.name == _DEFAULT_NAME:
            prepared.name = self.graph_id
        return prepared


def load(project: Project, wanted: list[str] | None) -> list[Loaded]:
    """Imports the graphs that are wanted, `None` for all. One that fails does not stop others."""
    specs = [spec for spec in project.graphs if wanted is None or spec.graph_id in wanted]
    return [_load(project, spec) for spec in specs]


def _load(project: Project, spec: GraphSpec) -> Loaded:
    loaded = Loaded(spec.graph_id, spec.description)
    if spec.error is not None:
        loaded.error = {"kind": "invalid", "class": "ValueError", "message": spec.error}
        return loaded
    try:
        value = resolve(project, spec.target)
        if isinstance(value, Pregel | StateGraph):
            loaded.value = as_graph(value, spec.graph_id)
        elif callable(value):
            loaded.factory = Factory(value, spec.graph_id)
        else:
            raise NotAGraph(
                f"{spec.target} is a {type(value).__name__}, neither a graph nor a function"
            )
    # A module may call sys.exit() while it is imported.
    except (Exception, SystemExit) as err:
        loaded.error = to_wire(err)
    return loaded


def as_graph(value: Any, graph_id: str) -> Graph:
    """A compiled graph. Raises `NotAGraph`."""
    if isinstance(value, Pregel):
        return value
    if isinstance(value, StateGraph):
        return cast(Graph, value.compile(name=graph_id))
    raise NotAGraph(f"graph {graph_id!r} is a {type(value).__name__}, not a LangGraph graph")


# Finding the variable


def resolve(project: Project, target: str) -> Any:
    """The value of `./file.py:variable` or `module:variable`; the variable may have dots."""
    where, _, variable = target.rpartition(":")
    if where.endswith(".py") or "/" in where:
        module = import_file((project.folder / where).resolve(), project.roots)
    else:
        module = importlib.import_module(where)
    value: Any = module
    for part in variable.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise AttributeError(f"{where} has no {variable!r}{_candidates(module)}") from None
    return value


def _candidates(module: ModuleType) -> str:
    names = sorted(
        name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)
    )
    return f"; graphs in it: {', '.join(names)}" if names else ""


def import_file(file: Path, roots: list[Path]) -> ModuleType:
    """Imports a file under the name that other modules of the project know it by.

    The name matters: relative imports need it, and it is part of what is stored for instances of
    the classes in the file. If no name leads to the file it is imported under a name of its own.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    for name in _names(file, roots):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None and spec.origin and Path(spec.origin).resolve() == file:
            return importlib.import_module(name)
    # Its neighbours may be imported by their bare names.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    name = "agentflow_graphs_" + "_".join(file.with_suffix("").parts[-2:]).replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _names(file: Path, roots: list[Path]) -> list[str]:
    """Dotted names that may lead to a file: as its package says, else from each root."""
    bare = file.with_suffix("")
    names: list[str] = []
    top = file.parent
    while (top / "__init__.py").exists():
        top = top.parent
    if top != file.parent:
        names.append(_dotted(bare, top))
    names += [_dotted(bare, root) for root in roots if bare.is_relative_to(root)]
    return [name for name in dict.fromkeys(names) if all(map(str.isidentifier, name.split(".")))]


def _dotted(bare: Path, root: Path) -> str:
    parts = bare.relative_to(root).parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Factories


class Factory:
    """A function that makes a graph for each request.

    It takes nothing, the configuration, the server's runtime, or both; it returns the graph, an
    awaitable of it, or a context manager, of either kind, around it.
    """

    def __init__(self, function: Callable[..., Any], graph_id: str) -> None:
        self._graph_id = graph_id
        self._arguments = _arguments(function, graph_id)
        if inspect.isasyncgenfunction(function):
            function = asynccontextmanager(function)
        elif inspect.isgeneratorfunction(function):
            function = contextmanager(function)
        self._function = function

    @asynccontextmanager
    async def make(self, opening: Opening) -> AsyncIterator[Any]:
        """What the function makes, for as long as it is needed."""
        values = {"config": opening.config, "runtime": None}
        if "runtime" in self._arguments.values():
            values["runtime"] = server_runtime(opening)
        arguments = {name: values[kind] for name, kind in self._arguments.items()}
        made = self._function(**arguments)
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, Pregel | StateGraph):
            yield made
        elif isinstance(made, AbstractAsyncContextManager):
            async with made as inner:
                yield inner
        elif isinstance(made, AbstractContextManager):
            with made as inner:
                yield inner
        else:
            yield made


def _arguments(function: Callable[..., Any], graph_id: str) -> dict[str, str]:
    """Which argument of a factory gets the configuration, which the runtime."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    kinds: dict[str, str] = {}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
        raise NotAGraph(f"graph factory {graph_id!r} has arguments without a name")
    for parameter in positional:
        kind = _kind(parameter)
        # Whatever the name: LangGraph's server passes the configuration too.
        if len(positional) == 1 and parameter.annotation is parameter.empty:
            kind = "config" if parameter.default is parameter.empty else kind
        if kind is not None and kind not in kinds.values():
            kinds[parameter.name] = kind
        elif parameter.default is parameter.empty:
            raise NotAGraph(
                f"graph factory {graph_id!r} wants {parameter.name!r}; it can have a "
                "RunnableConfig and a ServerRuntime"
            )
    return kinds


def _kind(parameter: inspect.Parameter) -> str | None:
    annotation = parameter.annotation
    told = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    told = told or str(annotation)
    if annotation is RunnableConfig or "RunnableConfig" in told:
        return "config"
    if "ServerRuntime" in told or "ServerRuntime" in str(annotation):
        return "runtime"
    if annotation is parameter.empty or annotation in (dict, Any):
        return {"config": "config", "runtime": "runtime"}.get(parameter.name)
    return "config" if parameter.name == "config" else None


def server_runtime(opening: Opening) -> Any:
    """What `langgraph_sdk` calls the runtime of a server, if it knows such a thing."""
    try:
        from langgraph_sdk import runtime as sdk
    except ImportError as err:
        raise Refused("invalid", "a factory with a runtime needs a newer langgraph-sdk") from err
    common: dict[str, Any] = {
        "access_context": opening.access,
        "user": opening.user,
        "store": opening.store,
    }
    if opening.access == "threads.create_run":
        return sdk._ExecutionRuntime(**common, context=opening.context)
    return sdk._ReadRuntime(**common)
