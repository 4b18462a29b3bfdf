"""Every public method of Mem0's Python clients, sync and async, and of their projects.

The methods are enumerated from the clients, so that one that is new, or gone, fails here with its
name. A check is written once and plays both clients.
"""

import datetime
import os
import uuid
from importlib.metadata import version

import pytest
from mem0.client.types import (
    AddMemoryOptions,
    DeleteAllMemoryOptions,
    GetAllMemoryOptions,
    ProjectUpdateOptions,
    SearchMemoryOptions,
    UpdateMemoryOptions,
)
from mem0.exceptions import MemoryNotFoundError, ValidationError

from conftest import (
    DEPLOYMENTS,
    HERE,
    KINDS,
    PAGE,
    asked,
    client,
    done,
    ended,
    fresh,
    ids,
    kept,
    learned,
    listed,
    texts,
    until,
)
from documented import UPDATE, cells, section
from receiver import Receiver
from wire import closed, listen, methods, project_of, requests

CHECKS = {}
SCHEMA = {
    "type": "object",
    "properties": {"home_town": {"type": "string", "description": "Where the user lives"}},
}


def check(name):
    def register(function):
        assert name not in CHECKS
        CHECKS[name] = function
        return function

    return register


async def gone(c, memory):
    with pytest.raises(MemoryNotFoundError):
        await done(c.get(memory))
    return True


# --- memories


@check("add")
async def _(c):
    user = fresh()
    # As it is, in each form of a message.
    await kept(c, "likes tea", user_id=user)
    alone = {"role": "assistant", "content": "sold a hat"}
    single = await done(c.add(alone, user_id=user, infer=False))
    assert single["results"][0]["data"]["memory"] == "sold a hat"
    both = await done(
        c.add(
            [
                {"role": "user", "content": "likes rain"},
                {"role": "assistant", "content": "sold an umbrella", "name": "Mary"},
            ],
            AddMemoryOptions(filters={"user_id": user}, infer=False, metadata={"k": [1, "x"]}),
        )
    )
    assert [result["event"] for result in both["results"]] == ["ADD", "ADD"]
    one = await done(c.get(both["results"][0]["id"]))
    assert (one["memory"], one["user_id"], one["metadata"]) == ("likes rain", user, {"k": [1, "x"]})
    assert sorted(await listed(c, user_id=user)) == sorted(
        ["likes rain", "likes tea", "sold a hat", "sold an umbrella"]
    )
    # Read by the model.
    [fact] = await learned(c, "I live in Bern, you know.", user_id=user)
    assert (fact["event"], fact["data"]["memory"]) == ("ADD", "Lives in Bern")
    found = await done(c.search("where does he live", filters={"user_id": user}))
    assert "Lives in Bern" in texts(found)


@check("get")
async def _(c):
    owner = {f"{kind}_id": fresh(kind) for kind in ("user", "agent", "app", "run")}
    before = datetime.datetime.now(datetime.timezone.utc)
    memory = await kept(c, "likes tea", metadata={"k": 1}, **owner)
    one = await done(c.get(memory))
    assert (one["id"], one["memory"], one["metadata"]) == (memory, "likes tea", {"k": 1})
    assert {name: one[name] for name in owner} == owner
    assert one["session_id"] == owner["run_id"]
    for moment in ("created_at", "updated_at"):
        assert abs(datetime.datetime.fromisoformat(one[moment]) - before).total_seconds() < 600
    await gone(c, str(uuid.uuid4()))
    with pytest.raises(ValidationError):
        await done(c.get("no-uuid"))


