"""The sample projects, unmodified, as a server drives them."""

from fake_server import FakeServer


def human(text: str) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": text}]}


def text_of(chunks: list[list[dict]]) -> str:
    return "".join(chunk["content"] for chunk, _ in chunks if chunk["type"] == "AIMessageChunk")


def test_react_agent(project) -> None:
    server: FakeServer = project("react_agent")
    assert [one["error"] for one in server.ready["graphs"]] == [None, None]
    assert server.ready["graphs"][1]["factory"] is True
    assert server.ready["graphs"][1]["description"] == "The same with the library's own agent."

    run = server.run(
        "agent",
        human("How is the weather?"),
        modes=["values", "updates", "messages", "custom", "tasks"],
    )
    outcome = run.outcome()
    kinds = [message["type"] for message in outcome["values"]["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert outcome["values"]["messages"][-1]["content"] == "It is sunny in Bern today."
    assert outcome["interrupts"] == [] and outcome["next"] == []
    assert run.of_mode("custom") == [{"looking_up": "Bern"}]
    assert [*run.of_mode("updates")[0]] == ["call_model"]

    chunks = run.of_mode("messages")
    assert text_of(chunks) == "It is sunny in Bern today."
    assert sum(chunk["type"] == "AIMessageChunk" for chunk, _ in chunks) > 6
    chunk, metadata = chunks[0]
    assert {"content", "id", "tool_call_chunks", "chunk_position"} <= chunk.keys()
    assert metadata["langgraph_node"] == "call_model" and metadata["graph_id"] == "agent"

    run = server.run("agent", human("And you?"), context={"system_prompt": "Be brief."})
    assert len(run.outcome()["values"]["messages"]) == 6
    assert run.outcome()["values"]["messages"][-1]["content"] == "echo: And you?"


def test_react_agent_stops_at_the_recursion_limit(project) -> None:
    server: FakeServer = project("react_agent")
    run = server.run("agent", human("Go on forever"), recursion_limit=4)
    answer = run.outcome()["values"]["messages"][-1]["content"]
    assert answer.startswith("Sorry, I could not find an answer")


def test_prebuilt_agent_from_a_factory(project) -> None:
    server: FakeServer = project("react_agent")
    run = server.run(
        "prebuilt",
        human("How is the weather?"),
        modes=["messages", "tools"],
        configurable={"prompt": "You know the weather."},
    )
    assert run.outcome()["values"]["messages"][-1]["content"] == "It is sunny in Bern today."
    assert text_of(run.of_mode("messages")) == "It is sunny in Bern today."
    tools = run.of_mode("tools")
    assert [one["event"] for one in tools] == ["tool-started", "tool-finished"]
    assert tools[0]["tool_name"] == "get_weather" and tools[0]["tool_call_id"] == "call_0"


def test_supervisor_with_subgraphs(project) -> None:
    server: FakeServer = project("supervisor")
    run = server.run(
        "supervisor", human("Twice the cantons?"), modes=["updates", "messages"], subgraphs=True
    )
    values = run.outcome()["values"]
    assert values["next"] == "__end__"
    assert [m["content"] for m in values["messages"][1:]] == [
        "researcher: There are 26 cantons.",
        "mathematician: 26 times 2 is 52.",
    ]
    inner = {ns[0].split(":")[0] for ns, _, _ in run.events if ns}
    assert inner == {"researcher", "mathematician"}
    assert any(mode == "messages" and ns for ns, mode, _ in run.events)

    run = server.run("supervisor", human("Again?"), thread_id="t2", modes=["updates"])
    run.outcome()
    assert all(ns == [] for ns, _, _ in run.events)


def test_human_in_the_loop(project) -> None:
    server: FakeServer = project("approval")
    for answer, log, sent in (
        ({"type": "approve"}, ["drafted", "approved", "sent"], "Bern is a quiet city."),
        ({"type": "edit", "draft": "Bern!"}, ["drafted", "edited", "sent"], "Bern!"),
        ({"type": "refuse"}, ["drafted", "refused"], None),
    ):
        thread = answer["type"]
        run = server.run("approval", {"topic": "Bern"}, thread_id=thread, modes=["updates"])
        outcome = run.outcome()
        assert outcome["next"] == ["review"]
        assert outcome["values"]["draft"] == "Bern is a quiet city."
        asked = outcome["interrupts"][0]
        assert asked["value"] == {"question": "Send this?", "draft": "Bern is a quiet city."}
        assert run.of_mode("updates")[-1] == {"__interrupt__": [asked]}

        state = server.state("approval", thread)
        assert state["next"] == ["review"] and state["tasks"][0]["interrupts"] == [asked]

        run = server.run("approval", thread_id=thread, command={"resume": {asked["id"]: answer}})
        outcome = run.outcome()
        assert outcome["values"]["log"] == log and outcome["values"].get("sent") == sent
        assert outcome["next"] == [] and outcome["interrupts"] == []


def test_edit_of_the_state_before_resuming(project) -> None:
    server: FakeServer = project("approval")
    server.run("approval", {"topic": "Bern"}).outcome()
    changed = server.update("approval", [[{"values": {"draft": "By hand."}, "as_node": "draft"}]])
    assert changed["thread_id"] == "t1" and changed["checkpoint_id"]
    state = server.state("approval")
    assert state["values"]["draft"] == "By hand." and state["next"] == ["review"]
    asked = server.run("approval", resume=True).outcome()["interrupts"][0]
    assert asked["value"]["draft"] == "By hand."
    outcome = server.run("approval", command={"resume": {"type": "approve"}}).outcome()
    assert outcome["values"]["sent"] == "By hand."


def test_map_reduce_with_send(project) -> None:
    server: FakeServer = project("map_reduce")
    run = server.run("jokes", {"topic": "cats"}, modes=["updates", "tasks"])
    values = run.outcome()["values"]
    assert values["jokes"] == [
        "cats 1: Ha.",
        "cats 2: A very, very long story about a cat.",
        "cats 3: Ha.",
    ]
    assert values["best"] == values["jokes"][1]
    started = [one for one in run.of_mode("tasks") if "input" in one and one["name"] == "joke"]
    assert [one["input"] for one in started] == [{"subject": f"cats {n}"} for n in (1, 2, 3)]


def test_functional_api(project) -> None:
    server: FakeServer = project("functional")
    for written in (1, 2):
        run = server.run("essay", "Bern", modes=["values", "updates", "custom"])
        outcome = run.outcome()
        asked = outcome["interrupts"][0]
        assert asked["value"] == {"question": "Is this good?", "text": "First. Second."}
        assert {"writing": 1} in run.of_mode("custom")
        run = server.run("essay", command={"resume": "yes"}, modes=["updates", "custom"])
        assert run.outcome()["values"] == {
            "text": "First. Second.",
            "review": "yes",
            "written": written,
        }
        # What the tasks did is not done again.
        assert run.of_mode("custom") == []


def test_long_term_memory(project) -> None:
    server: FakeServer = project("memory", hello={"store": {"ttl": {"default_ttl": 10080}}})
    run = server.run("memory", human("I like cheese"), context={"user_id": "ann"})
    assert run.outcome()["values"]["messages"][-1]["content"] == "I will remember that."
    for user, known in (("ann", "You like cheese."), ("bob", "I do not know.")):
        run = server.run(
            "memory", human("What do I like?"), thread_id=user, context={"user_id": user}
        )
        assert run.outcome()["values"]["messages"][-1]["content"] == known
    put = next(op for op in server.store_ops if op["op"] == "put")
    assert put["namespace"] == ["memories", "ann"] and put["ttl"] == 10080
    search = next(op for op in server.store_ops if op["op"] == "search")
    assert search["query"] == "I like cheese" and search["limit"] == 3
