"""Every command of `mem0-cli` from PyPI.

Commands are enumerated from the program, so that one that is new, or gone, fails here with its
name.
"""

import asyncio
import datetime
import json
import os
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from mem0_cli.app import app

from conftest import DEPLOYMENTS, HERE, KEY, PAGE, client, fresh, ids, until
from documented import UPDATE, cells, section
from proxy import Proxy
from wire import note, requests

PROGRAM = str(Path(sys.executable).parent / "mem0")
TIMEOUT_SECONDS = 60
# What belongs to the hosted platform; the server refuses it, and the program says why.
NOT_OFFERED = {
    "identify": "names an agent that signed itself up; the server makes no accounts for strangers",
    "agent-rush add": "a game of the hosted platform",
    "agent-rush search": "a game of the hosted platform",
}
CHECKS = {}


def check(name):
    def register(function):
        assert name not in CHECKS
        CHECKS[name] = function
        return function

    return register


def commands(command=None, name=""):
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield name
        return
    for part, inner in command.commands.items():
        yield from commands(inner, f"{name} {part}".strip())


class Cli:
    """The program with a home of its own."""

    def __init__(self, home, proxy, key=KEY):
        self.home = home
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "MEM0_TELEMETRY": "false",
            "MEM0_BASE_URL": proxy.url,
            "NO_COLOR": "1",
            "TERM": "dumb",
            "COLUMNS": "200",
        }
        if key:
            self.env["MEM0_API_KEY"] = key

    def run(self, *args, code=0, stdin=None):
        """What the program printed as its output, and besides."""
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        ended = subprocess.run(
            [PROGRAM, *args], env=self.env, cwd=self.home, capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS, **given,
        )
        assert ended.returncode == code, (args, ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.stdout, ended.stderr

    def play(self, *args, **options):
        """All that the program printed."""
        return "".join(self.run(*args, **options))

    def json(self, *args, **options):
        """Data of the program's answer to an agent."""
        answer = json.loads(self.run("--json", *args, **options)[0])
        assert answer["status"] == "success"
        return answer["data"]

    def add(self, text, *args):
        [one] = self.json("add", text, "--no-infer", *args)
        assert (one["event"], one["memory"]) == ("ADD", text)
        return one["id"]

    def config(self, **platform):
        folder = self.home / ".mem0"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"platform": platform}))

    def saved(self):
        return json.loads((self.home / ".mem0" / "config.json").read_text())


@pytest.fixture
def cli(tmp_path):
    with Proxy() as proxy:
        cli = Cli(tmp_path, proxy)
        cli.proxy = proxy
        yield cli


@check("add")
def _(cli):
    user = fresh()
    day = str(datetime.date.today() + datetime.timedelta(days=3))
    memory = cli.add(
        "likes tea", "-u", user, "--agent-id", "g", "--app-id", "p", "--run-id", "r",
        "--metadata", '{"k": 1}', "--expires", day, "--timestamp", "1600000000",
    )
    one = client().get(memory)
    assert (one["memory"], one["metadata"], one["expiration_date"]) == ("likes tea", {"k": 1}, day)
    assert (one["user_id"], one["agent_id"], one["app_id"]) == (user, "g", "p")
    assert one["created_at"].startswith("2020-09-13")
    talk = '[{"role": "user", "content": "likes milk"}, {"role": "assistant", "content": "noted"}]'
    assert len(cli.json("add", "--messages", talk, "--no-infer", "-u", user)) == 2
    (cli.home / "talk.json").write_text(talk)
    assert len(cli.json("add", "--file", "talk.json", "--no-infer", "-u", user)) == 2
    printed = cli.play("add", "--no-infer", "-u", user, stdin="likes rain")
    assert "Added" in printed and "likes rain" in printed
    # Read by the model, with all that it may be told.
    [queued] = cli.json(
        "add", "My daughter is called Nora.", "-u", user, "--custom-instructions", "Only facts.",
        "--agent-custom-instructions", "Short.",
        "--custom-categories", '[{"family": "Relatives"}]',
        "--structured-data-schema", '{"type": "object"}',
    )
    assert queued["status"] == "PENDING"
    fixed = cli.add("is born in May", "-u", user, "--immutable")
    assert "immutable" in cli.play("update", fixed, "is born in June", code=1)
    assert "required" in cli.play("add", "belongs to nobody", "--no-infer", code=1)


