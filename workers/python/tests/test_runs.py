"""Runs: interrupts, retries, forks, errors, cancelling, flow control."""

import json
import signal
import time

import pytest
from fake_server import Closed, FakeServer, WireError

COUNTER = """
import operator
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    n: int
    log: Annotated[list, operator.add]

def one(state):
    return {"n": state.get("n", 0) + 1, "log": ["one"]}

def two(state):
    return {"n": state["n"] * 10, "log": ["two"]}

graph = StateGraph(State).add_node(one).add_node(two)
graph.add_edge(START, "one").add_edge("one", "two")
"""


def test_a_run_and_its_checkpoints(serve) -> None:
    server: FakeServer = serve(COUNTER)
    assert server.hello["library"].startswith("langgraph ")
    assert server.hello["language"].startswith("python 3.")
    run = server.run("graph", {"n": 1}, run_id="0193a000-0000-7000-8000-00000000000a",
                     modes=["values", "updates"])  # fmt: skip
    outcome = run.outcome()
    assert outcome == {"values": {"n": 20, "log": ["one", "two"]}, "interrupts": [], "next": []}
    assert run.of_mode("values") == [
        {"n": 1, "log": []},
        {"n": 2, "log": ["one"]},
        {"n": 20, "log": ["one", "two"]},
    ]
    assert run.of_mode("updates") == [
        {"one": {"n": 2, "log": ["one"]}},
        {"two": {"n": 20, "log": ["two"]}},
    ]
    stored = server.saver.metadata("t1")
    assert [one["step"] for one in stored] == [2, 1, 0, -1]
    assert {one["run_id"] for one in stored} == {"0193a000-0000-7000-8000-00000000000a"}
    newest = max(server.saver.rows["t1", ""])
    checkpoint = server.saver.serde.loads_typed(
        tuple(server.saver.rows["t1", ""][newest]["checkpoint"])
    )
    version = checkpoint["channel_versions"]["n"]
    number, fraction = version.split(".", 1)
    assert len(number) == 32 and len(fraction) >= 16


def test_writes_and_the_next_checkpoint_share_a_commit(serve) -> None:
    server: FakeServer = serve(COUNTER)
    server.run("graph", {"n": 1}).outcome()
    kinds = [[op["op"] for op in ops] for ops in server.saver.commits]
    assert any({"writes", "put"} <= {*ops} for ops in kinds), kinds


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_durability(serve, durability: str) -> None:
    server: FakeServer = serve(COUNTER)
    server.run("graph", {"n": 1}, durability=durability).outcome()
    steps = [one["step"] for one in server.saver.metadata("t1")]
    assert steps == ([2] if durability == "exit" else [2, 1, 0, -1])


def test_static_interrupts_and_going_on(serve) -> None:
    server: FakeServer = serve(COUNTER)
    run = server.run("graph", {"n": 1}, interrupt_before=["two"], modes=["updates"])
    assert run.outcome() == {"values": {"n": 2, "log": ["one"]}, "interrupts": [], "next": ["two"]}
    assert run.of_mode("updates")[-1] == {"__interrupt__": []}
    outcome = server.run("graph", resume=True).outcome()
    assert outcome["values"]["n"] == 20 and outcome["next"] == []
    run = server.run("graph", {"n": 1}, thread_id="t2", interrupt_after="*")
    assert run.outcome()["next"] == ["two"]


def test_fork_from_an_earlier_checkpoint(serve) -> None:
    server: FakeServer = serve(COUNTER)
    server.run("graph", {"n": 1}).outcome()
    states = server.history("graph")
    assert [one["next"] for one in states] == [[], ["two"], ["one"], ["__start__"]]
    before_two = states[1]["checkpoint"]
    changed = server.update(
        "graph", [[{"values": {"n": 7}, "as_node": "one"}]],
        checkpoint_id=before_two["checkpoint_id"],
    )  # fmt: skip
    run = server.run("graph", resume=True, checkpoint={
        "checkpoint_ns": "", "checkpoint_id": changed["checkpoint_id"]})  # fmt: skip
    assert run.outcome()["values"]["n"] == 70
    again = server.run("graph", resume=True, checkpoint={
        "checkpoint_ns": "", "checkpoint_id": before_two["checkpoint_id"]})  # fmt: skip
    assert again.outcome()["values"] == {"n": 20, "log": ["one", "two"]}


def test_a_second_attempt_goes_on(serve) -> None:
    server: FakeServer = serve(COUNTER)
    first = server.run("graph", {"n": 1}, run_id="r-1", interrupt_before=["two"])
    first.outcome()
    # As if the first attempt had died: the input must not be applied again.
    second = server.run("graph", {"n": 1}, run_id="r-1", attempt=2)
    assert second.outcome()["values"] == {"n": 20, "log": ["one", "two"]}
    other = server.run("graph", {"n": 1}, run_id="r-2", attempt=2)
    assert other.outcome()["values"]["log"] == ["one", "two", "one", "two"]


