"""What holds across the methods of Mem0's Python client: filters, scopes, errors, time."""

import datetime
import random
import uuid

import httpx
import pytest
from mem0.exceptions import (
    AuthenticationError,
    MemoryNotFoundError,
    MemoryQuotaExceededError,
    ValidationError,
)

from conftest import KEY, URL, asked, client, done, ended, fresh, ids, kept, learned, texts

# Relatives of the filter that once led out of its scope.
ESCAPES = 200
SEED = 6


@pytest.fixture
def c():
    return client()


class Shelf:
    """Memories of two users, and what filters over them must find."""

    async def fill(self, c):
        self.user, self.other = fresh(), fresh()
        self.agent, self.app, self.run = fresh("agent"), fresh("app"), fresh("run")
        self.by_name = {
            "tea": await kept(
                c, "likes green tea", user_id=self.user, agent_id=self.agent,
                metadata={"kind": "drink", "n": 1},
            ),
            "coffee": await kept(
                c, "likes black Coffee", user_id=self.user, run_id=self.run,
                metadata={"kind": "drink", "n": 2},
            ),
            "alps": await kept(
                c, "walked in the Alps", user_id=self.user, app_id=self.app,
                metadata={"kind": "trip"}, timestamp=1_683_000_000,
            ),
            "rome": await kept(
                c, "flew to Rome", user_id=self.other, metadata={"kind": "trip"},
            ),
        }
        return self

    def names(self, answer):
        found = {memory: name for name, memory in self.by_name.items()}
        return " ".join(sorted(found[memory] for memory in ids(answer)))


def cases(s):
    mine = {"user_id": s.user}
    everything = list(s.by_name.values())
    year = str(datetime.date.today().year + 1)
    return [
        (mine, "alps coffee tea"),
        ({"AND": [mine]}, "alps coffee tea"),
        ({"OR": [mine, {"user_id": s.other}]}, "alps coffee rome tea"),
        ({"user_id": {"in": [s.user, s.other]}}, "alps coffee rome tea"),
        ({"user_id": {"eq": s.other}}, "rome"),
        ({"user_id": "*", "memory_ids": everything}, "alps coffee rome tea"),
        ({"user_id": "*", "memory_ids": {"in": everything[:1]}}, "tea"),
        ({"AND": [mine, {"user_id": s.other}]}, ""),
        ({"agent_id": s.agent}, "tea"),
        ({"agent_id": "*", "user_id": s.user}, "tea"),
        ({"app_id": s.app}, "alps"),
        ({"run_id": s.run}, "coffee"),
        ({"AND": [mine, {"NOT": {"agent_id": s.agent}}]}, "alps coffee"),
        ({"AND": [mine, {"NOT": [{"agent_id": s.agent}]}]}, "alps coffee"),
        # Two keys of the same name do not replace each other.
        ({"AND": [mine, {"NOT": {"run_id": s.run}}, {"NOT": {"app_id": s.app}}]}, "tea"),
        # What is not there is not equal to anything.
        ({**mine, "agent_id": {"ne": s.agent}}, "alps coffee"),
        ({**mine, "metadata": {"kind": "drink"}}, "coffee tea"),
        ({**mine, "metadata": {"kind": "drink", "n": 2}}, "coffee"),
        ({**mine, "metadata": {"kind": {"ne": "drink"}}}, "alps"),
        ({**mine, "metadata": {"kind": {"contains": "rin"}}}, "coffee tea"),
        ({**mine, "keywords": {"contains": "Coffee"}}, "coffee"),
        ({**mine, "keywords": {"contains": "coffee"}}, ""),
        ({**mine, "keywords": {"icontains": "coffee"}}, "coffee"),
        ({**mine, "timestamp": {"gte": "2023-01-01", "lt": "2024-01-01"}}, "alps"),
        ({**mine, "updated_at": {"gte": "2024-01-01", "lte": f"{year}-12-31"}}, "alps coffee tea"),
        ({**mine, "updated_at": {"lt": "2001-01-01"}}, ""),
        # An AND and an OR beside each other both hold.
        ({"AND": [mine], "OR": [{"metadata": {"kind": "trip"}}]}, "alps"),
        ({**mine, "OR": [{"agent_id": s.agent}, {"run_id": s.run}]}, "coffee tea"),
        ({**mine, "OR": [{"AND": [{"agent_id": s.agent}, {"run_id": s.run}]}]}, ""),
        # As the clients in JavaScript write it.
        ({"userId": s.user}, "alps coffee tea"),
    ]