@check("search")
def _(cli):
    user = fresh()
    tea = cli.add("drinks green tea", "-u", user, "--metadata", '{"k": "tea"}')
    cli.add("plays chess", "-u", user, "--agent-id", "g")
    found = cli.json("search", "green tea", "-u", user, "--threshold", "0", "-k", "5")
    assert found[0]["id"] == tea and 0 < found[0]["score"] <= 1
    options = ["--rerank", "--show-expired", "--latest-only", "--reference-date", "2026-01-01"]
    assert cli.json("search", "green tea", "-u", user, "-k", "1", *options)[0]["id"] == tea
    words = cli.json("search", "chess", "-u", user, "--agent-id", "g", "--keyword")
    assert [one["memory"] for one in words] == ["plays chess"]
    by = json.dumps({"AND": [{"user_id": user}, {"metadata": {"k": "tea"}}]})
    assert [one["id"] for one in cli.json("search", "tea", "--filter", by)] == [tea]
    assert "drinks green tea" in cli.play("search", "green tea", "-u", user)
    assert tea in cli.play("search", "green tea", "-u", user, "-o", "table")
    printed, _ = cli.run("search", "green tea", "-u", user, "-o", "json", "--fields", "memory")
    raw = json.loads(printed)
    assert raw[0]["memory"] == "drinks green tea"
    assert "Bad request" in cli.play("search", "tea", code=1)


@check("get")
def _(cli):
    memory = cli.add("likes tea", "-u", fresh(), "--metadata", '{"k": 1}')
    one = cli.json("get", memory)
    assert (one["id"], one["memory"], one["metadata"]) == (memory, "likes tea", {"k": 1})
    assert "likes tea" in cli.play("get", memory)
    assert "not found" in cli.play("get", str(uuid.uuid4()), code=1)
    assert "Bad request" in cli.play("get", "a/b", code=1)


@check("list")
def _(cli):
    user = fresh()
    stored = [cli.add(f"likes {what}", "-u", user) for what in ("a", "b", "c")]
    assert {one["id"] for one in cli.json("list", "-u", user)} == set(stored)
    pages = [cli.json("list", "-u", user, "--page", n, "--page-size", "2") for n in ("1", "2")]
    assert [len(page) for page in pages] == [2, 1]
    today = datetime.date.today()
    yesterday, tomorrow = (str(today + datetime.timedelta(days=by)) for by in (-1, 1))
    window = ["--after", yesterday, "--before", tomorrow]
    assert len(cli.json("list", "-u", user, *window)) == 3
    assert cli.json("list", "-u", user, "--after", tomorrow) == []
    assert cli.json("list", "-u", user, "--category", "food", "--show-expired") == []
    assert "likes b" in cli.play("list", "-u", user, "--latest-only")
    assert "Bad request" in cli.play("list", code=1)


@check("update")
def _(cli):
    user = fresh()
    memory = cli.add("likes tea", "-u", user)
    day = str(datetime.date.today() + datetime.timedelta(days=3))
    changed = cli.json(
        "update", memory, "likes milk", "-m", '{"k": 1}', "--expires", day, "--timestamp", "1600000000"
    )
    assert (changed["id"], changed["memory"], changed["expiration_date"]) == (memory, "likes milk", day)
    assert client().get(memory)["metadata"] == {"k": 1}
    cli.play("update", memory, stdin="likes rain")
    assert client().get(memory)["memory"] == "likes rain"