BROKEN = """
from typing import Any, TypedDict
from langgraph.graph import START, END, StateGraph

class State(TypedDict, total=False):
    x: Any

class Boom(Exception):
    pass

def node(state):
    kind = state["x"]
    if kind == "custom":
        raise Boom("it broke")
    if kind == "empty":
        raise ValueError()
    if kind == "exit":
        import sys; sys.exit(3)
    if kind == "bad":
        return 5
    if kind == "loop":
        return {"x": "loop"}
    return {}

async def anode(state):
    if state["x"] == "aexit":
        raise SystemExit(4)
    if state["x"] == "surrogate":
        raise ValueError("a\\ud800b")
    return {}

graph = StateGraph(State).add_node("node", node).add_node("anode", anode)
graph.add_edge(START, "anode").add_edge("anode", "node")
graph.add_conditional_edges("node", lambda s: "node" if s["x"] == "loop" else END)
"""


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("custom", "Boom", "it broke"),
        ("empty", "ValueError", ""),
        ("exit", "SystemExit", "3"),
        ("aexit", "SystemExit", "4"),
        ("bad", "InvalidUpdateError", "Expected dict, got 5"),
        ("loop", "GraphRecursionError", "Recursion limit of 5"),
        ("surrogate", "ValueError", "a?b"),
    ],
)
def test_errors_of_nodes(serve, kind: str, name: str, message: str) -> None:
    server: FakeServer = serve(BROKEN)
    with pytest.raises(WireError) as caught:
        server.run("graph", {"x": kind}, recursion_limit=5).outcome()
    error = caught.value.error
    assert (error["kind"], error["class"]) == ("failed", name)
    assert error["message"].startswith(message)
    assert "Traceback" in error["traceback"]
    if kind == "custom":
        assert 'raise Boom("it broke")' in error["traceback"]
        assert server.state("graph")["tasks"][0]["error"] == "Boom('it broke')"
    # The process serves on.
    assert server.run("graph", {"x": "fine"}, thread_id="t2").outcome()["values"] == {"x": "fine"}


def test_input_that_the_graph_refuses(serve) -> None:
    server: FakeServer = serve(COUNTER)
    for options, name in (
        ({"value": 5}, "InvalidUpdateError"),
        ({"resume": True, "thread_id": "t2"}, "EmptyInputError"),
    ):
        with pytest.raises(WireError) as caught:
            server.run("graph", **options).outcome()
        assert (caught.value.error["kind"], caught.value.error["class"]) == ("invalid", name)


SLOW = """
import asyncio, time
from typing import TypedDict
from langgraph.config import get_stream_writer, get_store
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    kind: str
    done: str

async def node(state):
    kind = state["kind"]
    get_stream_writer()("begun")
    if kind == "await":
        await asyncio.sleep(60)
    if kind == "spin":
        time.sleep(2.5)
    return {"done": kind}

def thread(state):
    get_stream_writer()("begun")
    if state["kind"] == "thread":
        for _ in range(600):
            time.sleep(0.1)
            get_store().get(("a",), "b")
    if state["kind"] == "deaf":
        time.sleep(4)
    return {}

graph = StateGraph(State).add_node(node).add_node(thread)
graph.add_conditional_edges(START, lambda s: "node" if s["kind"] in ("await", "spin") else "thread")
"""


def test_cancel_of_an_asynchronous_node(serve) -> None:
    server: FakeServer = serve(SLOW)
    run = server.run("graph", {"kind": "await"}, modes=["custom"])
    run.wait_for(lambda event: event[2] == "begun")
    began = time.monotonic()
    run.cancel("cancel")
    with pytest.raises(WireError) as caught:
        run.outcome()
    assert caught.value.kind == "cancelled" and time.monotonic() - began < 20
    assert "stuck_threads" not in caught.value.error
    # What it had stored is a state to go on from.
    assert server.state("graph")["next"] == ["node"]
    server.notify("cancel", {"for": 12345, "reason": "cancel"})


def test_cancel_stores_what_was_complete(serve) -> None:
    server: FakeServer = serve(SLOW)
    held: list[str] = []

    def hold(method: str, _: dict) -> bool:
        held.append(method)
        return False

    server.hold = hold
    run = server.run("graph", {"kind": "await"}, modes=["custom"], durability="exit")
    run.wait_for(lambda event: event[2] == "begun")
    assert "saver.commit" not in held
    run.cancel()
    with pytest.raises(WireError) as caught:
        run.outcome()
    assert caught.value.kind == "cancelled"
    assert server.state("graph")["next"] == ["node"]