async def test_filters_find_what_they_say(c):
    shelf = await Shelf().fill(c)
    for filters, wanted in cases(shelf):
        assert shelf.names(c.get_all(filters=filters)) == wanted, filters
        found = c.search("tea coffee Alps Rome", filters=filters, threshold=0, top_k=50)
        assert shelf.names(found) == wanted, filters


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"NOT": {"user_id": "u"}},
        {"user_id": {"ne": "u"}},
        {"metadata": {"k": 1}},
        {"user_id": "u", "user_id >": "a"},
        {"user_id": {"like": "u"}},
        {"user_id": {"$regex": "u"}},
        {"AND": {"user_id": "u"}},
        {"OR": "user_id"},
        {"user_id": "u", "nonsense": "x"},
        {"user_id": "u", "created_at": {"gte": "some day"}},
    ],
    ids=str,
)
def test_a_filter_that_is_none_is_refused(c, filters):
    with pytest.raises(ValidationError):
        c.get_all(filters=filters)
    with pytest.raises(ValidationError):
        c.search("tea", filters=filters)


def escape(chance, victim, depth=0):
    """Some filter that asks for the victim."""
    at = chance.choice(
        ["plain", "in", "wild", "ne"] if depth > 2 else ["plain", "in", "wild", "ne", "AND", "OR", "NOT"]
    )
    match at:
        case "plain":
            return {chance.choice(["user_id", "userId"]): victim}
        case "in":
            return {"user_id": {"in": [victim, "nobody"]}}
        case "wild":
            return {chance.choice(["user_id", "agent_id"]): "*"}
        case "ne":
            return {chance.choice(["user_id", "run_id"]): {"ne": "nobody"}}
        case "NOT":
            inner = escape(chance, victim, depth + 1)
            return {"NOT": chance.choice([inner, [inner]])}
    parts = [escape(chance, victim, depth + 1) for _ in range(chance.randint(1, 3))]
    return {at: parts}


async def test_no_filter_leads_out_of_its_scope(c):
    chance = random.Random(SEED)
    alice, victim = fresh("alice"), fresh("victim")
    await kept(c, "alice keeps a secret", user_id=alice)
    hidden = await kept(c, "victim keeps a secret", user_id=victim)
    tried = [{"AND": [{"user_id": victim}]}]
    while len(tried) <= ESCAPES:
        found = escape(chance, victim)
        # Beside the scope it must not have the scope's own key, which a caller would overwrite.
        tried.append(found if "user_id" not in found else {"AND": [found]})
    for more in tried:
        for filters in ({"user_id": alice, **more}, {"AND": [{"user_id": alice}, more]}):
            for answer in (
                c.get_all(filters=filters),
                c.search("a secret of the victim", filters=filters, threshold=0),
            ):
                owners = {memory["user_id"] for memory in answer["results"]}
                assert owners <= {alice}, filters
    # It is there all the same.
    assert ids(c.get_all(filters={"user_id": victim})) == {hidden}


async def test_a_key_that_nobody_knows_is_refused(c):
    with pytest.raises(ValueError, match="^Error: "):
        client(key="m0-nobody")
    with pytest.raises(ValueError, match="^Error: "):
        client("async", key="m0-nobody")
    memory = await kept(c, "likes tea", user_id=fresh())
    c.client.headers["Authorization"] = "Token m0-nobody"
    with pytest.raises(AuthenticationError):
        c.get(memory)
    with pytest.raises(AuthenticationError):
        c.project.get()


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Token {KEY}"}, {"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}]
)
def test_a_key_comes_in_each_header(headers):
    answer = httpx.get(f"{URL}/v1/ping/", headers=headers)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


async def test_errors_have_a_message_for_each_client(c):
    answer = httpx.get(
        f"{URL}/v1/memories/{uuid.uuid4()}/", headers={"Authorization": f"Token {KEY}"}
    )
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["detail"] == body["error"] == body["message"] == "Memory not found!"
    with pytest.raises(MemoryNotFoundError, match="Memory not found!"):
        c.get(str(uuid.uuid4()))


@pytest.mark.parametrize(
    "arguments",
    [
        {"messages": [], "user_id": "u"},
        {"messages": "likes tea"},
        {"messages": "likes tea", "user_id": ""},
        {"messages": "likes tea", "user_id": "u", "custom_categories": ["family"]},
        {"messages": "likes tea", "user_id": "u", "expiration_date": "tomorrow"},
        {"messages": [{"role": "user"}], "user_id": "u"},
        {"messages": "likes tea", "user_id": "u", "metadata": "m"},
    ],
    ids=str,
)
def test_an_add_that_is_none_is_refused(c, arguments):
    with pytest.raises(ValidationError):
        c.add(**arguments, infer=False)


def test_too_much_at_once_is_refused(c):
    # Servers bound what they read; the status says so to the client.
    with pytest.raises((MemoryQuotaExceededError, ValidationError)):
        c.add("x" * (80 << 20), user_id="u", infer=False)