@check("delete")
def _(cli):
    user, app_id = fresh(), fresh("app")
    one, two, three = [cli.add(f"likes {what}", "-u", user) for what in ("a", "b", "c")]
    other = cli.add("likes d", "--app-id", app_id)
    assert "No changes made" in cli.play("delete", one, "--dry-run")
    assert cli.json("delete", one, "--delete-linked") == {"id": one, "deleted": True}
    assert "not found" in cli.play("get", one, code=1)
    assert "Would delete 2" in cli.play("delete", "--all", "-u", user, "--dry-run")
    # Without a scope nothing is removed.
    assert "Bad request" in cli.play("delete", "--all", "--force", code=1)
    assert ids(client().get_all(filters={"user_id": user})) == {two, three}
    cli.play("delete", "--all", "-u", user, "--force")

    def emptied(by):
        async def is_empty():
            return not ids(client().get_all(filters=by))

        return until(is_empty)

    asyncio.run(emptied({"user_id": user}))
    assert client().get(other)["memory"] == "likes d"
    cli.play("delete", "--entity", "--app-id", app_id, "--force")
    asyncio.run(emptied({"app_id": app_id}))
    # The whole project.
    cli.add("likes e", "-u", user)
    cli.add("likes f", "--agent-id", fresh("agent"))
    cli.json("delete", "--all", "--project", "--force")
    asyncio.run(emptied({"OR": [{"user_id": "*"}, {"agent_id": "*"}]}))


@check("import")
def _(cli):
    user = fresh()
    rows = [{"memory": "My daughter is called Nora."}, {"text": "I live in Bern."}, {"id": 1}]
    (cli.home / "rows.json").write_text(json.dumps(rows))
    assert cli.json("import", "rows.json", "-u", user) == {"added": 2, "failed": 1}

    async def learned():
        found = {one["memory"] for one in client().get_all(filters={"user_id": user})["results"]}
        return {"Has a daughter called Nora", "Lives in Bern"} <= found

    asyncio.run(until(learned))


@check("entity list")
def _(cli):
    owner = {kind: fresh(kind) for kind in ("user", "agent", "app", "run")}
    cli.add("likes tea", *[part for kind, name in owner.items() for part in (f"--{kind}-id", name)])
    for kind, name in owner.items():
        found = cli.json("entity", "list", f"{kind}s")
        assert name in [one["name"] for one in found]
        assert {one["type"] for one in found} == {kind}
    assert owner["user"] in cli.play("entity", "list", "users")


@check("entity delete")
def _(cli):
    odd, agent = fresh("a b/c?"), fresh("agent")
    memory = cli.add("likes tea", "-u", odd)
    other = cli.add("likes milk", "--agent-id", agent)
    assert "Would delete" in cli.play("entity", "delete", "-u", odd, "--dry-run")
    answer = cli.json("entity", "delete", "-u", odd, "--agent-id", agent, "--force")
    assert answer == {"deleted": True}

    async def removed():
        users = [one["name"] for one in cli.json("entity", "list", "users")]
        return odd not in users

    asyncio.run(until(removed))
    for gone in (memory, other):
        cli.play("get", gone, code=1)


@check("event status")
def _(cli):
    user = fresh()
    [queued] = cli.json("add", "I live in Bern.", "-u", user)

    async def over():
        event = cli.json("event", "status", queued["event_id"])
        return event if event["status"] == "SUCCEEDED" else None

    event = asyncio.run(until(over))
    assert (event["id"], event["event_type"]) == (queued["event_id"], "ADD")
    [result] = event["results"]
    assert (result["event"], result["memory"], result["user_id"]) == ("ADD", "Lives in Bern", user)
    assert event["latency"] >= 0
    assert "Lives in Bern" in cli.play("event", "status", queued["event_id"])
    cli.play("event", "status", str(uuid.uuid4()), code=1)


@check("event list")
def _(cli):
    [queued] = cli.json("add", "I live in Bern.", "-u", fresh())
    found = {one["id"]: one for one in cli.json("event", "list")}
    assert found[queued["event_id"]]["event_type"] == "ADD"
    assert queued["event_id"][:8] in cli.play("event", "list")


@check("status")
def _(cli):
    assert cli.json("status")["connected"] is True
    assert "Connected" in cli.play("status")
    cli.env["MEM0_API_KEY"] = "m0-nobody"
    assert "Invalid or expired API key" in cli.play("status", code=1)