def test_asynchronous_durability_does_not_wait_and_loses_nothing(serve) -> None:
    server: FakeServer = serve(COUNTER)
    commits: list[int] = []

    def hold(method: str, params: dict) -> bool:
        if method == "saver.commit":
            time.sleep(0.2)
            commits.append(len(params["ops"]))
        return False

    server.hold = hold
    server.run("graph", {"n": 1}).outcome()
    # What was written while the first was under way came with the second.
    assert len(commits) <= 3 and sum(commits) >= 6
    assert [one["step"] for one in server.saver.metadata("t1")] == [2, 1, 0, -1]


def test_cancel_of_a_synchronous_node_ends_its_thread_at_its_next_call(serve) -> None:
    server: FakeServer = serve(SLOW)
    run = server.run("graph", {"kind": "thread"}, modes=["custom"])
    run.wait_for(lambda event: event[2] == "begun")
    run.cancel()
    with pytest.raises(WireError) as caught:
        run.outcome()
    assert caught.value.error["stuck_threads"] == 1
    calls = len(server.store_ops)
    time.sleep(0.5)
    assert len(server.store_ops) <= calls + 1


def test_synchronous_nodes_do_not_hold_others_up(serve) -> None:
    server: FakeServer = serve(SLOW)
    slow = server.run("graph", {"kind": "deaf"}, modes=["custom"])
    slow.wait_for(lambda event: event[2] == "begun")
    began = time.monotonic()
    assert server.run("graph", {"kind": "x"}, thread_id="t2").outcome()
    assert server.call("ping", {}).result()["rss_bytes"] > 10_000_000
    assert time.monotonic() - began < 3.5
    slow.outcome()


def test_a_loop_that_stands_still_is_reported_while_it_does(serve) -> None:
    server: FakeServer = serve(SLOW)
    run = server.run("graph", {"kind": "spin"})
    ping = server.call("ping", {})
    assert run.outcome()["values"]["done"] == "spin"
    assert ping.result()
    reports = [log for log in server.logs if log["target"] == "agentflow_worker"]
    assert len(reports) == 1 and "time.sleep(2.5)" in reports[0]["message"]


def test_stacks_on_sigusr1(serve) -> None:
    server: FakeServer = serve(SLOW)
    run = server.run("graph", {"kind": "spin"}, modes=["custom"])
    time.sleep(0.5)
    server.process.send_signal(signal.SIGUSR1)
    run.outcome()
    output = server.wait_for_output("agentflow_worker/link.py")
    assert "in node" in output and "agentflow_worker/link.py" in output


def test_a_worker_that_dies(serve) -> None:
    server: FakeServer = serve(
        """
        import os
        from typing import TypedDict
        from langgraph.graph import START, StateGraph

        class State(TypedDict):
            x: int

        def node(state):
            os._exit(7)

        graph = StateGraph(State).add_node(node).add_edge(START, "node")
        """
    )
    with pytest.raises(Closed):
        server.run("graph", {"x": 1}).outcome()
    assert server.exit_code() == 7


def test_the_server_goes_while_a_node_is_deaf(serve) -> None:
    server: FakeServer = serve(SLOW)
    run = server.run("graph", {"kind": "deaf"}, modes=["custom"])
    run.wait_for(lambda event: event[2] == "begun")
    server.socket.shutdown(2)
    assert server.exit_code(8) == 0


def test_a_lost_lease_stops_the_run(serve) -> None:
    server: FakeServer = serve(COUNTER)
    lost = {"kind": "conflict", "message": "the lease is lost"}
    server.refuse = lambda method, _: lost if method == "saver.commit" else None
    with pytest.raises(WireError) as caught:
        server.run("graph", {"n": 1}).outcome()
    assert caught.value.kind == "conflict"


@pytest.mark.parametrize("kind", ["conflict", "busy", "uncertain"])
def test_user_code_cannot_swallow_the_end_of_its_request(serve, kind: str) -> None:
    server: FakeServer = serve(
        """
        from typing import TypedDict
        from langgraph.config import get_store
        from langgraph.graph import START, StateGraph

        class State(TypedDict, total=False):
            x: int

        def node(state):
            try:
                get_store().get(("a",), "b")
            except Exception:
                pass
            return {"x": 2}

        graph = StateGraph(State).add_node(node).add_edge(START, "node")
        """
    )
    error = {"kind": kind, "class": "Away", "message": "not now"}
    server.refuse = lambda method, _: error if method == "store.batch" else None
    with pytest.raises(WireError) as caught:
        server.run("graph", {"x": 1}).outcome()
    assert caught.value.error["kind"] == kind and caught.value.error["class"] == "Away"


