"""Reading `langgraph.json`."""

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NOT_SERVED = {
    "auth": "authentication is AgentFlow's own: see its docs/auth.md",
    "ui": "user interface components are not served",
    "webhooks": "webhooks are configured in agentflow.toml",
    "encryption": "custom encryption of stored data is not applied",
    "priority": "priorities of runs are not applied",
    "dockerfile_lines": "Docker instructions are not run",
    "node_version": "only the Python graphs are served",
}

_HTTP_SERVED_ELSEWHERE = "is configured in agentflow.toml"


class ProjectError(Exception):
    """`langgraph.json` cannot be used at all."""


@dataclass(frozen=True)
class GraphSpec:
    """One entry of `graphs`."""

    graph_id: str
    target: str
    description: str | None = None
    error: str | None = None
    """Why the entry itself is wrong."""


@dataclass(frozen=True)
class Project:
    """What `langgraph.json` says, as far as a worker cares."""

    folder: Path
    graphs: list[GraphSpec]
    env: dict[str, str]
    roots: list[Path]
    """Folders that modules are imported from, best first."""
    serde: dict[str, Any]
    """Settings of the serializer."""
    notes: list[str] = field(default_factory=list)
    """What is not supported, in words for people."""

    def enter(self) -> None:
        """Sets variables that are not set, and the import path."""
        for name, value in self.env.items():
            os.environ.setdefault(name, value)
        for root in self.roots:
            if str(root) not in sys.path:
                sys.path.append(str(root))


def read(path: Path) -> Project:
    """Reads a `langgraph.json`. Raises `ProjectError`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ProjectError(f"{path} cannot be read: {err.strerror}") from err
    except ValueError as err:
        raise ProjectError(f"{path} is not JSON: {err}") from err
    if not isinstance(config, dict) or not isinstance(config.get("graphs"), dict):
        raise ProjectError(f'{path} has no "graphs"')
    folder = path.resolve().parent
    notes: list[str] = []
    roots = _roots(folder, config.get("dependencies"), notes)
    env = _env(folder, config.get("env"), notes)
    notes += _notes(config)
    checkpointer = config.get("checkpointer")
    serde = checkpointer.get("serde") if isinstance(checkpointer, dict) else None
    return Project(
        folder=folder,
        graphs=[_spec(str(graph_id), value) for graph_id, value in config["graphs"].items()],
        env=env,
        roots=roots,
        serde=serde if isinstance(serde, dict) else {},
        notes=notes,
    )


def _spec(graph_id: str, value: Any) -> GraphSpec:
    description = None
    if isinstance(value, dict):
        told = value.get("description")
        description = told if isinstance(told, str) else None
        value = value.get("path")
    if not isinstance(value, str) or ":" not in value:
        return GraphSpec(
            graph_id, "", description, f"graph {graph_id!r} is not './file.py:variable': {value!r}"
        )
    if re.search(r"\.[cm]?[jt]sx?:", value):
        return GraphSpec(
            graph_id, value, description, f"graph {graph_id!r} is JavaScript; this worker is Python"
        )
    return GraphSpec(graph_id, value, description)


def _roots(folder: Path, dependencies: Any, notes: list[str]) -> list[Path]:
    roots: list[Path] = []
    for dependency in dependencies if isinstance(dependencies, list) else []:
        if not isinstance(dependency, str):
            continue
        path = (folder / dependency).resolve()
        if path.is_dir():
            # The usual layout of a package that was not installed.
            roots += [path / "src"] if (path / "src").is_dir() and _packaged(path) else []
            roots.append(path)
        elif dependency.startswith((".", "/")):
            notes.append(f"dependency {dependency!r} is no folder")
    if folder not in roots:
        roots.append(folder)
    return roots


def _packaged(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("pyproject.toml", "setup.py", "setup.cfg"))


def _env(folder: Path, env: Any, notes: list[str]) -> dict[str, str]:
    if isinstance(env, dict):
        return {str(name): str(value) for name, value in env.items()}
    if isinstance(env, str) and env:
        path = folder / env
        try:
            return parse_env(path.read_text(encoding="utf-8"))
        except OSError as err:
            notes.append(f"env file {env!r} cannot be read: {err.strerror}")
        except UnicodeDecodeError:
            notes.append(f"env file {env!r} is not UTF-8")
    if isinstance(env, list):
        missing = [name for name in env if isinstance(name, str) and name not in os.environ]
        if missing:
            notes.append(f"variables are not set: {', '.join(missing)}")
    return {}


_ENV_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*=[ \t]*
        (?: '(?P<literal>[^']*)' | "(?P<quoted>(?:\\.|[^"\\])*)" | (?P<bare>[^\r\n]*) )""",
    re.MULTILINE | re.VERBOSE,
)
_ENV_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")
_ENV_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env(text: str) -> dict[str, str]:
    """The variables of a `.env` file: quotes, comments, `export`, `${NAME:-default}`."""
    found: dict[str, str] = {}

    def refer(match: re.Match[str]) -> str:
        name = match["name"]
        return os.environ.get(name, found.get(name, match["default"] or ""))

    for match in _ENV_LINE.finditer(text):
        if match["literal"] is not None:
            value = match["literal"]
        elif match["quoted"] is not None:
            value = re.sub(
                r"\\(.)", lambda m: _ENV_ESCAPES.get(m[1], m[1]), match["quoted"], flags=re.DOTALL
            )
            value = _ENV_REFERENCE.sub(refer, value)
        else:
            value = re.sub(r"(?:^|\s+)#.*$", "", match["bare"]).rstrip()
            value = _ENV_REFERENCE.sub(refer, value)
        found[match["name"]] = value
    return found


def _notes(config: dict[str, Any]) -> list[str]:
    notes = [f"{key}: {why}" for key, why in _NOT_SERVED.items() if config.get(key)]
    http = config.get("http")
    if isinstance(http, dict):
        if http.get("app"):
            notes.append(
                f"http.app: custom routes ({http['app']}) are not served by AgentFlow; serve them "
                "from a server of their own and put both behind one proxy"
            )
        others = sorted(key for key, value in http.items() if key != "app" and value)
        notes += [f"http.{key} {_HTTP_SERVED_ELSEWHERE}" for key in others]
    checkpointer = config.get("checkpointer")
    if isinstance(checkpointer, dict):
        if checkpointer.get("path"):
            notes.append("checkpointer.path: checkpoints are kept by AgentFlow")
        if checkpointer.get("ttl"):
            notes.append("checkpointer.ttl: how long threads are kept is set in agentflow.toml")
        serde = checkpointer.get("serde")
        if isinstance(serde, dict) and serde.get("pickle_fallback"):
            notes.append("checkpointer.serde.pickle_fallback: pickle is never written or read")
    notes += _version_note(config.get("python_version"))
    return notes


def _version_note(wanted: Any) -> list[str]:
    have = f"{sys.version_info.major}.{sys.version_info.minor}"
    if isinstance(wanted, str | float) and str(wanted) != have:
        return [f"python_version: the project asks for {wanted}, this is {have}"]
    return []