@check("get_all")
async def _(c):
    user = fresh()
    stored = [await kept(c, f"likes {what}", user_id=user) for what in ("a", "b", "c", "d", "e")]
    seen, page = [], 1
    while page:
        options = GetAllMemoryOptions(filters={"user_id": user}, page=page, page_size=2)
        answer = await done(c.get_all(options))
        assert answer["count"] == 5
        assert bool(answer["previous"]) == (page > 1)
        seen += [memory["id"] for memory in answer["results"]]
        page = page + 1 if answer["next"] else None
    assert sorted(seen) == sorted(stored)
    assert len(await listed(c, user_id=user)) == 5
    for bounds in ({"page_size": 0}, {"page": 0}, {"page_size": 201}):
        with pytest.raises(ValidationError):
            await done(c.get_all(filters={"user_id": user}, **bounds))
    today = datetime.date.today()
    yesterday, tomorrow = (str(today + datetime.timedelta(days=by)) for by in (-1, 1))
    window = {"start_date": yesterday, "end_date": tomorrow}
    assert len(ids(await done(c.get_all(filters={"user_id": user}, **window)))) == 5
    none = {"start_date": tomorrow}
    assert ids(await done(c.get_all(filters={"user_id": user}, **none))) == set()


@check("search")
async def _(c):
    user = fresh()
    tea = await kept(c, "drinks green tea in the morning", user_id=user, metadata={"k": "tea"})
    await kept(c, "plays chess on Sundays", user_id=user)
    answer = await done(c.search("  green tea ", filters={"user_id": user}))
    first = answer["results"][0]
    assert (first["id"], first["user_id"], first["metadata"]) == (tea, user, {"k": "tea"})
    assert 0.1 <= first["score"] <= 1
    scores = [memory["score"] for memory in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    options = SearchMemoryOptions(
        filters={"user_id": user}, top_k=1, threshold=0.0, rerank=True, latest_only=True,
        show_expired=True, reference_date=str(datetime.date.today()),
    )
    assert ids(await done(c.search("green tea", options))) == {tea}
    words = await done(c.search("chess", filters={"user_id": user}, keyword_search=True))
    assert texts(words) == ["plays chess on Sundays"]
    some = await done(c.search("tea", filters={"user_id": user}, fields=["memory"], top_k=1))
    assert some["results"][0].keys() <= {"id", "memory", "score"}
    assert some["results"][0]["memory"] == "drinks green tea in the morning"
    assert texts(await done(c.search("tea", filters={"user_id": fresh()}))) == []
    for wrong in ({"top_k": 0}, {"top_k": 1001}, {"threshold": 1.5}):
        with pytest.raises(ValidationError):
            await done(c.search("tea", filters={"user_id": user}, **wrong))


@check("update")
async def _(c):
    user = fresh()
    memory = await kept(c, "likes tea", user_id=user, metadata={"a": 1, "b": 1})
    day = str(datetime.date.today() + datetime.timedelta(days=9))
    options = UpdateMemoryOptions(text="likes coffee", metadata={"b": 2}, expiration_date=day)
    changed = await done(c.update(memory, options))
    assert changed["memory"] == "likes coffee"
    one = await done(c.get(memory))
    assert (one["memory"], one["metadata"]["b"], one["expiration_date"]) == ("likes coffee", 2, day)
    assert one["updated_at"] > one["created_at"]
    assert ids(await done(c.search("coffee", filters={"user_id": user}))) == {memory}
    await done(c.update(memory, expiration_date=None))
    assert (await done(c.get(memory)))["expiration_date"] is None
    for moment in (1_600_000_000, 1_600_000_000.5, "2020-09-13T12:26:40Z"):
        await done(c.update(memory, timestamp=moment))
    with pytest.raises(MemoryNotFoundError):
        await done(c.update(str(uuid.uuid4()), text="x"))
    with pytest.raises(ValidationError):
        await done(c.update(memory, expiration_date="soon"))
    fixed = await kept(c, "is born in May", user_id=user, immutable=True)
    with pytest.raises(ValidationError):
        await done(c.update(fixed, text="is born in June"))


@check("delete")
async def _(c):
    user = fresh()
    memory = await kept(c, "likes tea", user_id=user)
    assert "deleted" in (await done(c.delete(memory)))["message"]
    await gone(c, memory)
    assert texts(await done(c.search("tea", filters={"user_id": user}))) == []
    with pytest.raises(MemoryNotFoundError):
        await done(c.delete(memory))
    # What it superseded goes with it.
    [bern] = await learned(c, "I live in Bern.", user_id=user)
    results = await learned(c, "I moved to Zug.", user_id=user)
    [zug] = [result for result in results if result["data"]["memory"] == "Lives in Zug"]
    latest = await done(c.get_all(filters={"user_id": user}, latest_only=True))
    assert texts(latest) == ["Lives in Zug"]
    assert (await done(c.get(bern["id"])))["memory"] == "Lives in Bern"
    answer = await done(c.delete(zug["id"], delete_linked=True))
    assert answer["cascade_count"] == 1
    await gone(c, bern["id"])


@check("delete_all")
async def _(c):
    user, app = fresh(), fresh("app")
    one = await kept(c, "likes tea", user_id=user)
    two = await kept(c, "likes coffee", user_id=user, app_id=app)
    other = await kept(c, "likes wine", user_id=fresh(), app_id=app)

    async def left(by, wanted):
        answer = await done(c.delete_all(**by))
        if "event_id" in answer:
            assert (await ended(c, answer["event_id"]))["status"] == "SUCCEEDED"
        found = await done(
            c.get_all(filters={"user_id": "*", "memory_ids": [one, two, other]})
        )
        assert ids(found) == wanted

    await left({"user_id": user, "app_id": app}, {one, other})
    await left({"app_id": app, "user_id": "*"}, {one})
    # The typed options arrive as the text of a Python object.
    await left({"options": DeleteAllMemoryOptions(filters={"user_id": user})}, set())
    for nothing in ({}, {"metadata": {"k": 1}}, {"user_id": ""}):
        with pytest.raises(ValidationError):
            await done(c.delete_all(**nothing))


@check("history")
async def _(c):
    user = fresh()
    memory = await kept(c, "likes tea", user_id=user)
    await done(c.update(memory, text="likes coffee"))
    await done(c.delete(memory))
    rows = await done(c.history(memory))
    changes = [(row["event"], row["old_memory"], row["new_memory"]) for row in rows]
    assert changes[:2] == [("ADD", None, "likes tea"), ("UPDATE", "likes tea", "likes coffee")]
    assert changes[2][:2] == ("DELETE", "likes coffee")
    assert len(changes) == 3
    assert {row["memory_id"] for row in rows} == {memory}
    assert {row["user_id"] for row in rows} == {user}
    assert rows[0]["input"] == [{"role": "user", "content": "likes tea"}]
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    with pytest.raises(MemoryNotFoundError):
        await done(c.history(str(uuid.uuid4())))


@check("batch_update")
async def _(c):
    user = fresh()
    one, two = [await kept(c, f"likes {what}", user_id=user) for what in ("tea", "rain")]
    answer = await done(
        c.batch_update(
            [{"memory_id": one, "text": "likes milk"}, {"memory_id": two, "metadata": {"k": 1}}]
        )
    )
    assert answer["message"] == "Successfully updated 2 memories"
    assert (await done(c.get(one)))["memory"] == "likes milk"
    assert (await done(c.get(two)))["metadata"] == {"k": 1}
    many = [{"memory_id": one, "text": "x"}] * 1001
    with pytest.raises(ValidationError):
        await done(c.batch_update(many))


@check("batch_delete")
async def _(c):
    user = fresh()
    one, two, three = [await kept(c, f"likes {n}", user_id=user) for n in ("a", "b", "c")]
    answer = await done(c.batch_delete([{"memory_id": one}, {"memory_id": two}]))
    assert answer["message"] == "Successfully deleted 2 memories"
    assert ids(await done(c.get_all(filters={"user_id": user}))) == {three}
    with pytest.raises(ValidationError):
        await done(c.batch_delete([]))


# --- entities


@check("users")
async def _(c):
    owner = {kind: fresh(kind) for kind in ("user", "agent", "app", "run")}
    await kept(c, "likes tea", **{f"{kind}_id": name for kind, name in owner.items()})
    await kept(c, "likes milk", user_id=owner["user"])
    answer = await done(c.users())
    found = {row["type"]: row for row in answer["results"] if row["name"] in owner.values()}
    assert {kind: row["name"] for kind, row in found.items()} == owner
    assert [found[kind]["total_memories"] for kind in owner] == [2, 1, 1, 1]
    assert found["user"]["id"] and found["user"]["created_at"] and found["user"]["updated_at"]
    assert answer["count"] >= 4


@check("delete_users")
async def _(c):
    # All that may stand in a name, which comes as one segment of a path.
    odd = f"a b/c?d#e%2F+ü&{uuid.uuid4()}"
    for kind in ("user", "agent", "app", "run"):
        memory = await kept(c, "likes tea", **{f"{kind}_id": odd})
        other = await kept(c, "likes milk", **{f"{kind}_id": fresh(kind)})
        answer = await done(c.delete_users(**{f"{kind}_id": odd}))
        assert answer == {"message": "Entity deleted successfully."}

        async def removed():
            names = [(row["type"], row["name"]) for row in (await done(c.users()))["results"]]
            return (kind, odd) not in names

        await until(removed)
        await gone(c, memory)
        assert (await done(c.get(other)))["memory"] == "likes milk"


@check("reset")
async def _(c):
    memories = [await kept(c, "likes tea", user_id=fresh()) for _ in range(3)]
    assert "reset successful" in (await done(c.reset()))["message"]

    async def empty():
        return (await done(c.users()))["count"] == 0

    await until(empty)
    for memory in memories:
        await gone(c, memory)
    with pytest.raises(ValueError, match="No entities to delete"):
        await done(c.reset())


# --- exports, summaries, feedback


@check("create_memory_export")
async def _(c):
    user = fresh()
    await kept(c, "lives in Bern", user_id=user)
    made = await done(
        c.create_memory_export(
            SCHEMA, filters={"user_id": user}, export_instructions="Only what is certain."
        )
    )
    assert made["id"] and made["message"]
    with pytest.raises(ValidationError):
        await done(c.create_memory_export(SCHEMA, filters={"nonsense": user}))


@check("get_memory_export")
async def _(c):
    user = fresh()
    await kept(c, "lives in Bern", user_id=user)
    made = await done(c.create_memory_export(SCHEMA, filters={"user_id": user}))

    async def whole(by):
        async def ready():
            try:
                return await done(c.get_memory_export(**by))
            except MemoryNotFoundError:
                return None

        return await until(ready)

    for by in ({"memory_export_id": made["id"]}, {"filters": {"user_id": user}}):
        assert "Bern" in str(await whole(by))
    with pytest.raises(MemoryNotFoundError):
        await done(c.get_memory_export(memory_export_id=str(uuid.uuid4())))
    with pytest.raises(ValidationError):
        await done(c.get_memory_export())


@check("get_summary")
async def _(c):
    user = fresh()
    await kept(c, "lives in Bern", user_id=user)
    assert "Bern" in str(await done(c.get_summary({"user_id": user})))


@check("feedback")
async def _(c):
    memory = await kept(c, "likes tea", user_id=fresh())
    for word in ("POSITIVE", "negative", "very_negative"):
        answer = await done(c.feedback(memory, word, "because"))
        assert (answer["feedback"], answer["feedback_reason"]) == (word.upper(), "because")
        assert answer["id"]
    assert (await done(c.feedback(memory)))["feedback"] is None
    with pytest.raises(ValueError, match="feedback must be"):
        await done(c.feedback(memory, "GREAT"))
    with pytest.raises(MemoryNotFoundError):
        await done(c.feedback(str(uuid.uuid4()), "POSITIVE"))


# --- profiles


async def known(c, user=None):
    """A user with enough memories for a profile."""
    user = user or fresh()
    for text in ("lives in Bern", "likes tea", "plays chess"):
        await kept(c, text, user_id=user)
    return user


async def enabled(c):
    await done(c.update_profile_settings(enabled=True, schema=SCHEMA, custom_instructions="Be brief."))


@check("get_profile")
async def _(c):
    user = fresh("a b/c")
    with pytest.raises(MemoryNotFoundError):
        await done(c.get_profile(user))
    await known(c, user)
    await done(c.update_profile_settings(enabled=False))
    assert (await done(c.get_profile(user)))["status"] == "not_enabled"
    await enabled(c)
    await done(c.generate_profile(user))

    async def ready():
        profile = await done(c.get_profile(user))
        return profile if profile["status"] != "pending" else None

    profile = await until(ready)
    assert profile["status"] == "succeeded", profile
    assert profile["profile"] == {"home_town": "Bern"}
    assert (profile["entity_type"], profile["entity_id"]) == ("user", user)
    assert profile["generation_count"] == 1 and profile["updated_at"]


async def job_ended(c, job):
    async def over():
        found = (await done(c.get_profile_job(job)))["job"]
        return found if found["enumeration_complete"] and found["completed"] == found["total"] else None

    return await until(over)


@check("generate_profile")
async def _(c):
    user = await known(c)
    await enabled(c)
    key = uuid.uuid4().hex
    job = await done(c.generate_profile(user, idempotency_key=key))
    assert (job["operation"], job["entity_type"], job["replayed"]) == ("trigger", "user", False)
    assert job["entity_count_reserved"] == 1
    again = await done(c.generate_profile(user, idempotency_key=key))
    assert (again["job_id"], again["replayed"]) == (job["job_id"], True)
    other = await done(c.generate_profile(user))
    assert other["job_id"] != job["job_id"]
    with pytest.raises(MemoryNotFoundError):
        await done(c.generate_profile(fresh()))
    await done(c.update_profile_settings(enabled=False))
    with pytest.raises(ValidationError):
        await done(c.generate_profile(user))


@check("sample_profiles")
async def _(c):
    await known(c)
    await known(c)
    await enabled(c)
    job = await done(c.sample_profiles(limit=2))
    assert job["operation"] == "sample"
    assert job["sampled"] == 2 and len(set(job["entity_ids"])) == 2
    assert (await job_ended(c, job["status_url"]))["total"] == 2
    with pytest.raises(ValidationError):
        await done(c.sample_profiles(limit=11))


@check("get_profile_job")
async def _(c):
    user = await known(c)
    await enabled(c)
    made = await done(c.generate_profile(user))
    for name in (made["job_id"], made["status_url"]):
        job = await job_ended(c, name)
        assert (job["operation"], job["entity_type"]) == ("trigger", "user")
        assert (job["total"], job["succeeded"], job["failed"], job["skipped"]) == (1, 1, 0, 0)
    with pytest.raises(MemoryNotFoundError):
        await done(c.get_profile_job(str(uuid.uuid4())))


@check("get_profile_settings")
async def _(c):
    await enabled(c)
    settings = await done(c.get_profile_settings())
    assert settings["enabled"] is True
    assert settings["entities"]["user"] == {"schema": SCHEMA, "custom_instructions": "Be brief."}
    assert isinstance(settings["capabilities"], dict)


@check("update_profile_settings")
async def _(c):
    await enabled(c)
    await done(c.update_profile_settings(custom_instructions=None))
    user = (await done(c.get_profile_settings()))["entities"]["user"]
    assert (user["schema"], user["custom_instructions"]) == (SCHEMA, None)
    await done(c.update_profile_settings(enabled=False, schema=None))
    settings = await done(c.get_profile_settings())
    assert (settings["enabled"], settings["entities"]["user"]["schema"]) == (False, None)
    with pytest.raises(ValidationError):
        await done(c.update_profile_settings(schema="no schema"))


# --- the project


CATEGORIES = [{"family": "Relatives and pets"}, {"food": "What is eaten"}]


@check("get_project")
async def _(c):
    found = await done(c.get_project(fields=["custom_instructions"]))
    assert "custom_instructions" in found


@check("update_project")
async def _(c):
    await done(c.update_project(custom_instructions="Only facts.", multilingual=True))
    options = ProjectUpdateOptions(custom_categories=CATEGORIES, agent_custom_instructions="Short.")
    await done(c.update_project(options))
    found = await done(c.get_project())
    assert (found["custom_instructions"], found["multilingual"]) == ("Only facts.", True)
    assert (found["custom_categories"], found["agent_custom_instructions"]) == (CATEGORIES, "Short.")
    await done(c.update_project(custom_instructions="", multilingual=False))
    assert not (await done(c.get_project()))["custom_instructions"]


@check("project.get")
async def _(c):
    found = await done(c.project.get())
    assert found["project_id"] == c.project.project_id
    assert found["name"]
    assert {"custom_instructions", "custom_categories", "multilingual", "decay"} <= found.keys()
    assert (await done(c.project.get(fields=["name", "decay"])))["name"] == found["name"]


@check("project.update")
async def _(c):
    answer = await done(
        c.project.update(
            custom_instructions="Only facts.", custom_categories=CATEGORIES, decay=True,
            multilingual=True, agent_custom_instructions="Short.",
        )
    )
    assert answer["message"]
    found = await done(c.project.get())
    assert (found["decay"], found["multilingual"]) == (True, True)
    assert (found["custom_categories"], found["custom_instructions"]) == (CATEGORIES, "Only facts.")
    # What the model files a fact under can be asked for.
    user = fresh()
    [fact] = await learned(c, "My daughter is called Nora.", user_id=user)

    async def filed():
        by = {"AND": [{"user_id": user}, {"categories": {"in": ["family"]}}]}
        return ids(await done(c.search("daughter", filters=by))) == {fact["id"]}

    await until(filed)
    assert (await done(c.get(fact["id"])))["categories"] == ["family"]
    await done(c.project.update(decay=False, multilingual=False))
    assert (await done(c.project.get()))["decay"] is False
    with pytest.raises(ValidationError):
        await done(c.project.update(custom_categories=["family"]))


@check("project.create")
async def _(c):
    name = fresh("project")
    made = await done(c.project.create(name, "for a test"))
    found = await done(project_of(c, made["project_id"]).get())
    assert (found["name"], found["description"]) == (name, "for a test")
    assert found["project_id"] != c.project.project_id
    await done(project_of(c, made["project_id"]).delete())


@check("project.delete")
async def _(c):
    made = await done(c.project.create(fresh("project")))
    project = project_of(c, made["project_id"])
    assert "message" in await done(project.delete())
    with pytest.raises(MemoryNotFoundError):
        await done(project.get())
    assert (await done(c.project.get()))["project_id"] == c.project.project_id


async def member(c, email):
    """Role of a member of the project; None for somebody else."""
    found = (await done(c.project.get_members()))["members"]
    roles = {row.get("email") or row["username"]: row["role"] for row in found}
    return roles.get(email)


@check("project.get_members")
async def _(c):
    assert await member(c, f"{uuid.uuid4()}@example.com") is None


@check("project.add_member")
async def _(c):
    email = f"{uuid.uuid4()}@example.com"
    assert (await done(c.project.add_member(email)))["message"]
    assert await member(c, email) == "READER"
    with pytest.raises(ValueError, match="Role must be"):
        await done(c.project.add_member(email, "GUEST"))
    await done(c.project.remove_member(email))


@check("project.update_member")
async def _(c):
    email = f"{uuid.uuid4()}@example.com"
    await done(c.project.add_member(email))
    assert (await done(c.project.update_member(email, "OWNER")))["message"]
    assert await member(c, email) == "OWNER"
    await done(c.project.remove_member(email))
    with pytest.raises(MemoryNotFoundError):
        await done(c.project.update_member(email, "READER"))


@check("project.remove_member")
async def _(c):
    email = f"{uuid.uuid4()}@example.com"
    await done(c.project.add_member(email))
    assert (await done(c.project.remove_member(email)))["message"]
    assert await member(c, email) is None
    with pytest.raises(MemoryNotFoundError):
        await done(c.project.remove_member(email))


# --- webhooks


@check("create_webhook")
async def _(c):
    with Receiver() as receiver:
        kinds = ["memory_add", "memory_update", "memory_delete"]
        hook = await done(c.create_webhook(receiver.url, "all", c.project_id, kinds))
        assert (hook["name"], hook["url"], hook["event_types"]) == ("all", receiver.url, kinds)
        assert (hook["is_active"], hook["project"]) == (True, c.project_id)
        memory = await kept(c, "likes tea", user_id=fresh())
        await done(c.update(memory, text="likes coffee"))
        await done(c.delete(memory))

        async def told():
            calls = [call["event_details"] for call in receiver.calls]
            ours = [call for call in calls if call["id"] == memory]
            return ours if len(ours) >= 3 else None

        seen = await until(told)
        by_event = {call["event"]: call["data"]["memory"] for call in seen}
        assert by_event.keys() == {"ADD", "UPDATE", "DELETE"}
        assert (by_event["ADD"], by_event["UPDATE"]) == ("likes tea", "likes coffee")
        await done(c.delete_webhook(hook["webhook_id"]))
    with pytest.raises(ValidationError):
        await done(c.create_webhook("https://example.com/", "x", c.project_id, ["nonsense"]))


async def hooks(c):
    rows = await done(c.get_webhooks(c.project_id))
    return {row["webhook_id"]: row for row in rows}


async def made_hook(c):
    url = "https://example.com/hook"
    hook = await done(c.create_webhook(url, "made", c.project_id, ["memory_add"]))
    return hook["webhook_id"]


@check("get_webhooks")
async def _(c):
    hook = await made_hook(c)
    row = (await hooks(c))[hook]
    assert (row["name"], row["event_types"]) == ("made", ["memory_add"])
    assert row["created_at"] and row["updated_at"]
    await done(c.delete_webhook(hook))


@check("update_webhook")
async def _(c):
    hook = await made_hook(c)
    answer = await done(c.update_webhook(hook, name="new", event_types=["memory_delete"]))
    assert answer["message"]
    row = (await hooks(c))[hook]
    assert (row["name"], row["event_types"]) == ("new", ["memory_delete"])
    assert row["url"] == "https://example.com/hook"
    await done(c.delete_webhook(hook))


@check("delete_webhook")
async def _(c):
    hook = await made_hook(c)
    assert (await done(c.delete_webhook(hook)))["message"]
    assert hook not in await hooks(c)
    with pytest.raises(MemoryNotFoundError):
        await done(c.delete_webhook(hook))


@check("chat")
async def _(c):
    with pytest.raises(NotImplementedError):
        await done(c.chat())


# --- the tests

PASSED = {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_has_a_check(kind):
    names = methods(client(kind))
    assert names - set(CHECKS) == set(), "the client has methods that nothing checks"
    assert set(CHECKS) - names == set(), "methods are gone"


@pytest.mark.parametrize("name", list(CHECKS))
@pytest.mark.parametrize("kind", KINDS)
async def test_method(kind, name):
    c = listen(client(kind))
    try:
        await CHECKS[name](c)
    finally:
        await closed(c)
    PASSED.setdefault(name, []).append(kind)


def test_the_table_is_current():
    missing = [name for name in CHECKS if len(PASSED.get(name, [])) < len(KINDS)]
    assert not missing, missing
    columns = [f"{where}, {kind}" for where in DEPLOYMENTS for kind in KINDS]
    known = cells("python", PAGE)
    rows = [f"`mem0ai` {version('mem0ai')}: {len(CHECKS)} methods, each through both clients.\n\n"]
    rows.append(f"| method | request | {' | '.join(columns)} |\n{'|---' * (len(columns) + 2)}|\n")
    for name in sorted(CHECKS):
        row = known.get(name, {})
        # What the other deployment wrote stays.
        found = ["works" if at.startswith(HERE) else row.get(at, "untested") for at in columns]
        rows.append(f"| `{name}` | {requests(name)} | {' | '.join(found)} |\n")
    text = "".join(rows)
    section("python", text, PAGE)
    assert os.environ.get(UPDATE) or "untested" not in text
