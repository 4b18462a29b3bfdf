"""Projects of the six usual shapes, as people write them."""


def human(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


def stream(client, thread, graph, modes, **options) -> list[tuple[str, object]]:
    parts = client.runs.stream(thread, graph, stream_mode=modes, **options)
    seen = [(part.event, part.data) for part in parts]
    assert not [data for event, data in seen if event == "error"], seen
    return seen


def of(seen, event: str) -> list:
    return [data for name, data in seen if name.split("|")[0] == event]


def new_thread(client) -> str:
    return client.threads.create()["thread_id"]


def test_react_agent_with_tools(project) -> None:
    client = project("react_agent").client
    described = {one["graph_id"]: one["description"] for one in client.assistants.search()}
    assert described["prebuilt"] == "The same with the library's own agent."
    thread = new_thread(client)
    modes = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints"]
    seen = stream(client, thread, "agent", modes, input=human("How is the weather?"))
    values = of(seen, "values")[-1]
    assert [m["type"] for m in values["messages"]] == ["human", "ai", "tool", "ai"]
    assert values["messages"][-1]["content"] == "It is sunny in Bern today."
    assert of(seen, "custom") == [{"looking_up": "Bern"}]
    chunks = [chunk for chunk, _ in of(seen, "messages") if chunk["type"] == "AIMessageChunk"]
    assert "".join(chunk["content"] for chunk in chunks) == "It is sunny in Bern today."
    assert len(chunks) > 3
    tasks = of(seen, "tasks")
    assert {one["name"] for one in tasks} >= {"call_model"}
    assert of(seen, "checkpoints")[-1]["next"] == []

    history = client.threads.get_history(thread)
    assert [state["metadata"]["step"] for state in history] == [3, 2, 1, 0, -1]
    assert client.threads.get(thread)["status"] == "idle"
    again = client.runs.wait(thread, "agent", input=human("And you?"))
    assert len(again["messages"]) == 6

    graph_id = client.assistants.search(graph_id="agent")[0]["assistant_id"]
    drawn = {node["id"] for node in client.assistants.get_graph(graph_id)["nodes"]}
    assert {"__start__", "call_model", "__end__"} <= drawn
    assert "messages" in client.assistants.get_schemas(graph_id)["input_schema"]["properties"]


def test_prebuilt_agent_from_a_factory(project) -> None:
    client = project("react_agent").client
    seen = stream(
        client, None, "prebuilt", ["messages", "values"], input=human("How is the weather?"),
        config={"configurable": {"prompt": "You know the weather."}},
    )
    assert of(seen, "values")[-1]["messages"][-1]["content"] == "It is sunny in Bern today."
    assert of(seen, "messages/partial")


def test_supervisor_with_subgraphs(project) -> None:
    client = project("supervisor").client
    thread = new_thread(client)
    seen = stream(
        client, thread, "supervisor", ["updates", "messages-tuple", "values"],
        input=human("Twice the cantons?"), stream_subgraphs=True,
    )
    said = [m["content"] for m in of(seen, "values")[-1]["messages"][1:]]
    inner = {event.split("|")[1].split(":")[0] for event, _ in seen if "|" in event}
    assert inner == {"researcher", "mathematician"}
    state = client.threads.get_state(thread, subgraphs=True)
    assert state["values"]["next"] == "__end__"
    assert [m["content"] for m in state["values"]["messages"][1:]][-2:] == [
        "researcher: There are 26 cantons.", "mathematician: 26 times 2 is 52."
    ], said
    assistant = client.assistants.search(graph_id="supervisor")[0]["assistant_id"]
    assert {*client.assistants.get_subgraphs(assistant)} == {"researcher", "mathematician"}
    ids = {node["id"] for node in client.assistants.get_graph(assistant, xray=True)["nodes"]}
    assert "researcher:think" in ids


def test_human_in_the_loop(project) -> None:
    client = project("approval").client
    for answer, log in (
        ({"type": "approve"}, ["drafted", "approved", "sent"]),
        ({"type": "edit", "draft": "Bern!"}, ["drafted", "edited", "sent"]),
        ({"type": "refuse"}, ["drafted", "refused"]),
    ):
        thread = new_thread(client)
        asked = client.runs.wait(thread, "approval", input={"topic": "Bern"})
        assert asked["__interrupt__"][0]["value"]["question"] == "Send this?"
        state = client.threads.get_state(thread)
        assert state["next"] == ["review"] and len(state["interrupts"]) == 1
        assert client.threads.get(thread)["status"] == "interrupted"
        assert [*client.threads.get(thread)["interrupts"].values()][0] == state["interrupts"]
        assert client.runs.wait(thread, "approval", command={"resume": answer})["log"] == log
        assert client.threads.get(thread)["status"] == "idle"


def test_time_travel_and_edits(project) -> None:
    client = project("approval").client
    thread = new_thread(client)
    client.runs.wait(thread, "approval", input={"topic": "Bern"})
    client.runs.wait(thread, "approval", command={"resume": {"type": "approve"}})
    history = client.threads.get_history(thread)
    asked = next(state for state in history if state["next"] == ["review"])
    fork = client.threads.update_state(
        thread, {"draft": "By hand."}, as_node="draft", checkpoint=asked["checkpoint"]
    )
    again = client.runs.wait(thread, "approval", checkpoint=fork["checkpoint"])
    assert again["__interrupt__"][0]["value"]["draft"] == "By hand."
    done = client.runs.wait(thread, "approval", command={"resume": {"type": "approve"}})
    assert done["sent"] == "By hand."
    old = client.threads.get_state(thread, checkpoint_id=asked["checkpoint"]["checkpoint_id"])
    assert old["values"]["draft"] == asked["values"]["draft"] != "By hand."


def test_map_reduce_with_send(project) -> None:
    client = project("map_reduce").client
    seen = stream(client, None, "jokes", ["updates", "values"], input={"topic": "cats"})
    values = of(seen, "values")[-1]
    assert len(values["jokes"]) == 3 and values["best"] == values["jokes"][1]
    assert sum("joke" in update for update in of(seen, "updates")) == 3


def test_functional_api(project) -> None:
    client = project("functional").client
    thread = new_thread(client)
    for written in (1, 2):
        seen = stream(client, thread, "essay", ["custom", "updates"], input="Bern")
        assert {"writing": 1} in of(seen, "custom")
        seen = stream(client, thread, "essay", ["custom", "values"], command={"resume": "yes"})
        # What the tasks did is not done again.
        assert of(seen, "custom") == []
        expected = {"text": "First. Second.", "review": "yes", "written": written}
        assert of(seen, "values")[-1] == expected


def test_long_term_memory(project) -> None:
    client = project("memory").client
    said = client.runs.wait(
        new_thread(client), "memory", input=human("I like cheese"), context={"user_id": "ann"}
    )
    assert said["messages"][-1]["content"] == "I will remember that."
    items = client.store.search_items(["memories", "ann"])["items"]
    assert [item["value"] for item in items] == [{"text": "You like cheese."}] or items
    for user, known in (("ann", "You like cheese."), ("bob", "I do not know.")):
        said = client.runs.wait(
            new_thread(client), "memory", input=human("What do I like?"),
            context={"user_id": user},
        )
        assert said["messages"][-1]["content"] == known