CHATTY = """
from typing import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    count: int
    size: int
    text: str

async def node(state):
    writer = get_stream_writer()
    for number in range(state["count"]):
        writer("x" * state["size"])
    return {"text": "y" * state["size"]}

async def after(state):
    get_stream_writer()("after")
    return {}

graph = StateGraph(State).add_node(node).add_node(after)
graph.add_edge(START, "node").add_edge("node", "after")
"""


def test_flow_control(serve) -> None:
    server: FakeServer = serve(CHATTY)
    credit = 10_000
    run = server.run("graph", {"count": 100, "size": 1000}, modes=["custom"], credit=credit)
    run.give_credit = False
    time.sleep(1)
    assert not run.done.is_set()
    # Ten cost 10 660: the last takes the credit below zero, and the worker waits.
    assert len(run.events) == 10 and run.credit <= 0
    server.give(run, 2_000)
    time.sleep(0.5)
    assert len(run.events) == 12
    run.give_credit = True
    server.give(run, 5_000)
    run.outcome()
    assert len(run.events) == 101 and run.events[-1][2] == "after"


def test_cancel_while_waiting_for_credit(serve) -> None:
    server: FakeServer = serve(CHATTY)
    run = server.run("graph", {"count": 100, "size": 1000}, modes=["custom"], credit=1)
    run.give_credit = False
    time.sleep(0.5)
    run.cancel()
    with pytest.raises(WireError) as caught:
        run.outcome()
    assert caught.value.kind == "cancelled"


def test_big_frames(serve) -> None:
    server: FakeServer = serve(CHATTY)
    size = 20_000_000
    run = server.run("graph", {"count": 1, "size": size, "text": "z" * size}, modes=["custom"])
    assert len(run.outcome(40)["values"]["text"]) == size
    assert len(server.state("graph")["values"]["text"]) == size


def test_values_over_the_limit_fail_their_request_alone(serve) -> None:
    server: FakeServer = serve(CHATTY, hello={"max_frame_bytes": 100_000})
    with pytest.raises(WireError) as caught:
        server.run("graph", {"count": 0, "size": 200_000}).outcome()
    assert (caught.value.kind, caught.value.error["class"]) == ("invalid", "ValueError")
    assert "over the limit of 100000" in caught.value.error["message"]
    assert "the largest value is" in caught.value.error["message"]
    run = server.run("graph", {"count": 1, "size": 200_000}, modes=["custom"], thread_id="t2")
    with pytest.raises(WireError):
        run.outcome()
    assert server.run("graph", {"count": 1, "size": 10}, thread_id="t3").outcome()


def test_many_runs_at_once(serve) -> None:
    server: FakeServer = serve(COUNTER)
    runs = [server.run("graph", {"n": n}, thread_id=f"t{n}") for n in range(100)]
    assert [run.outcome(40)["values"]["n"] for run in runs] == [(n + 1) * 10 for n in range(100)]


def test_events_leave_before_the_answer_and_in_batches(serve) -> None:
    server: FakeServer = serve(CHATTY)
    run = server.run("graph", {"count": 50, "size": 10}, modes=["custom", "values"])
    run.outcome()
    kinds = [mode for _, mode, _ in run.events]
    assert kinds == ["values", *["custom"] * 50, "values", "custom"]


def test_modes_of_the_library(serve) -> None:
    server: FakeServer = serve(COUNTER)
    run = server.run("graph", {"n": 1}, modes=["checkpoints", "debug", "tasks"],
                     metadata={"mine": 1})  # fmt: skip
    run.outcome()
    checkpoints = run.of_mode("checkpoints")
    assert [one["next"] for one in checkpoints] == [["__start__"], ["one"], ["two"], []]
    assert set(checkpoints[0]) == {"config", "parent_config", "values", "metadata", "next", "tasks"}
    assert {one["type"] for one in run.of_mode("debug")} == {"checkpoint", "task", "task_result"}
    started, finished = run.of_mode("tasks")[:2]
    assert started["input"] == {"n": 1, "log": []} and started["metadata"]["mine"] == 1
    assert finished["result"] == {"n": 2, "log": ["one"]} and finished["error"] is None
    json.dumps(run.events)


def test_big_and_small_frames_do_not_mix(serve) -> None:
    server: FakeServer = serve(CHATTY)
    inputs = [
        {"count": 20, "size": 300_000 if number % 2 else 10, "text": "t" * 1_000_000}
        for number in range(12)
    ]
    runs = [
        server.run("graph", told, thread_id=f"t{number}", modes=["custom"])
        for number, told in enumerate(inputs)
    ]
    for number, run in enumerate(runs):
        outcome = run.outcome(60)
        assert outcome["values"]["text"] == "y" * inputs[number]["size"]
        assert [len(data) for _, _, data in run.events] == [inputs[number]["size"]] * 20 + [5]
    assert server.call("ping", {}).result()
