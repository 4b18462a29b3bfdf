"""The official MCP client against `/mcp`."""

import os

import httpx
import pytest
from mcp import Client, MCPError

URL = os.environ["AGENTFLOW_URL"] + "/mcp"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


async def every_tool(client):
    tools, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return {tool.name: tool for tool in tools}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_assistant_is_a_tool(mode):
    async with Client(URL, mode=mode) as client:
        assert client.server_info.name == "AgentFlow"
        tools = await every_tool(client)
        assert tools["echo"].input_schema["type"] == "object"
        assert tools["review"].input_schema["properties"]["topic"]
        assert "runs_start" in tools
        result = await client.call_tool("echo", HELLO)
        assert not result.is_error
        assert result.structured_content["messages"][-1]["content"] == "echo: hello"
        assert "echo: hello" in result.content[0].text


async def test_assistants_have_names_of_their_own(client):
    made = [
        await client.assistants.create("echo", name="Say it again!", description=f"Number {n}.")
        for n in range(2)
    ]
    try:
        async with Client(URL) as mcp:
            tools = await every_tool(mcp)
            ours = [tool for tool in tools.values() if tool.title == "Say it again!"]
            assert len({tool.name for tool in ours}) == 2
            assert {tool.description for tool in ours} == {"Number 0.", "Number 1."}
            for tool in ours:
                result = await mcp.call_tool(tool.name, HELLO)
                assert "echo: hello" in result.content[0].text
            result = await mcp.call_tool(made[0]["assistant_id"], HELLO)
            assert "echo: hello" in result.content[0].text
    finally:
        for one in made:
            await client.assistants.delete(one["assistant_id"])


async def test_a_question_is_answered_through_the_platform_tools():
    async with Client(URL) as client:

        async def call(name, **arguments):
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            return result.structured_content

        run = await call("runs_start", assistant_id="review", input={"topic": "tea"})
        asked = await call("runs_wait", thread_id=run["thread_id"], run_id=run["run_id"])
        assert asked["status"] == "success"
        assert asked["result"]["__interrupt__"][0]["value"]["draft"] == "News about tea"
        state = await call("threads_state", thread_id=run["thread_id"])
        assert state["next"] == ["review"]
        found = await call("threads_search", status="interrupted", limit=100)
        assert run["thread_id"] in [thread["thread_id"] for thread in found["threads"]]
        answer = await call(
            "runs_start", assistant_id="review", thread_id=run["thread_id"], resume="yes"
        )
        done = await call("runs_wait", thread_id=run["thread_id"], run_id=answer["run_id"])
        assert done["result"]["published"] == ["News about tea"]


async def test_runs_are_watched_and_stopped():
    async with Client(URL) as client:
        long = {"steps": 1000, "delay_ms": 100}
        start = {"assistant_id": "slow", "input": long}
        run = (await client.call_tool("runs_start", start)).structured_content
        place = {"thread_id": run["thread_id"], "run_id": run["run_id"]}
        waited = await client.call_tool("runs_wait", {**place, "timeout_seconds": 0.2})
        assert "result" not in waited.structured_content
        stopped = await client.call_tool("runs_cancel", place)
        assert not stopped.is_error
        status = await client.call_tool("runs_get", place)
        assert status.structured_content["status"] == "interrupted"


async def test_items_are_stored():
    async with Client(URL) as client:
        item = {"namespace": ["mcp", "test"], "key": "k", "value": {"n": 1}}
        assert not (await client.call_tool("store_put", item)).is_error
        place = {"namespace": ["mcp", "test"], "key": "k"}
        found = await client.call_tool("store_get", place)
        assert found.structured_content["item"]["value"] == {"n": 1}
        found = await client.call_tool("store_search", {"namespace_prefix": ["mcp"]})
        assert [one["key"] for one in found.structured_content["items"]] == ["k"]
        nothing = await client.call_tool("store_get", {**place, "key": "other"})
        assert nothing.structured_content["item"] is None


async def test_mistakes_are_told():
    async with Client(URL) as client:
        with pytest.raises(MCPError, match="Unknown tool: nothing"):
            await client.call_tool("nothing", {})
        wrong = await client.call_tool("runs_get", {"thread_id": "x", "run_id": 1})
        assert wrong.is_error
        assert "run_id" in wrong.content[0].text
        wrong = await client.call_tool("store_put", {"namespace": [], "key": "k", "value": {}})
        assert wrong.is_error
        broken = {"messages": [{"role": "nobody", "content": "x"}]}
        assert (await client.call_tool("echo", broken)).is_error


async def test_the_endpoint_is_plain_http():
    accept = {"accept": "application/json"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with httpx.AsyncClient(headers=accept) as http:
        assert (await http.post(URL, json=ping)).json() == {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {},
        }
        assert (await http.get(URL)).status_code == 405
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await http.post(URL, json=told)).status_code == 202