async def test_what_expired_is_not_shown(c):
    user = fresh()
    today = datetime.date.today()
    past, future = (str(today + datetime.timedelta(days=by)) for by in (-2, 2))
    old = await kept(c, "has a ticket to Rome", user_id=user, expiration_date=past)
    new = await kept(c, "has a ticket to Oslo", user_id=user, expiration_date=future)
    by = {"user_id": user}
    assert ids(c.get_all(filters=by)) == {new}
    assert ids(c.get_all(filters=by, show_expired=True)) == {old, new}
    assert ids(c.search("ticket", filters=by)) == {new}
    assert ids(c.search("ticket", filters=by, show_expired=True)) == {old, new}


async def test_said_long_ago(c):
    user = fresh()
    memory = await kept(c, "ran a marathon", user_id=user, timestamp=1_600_000_000)
    assert c.get(memory)["created_at"].startswith("2020-09-13")


async def test_a_fact_replaces_another(c):
    user = fresh()
    [bern] = await learned(c, "I live in Bern.", user_id=user)
    results = await learned(c, "I moved to Zug.", user_id=user)
    [zug] = [one["id"] for one in results if one["data"]["memory"] == "Lives in Zug"]
    by = {"user_id": user}
    assert ids(c.get_all(filters=by)) == {bern["id"], zug}
    assert ids(c.get_all(filters=by, latest_only=True)) == {zug}
    assert c.get(bern["id"])["replaced_by"] == zug
    assert ids(c.search("where does he live", filters=by, latest_only=True)) == {zug}


async def test_facts_are_of_who_said_them(c):
    user, agent = fresh(), fresh("agent")
    talk = [
        {"role": "user", "content": "Which train shall I take?"},
        {"role": "assistant", "content": "The night train."},
    ]
    await learned(c, talk, user_id=user, agent_id=agent)
    [mine] = c.get_all(filters={"user_id": user})["results"]
    assert (mine["memory"], mine["agent_id"]) == ("Asked for a train", None)
    [its] = c.get_all(filters={"agent_id": agent})["results"]
    assert (its["memory"], its["user_id"]) == ("Recommended the night train", None)


async def test_nothing_is_lost_if_the_model_answers_nonsense(c):
    user = fresh()
    said = "Nobody understands this."
    answer = c.add(said, user_id=user)
    event = await ended(c, answer["event_id"])
    assert texts(c.get_all(filters={"user_id": user})) == [said]
    assert event["note"]


async def test_events(c):
    user = fresh()
    event_id = c.add("My daughter is called Nora.", user_id=user)["event_id"]
    event = await ended(c, event_id)
    assert (event["id"], event["status"]) == (event_id, "SUCCEEDED")
    assert event["latency"] >= 0
    assert event["created_at"] <= event["started_at"] <= event["completed_at"]
    listed = await asked(c, "GET", "/v1/events/")
    assert event_id in [row["id"] for row in listed["results"]]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await asked(c, "GET", f"/v1/event/{uuid.uuid4()}/")


async def test_the_older_routes(c):
    """What clients before 2.0 send."""
    user = fresh()
    added = await asked(
        c, "POST", "/v1/memories/",
        json={
            "messages": [{"role": "user", "content": "likes tea"}],
            "user_id": user, "infer": False, "async_mode": False, "output_format": "v1.1",
        },
    )
    [one] = added["results"]
    found = await asked(c, "POST", "/v1/memories/search/", json={"query": "tea", "user_id": user})
    assert [row["id"] for row in found] == [one["id"]]
    body = {"query": "tea", "filters": {"user_id": user}}
    assert [row["id"] for row in await asked(c, "POST", "/v2/memories/search/", json=body)] == [one["id"]]
    rows = await asked(c, "POST", "/v2/memories/", json={"filters": {"user_id": user}})
    assert [row["id"] for row in rows] == [one["id"]]
    rows = await asked(c, "GET", "/v1/memories/", params={"user_id": user})
    assert [row["id"] for row in (rows["results"] if isinstance(rows, dict) else rows)] == [one["id"]]
    page = await asked(c, "GET", f"/v1/memories/user/{user}/")
    assert [row["id"] for row in page["results"]] == [one["id"]]


async def pages(c, path):
    """The rows of all pages."""
    found, page = [], 1
    while page:
        answer = await asked(c, "GET", path, params={"page": page})
        found += answer["results"]
        page = page + 1 if answer["next"] else None
    return found


async def test_other_routes(c):
    """What dashboards and scripts ask for."""
    user = fresh()
    memory = await kept(c, "likes tea", user_id=user)
    [entity] = await asked(c, "GET", f"/v2/entities/user/{user}/")
    assert (entity["name"], entity["total_memories"]) == (user, 1)
    assert memory in [row["memory_id"] for row in await pages(c, "/v1/memories/events/")]
    assert isinstance(await asked(c, "GET", "/v1/stats/"), dict)
    made = await asked(c, "POST", "/v1/users/", json={"user_id": fresh(), "metadata": {"k": 1}})
    assert made["metadata"] == {"k": 1}
    found = await asked(c, "GET", "/api/v1/orgs/organizations/")
    assert c.org_id in [row["org_id"] for row in found]