@check("init")
def _(cli):
    del cli.env["MEM0_API_KEY"]
    assert "Connected" in cli.play("init", "--api-key", KEY, "--user-id", "mary")
    saved = cli.saved()
    assert (saved["platform"]["api_key"], saved["defaults"]["user_id"]) == (KEY, "mary")
    assert saved["platform"]["base_url"] == cli.proxy.url
    # From here on the file is enough.
    del cli.env["MEM0_BASE_URL"]
    memory = cli.add("likes tea")
    assert client().get(memory)["user_id"] == "mary"
    # An agent that has a key keeps it.
    cli.env["MEM0_BASE_URL"] = cli.proxy.url
    assert "reusing it" in cli.play("init", "--agent")
    assert "Could not connect" in cli.play("init", "--api-key", "m0-nobody", "-u", "x", "--force")
    # Accounts are made by the administrator.
    (cli.home / ".mem0" / "config.json").unlink()
    for strangers in (["--agent"], ["--email", "a@example.com", "--code", "1"], ["--email", "a@example.com"]):
        assert "API key" in cli.play("init", *strangers, code=1)


@check("whoami")
def _(cli):
    assert "default_user_id" in cli.play("whoami", code=1)
    cli.config(api_key=KEY, default_user_id="mary")
    assert "mary" in cli.play("whoami")


@check("identify")
def _(cli):
    assert "agent-mode" in cli.play("identify", "bot", code=1)
    cli.config(api_key=KEY, agent_mode=True)
    assert "Identify failed" in cli.play("identify", "bot", code=1)


@check("agent-rush add")
def _(cli):
    printed = cli.play("agent-rush", "add", "A sentence of more than fifty characters about nothing.", code=1)
    assert "not provisioned" in printed


@check("agent-rush search")
def _(cli):
    assert "not provisioned" in cli.play("agent-rush", "search", "tea", code=1)


@check("config show")
def _(cli):
    shown = cli.json("config", "show")
    assert shown["platform"]["base_url"] == cli.proxy.url
    assert KEY not in json.dumps(shown)


@check("config get")
def _(cli):
    assert cli.json("config", "get", "base_url")["value"] == cli.proxy.url


@check("config set")
def _(cli):
    del cli.env["MEM0_BASE_URL"]
    cli.json("config", "set", "base_url", cli.proxy.url)
    cli.json("config", "set", "user_id", "mary")
    memory = cli.add("likes tea")
    assert client().get(memory)["user_id"] == "mary"


@check("version")
def _(cli):
    assert version("mem0-cli") in cli.play("version")


@check("help")
def _(cli):
    assert json.loads(cli.run("help", "--json")[0])["version"] == version("mem0-cli")


# --- the tests

PASSED = set()


def test_every_command_has_a_check():
    names = set(commands())
    assert names - set(CHECKS) == set(), "the program has commands that nothing checks"
    assert set(CHECKS) - names == set(), "commands are gone"


@pytest.mark.parametrize("name", list(CHECKS))
def test_command(name, cli):
    run = cli.run

    def noted(*args, **options):
        before = len(cli.proxy.asked)
        printed = run(*args, **options)
        words = [arg for arg in args if arg not in ("--json", "--agent")]
        if " ".join(words[: len(name.split())]) == name:
            for method, path in cli.proxy.asked[before:]:
                note(f"mem0 {name}", method, path)
        return printed

    cli.run = noted
    CHECKS[name](cli)
    PASSED.add(name)


def test_the_table_is_current():
    assert not set(CHECKS) - PASSED
    known = cells("cli", PAGE)
    rows = [f"`mem0-cli` {version('mem0-cli')}: {len(CHECKS)} commands.\n\n"]
    rows.append(f"| command | request | {' | '.join(DEPLOYMENTS)} |\n|---|---|---|---|\n")
    for name in sorted(CHECKS):
        row = known.get(name, {})
        works = "works" if name not in NOT_OFFERED else f"refused: {NOT_OFFERED[name]}"
        found = [works if at == HERE else row.get(at, "untested") for at in DEPLOYMENTS]
        rows.append(f"| `{name}` | {requests(f'mem0 {name}')} | {' | '.join(found)} |\n")
    text = "".join(rows)
    section("cli", text, PAGE)
    assert os.environ.get(UPDATE) or "untested" not in text
