"""The official A2A client, in both generations of the protocol, against `/a2a`."""

import json
import os
import uuid

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.helpers.proto_helpers import get_artifact_text, get_message_text, new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import (
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

URL = os.environ["AGENTFLOW_URL"]


async def agent(http, assistant, version="1.0", streaming=True):
    """A client that speaks one generation."""
    resolver = A2ACardResolver(http, f"{URL}/a2a/{assistant}")
    card = await resolver.get_agent_card()
    for at in reversed(range(len(card.supported_interfaces))):
        if card.supported_interfaces[at].protocol_version != version:
            del card.supported_interfaces[at]
    assert len(card.supported_interfaces) == 1
    config = ClientConfig(httpx_client=http, streaming=streaming)
    return ClientFactory(config).create(card)


def request(text, **place):
    message = new_text_message(text, role=Role.ROLE_USER, **place)
    return SendMessageRequest(message=message)


async def events(stream):
    return [event async for event in stream]


@pytest.fixture
async def http():
    async with httpx.AsyncClient(timeout=30) as http:
        yield http


@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_task_is_completed(http, version, streaming):
    client = await agent(http, "echo", version, streaming)
    seen = await events(client.send_message(request("hello")))
    assert seen[0].HasField("task"), seen
    task = seen[0].task
    if streaming:
        assert task.status.state == TaskState.TASK_STATE_SUBMITTED
        artifact = [e.artifact_update.artifact for e in seen if e.HasField("artifact_update")][-1]
        last = seen[-1].status_update.status.state
    else:
        artifact, last = task.artifacts[0], task.status.state
    assert get_artifact_text(artifact) == "echo: hello"
    assert last == TaskState.TASK_STATE_COMPLETED
    known = await client.get_task(GetTaskRequest(id=task.id))
    assert known.status.state == TaskState.TASK_STATE_COMPLETED
    assert [get_message_text(message) for message in known.history] == ["hello", "echo: hello"]
    assert get_artifact_text(known.artifacts[0]) == "echo: hello"
    # Another task in the same context goes on with the conversation.
    again = await events(client.send_message(request("more", context_id=task.context_id)))
    other = again[0].task
    assert other.context_id == task.context_id
    assert other.id != task.id
    both = await client.get_task(GetTaskRequest(id=other.id))
    assert len(both.history) == 4
    # The first task is what it was.
    first = await client.get_task(GetTaskRequest(id=task.id))
    assert get_artifact_text(first.artifacts[0]) == "echo: hello"


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_a_question_is_answered(http, version):
    client = await agent(http, "agent-asks", version)
    seen = await events(client.send_message(request("hello")))
    task = seen[0].task
    last = seen[-1].status_update.status
    assert last.state == TaskState.TASK_STATE_INPUT_REQUIRED
    assert "ok?" in get_message_text(last.message)
    known = await client.get_task(GetTaskRequest(id=task.id))
    assert known.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    place = {"task_id": task.id, "context_id": task.context_id}
    seen = await events(client.send_message(request("yes", **place)))
    assert seen[0].task.id == task.id
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    known = await client.get_task(GetTaskRequest(id=task.id))
    assert known.status.state == TaskState.TASK_STATE_COMPLETED
    assert get_artifact_text(known.artifacts[0]) == "answer: yes"
    with pytest.raises(UnsupportedOperationError):
        await events(client.send_message(request("again", **place)))


async def test_tasks_are_followed_listed_and_canceled(http):
    client = await agent(http, "slow")
    data = {"steps": 1000, "delay_ms": 50}
    message = {
        "role": "ROLE_USER",
        "messageId": str(uuid.uuid4()),
        "parts": [{"data": data}],
    }
    params = {"message": message, "configuration": {"returnImmediately": True}}
    call = {"jsonrpc": "2.0", "id": "a", "method": "SendMessage", "params": params}
    answer = (await http.post(f"{URL}/a2a/slow", json=call)).json()
    task = answer["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    stream = client.subscribe(SubscribeToTaskRequest(id=task["id"]))
    first = await anext(stream)
    assert first.task.id == task["id"]
    canceled = await client.cancel_task(CancelTaskRequest(id=task["id"]))
    assert canceled.status.state == TaskState.TASK_STATE_CANCELED
    rest = await events(stream)
    assert rest[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task["id"]))
    with pytest.raises(UnsupportedOperationError):
        await events(client.subscribe(SubscribeToTaskRequest(id=task["id"])))
    listed = await client.list_tasks(ListTasksRequest(context_id=task["contextId"]))
    assert [one.id for one in listed.tasks] == [task["id"]]
    assert listed.total_size == 1


async def test_mistakes_have_their_codes(http):
    client = await agent(http, "echo")
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id=str(uuid.uuid4())))

    async def code(body, **headers):
        answer = await http.post(f"{URL}/a2a/echo", content=body, headers=headers)
        assert answer.status_code == 200
        return answer.json()["error"]["code"]

    def call(method, params):
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    assert await code("{") == -32700
    assert await code("{}") == -32600
    assert await code(call("nothing", {})) == -32601
    assert await code(call("message/send", {})) == -32602
    no_parts = {"message": {"role": "user", "messageId": "m", "parts": []}}
    assert await code(call("message/send", no_parts)) == -32602
    assert await code(call("tasks/pushNotificationConfig/set", {})) == -32003
    assert await code(call("GetTask", {"id": "x"}), **{"a2a-version": "9.0"}) == -32009
    missing = await http.get(f"{URL}/.well-known/agent-card.json")
    assert missing.status_code == 400
    card = await http.get(f"{URL}/.well-known/agent-card.json?assistant_id=echo")
    assert card.json()["capabilities"]["streaming"] is True
    plain = call("message/send", {"message": {"role": "user", "parts": [{"text": "x"}]}})
    refused = await http.post(f"{URL}/a2a/review", content=plain)
    assert "messages" in refused.json()["error"]["message"]
