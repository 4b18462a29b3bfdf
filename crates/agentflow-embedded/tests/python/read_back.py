"""Compares two SQLite files through LangGraph's own saver and store: tuples must be equal.

usage: read_back.py ORIGINAL COPY

Then resumes the waiting thread of the copy and checks that the graph ends.
"""

import sys

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.sqlite import SqliteStore
from langgraph.types import Command

from write_golden import config, graph


def tuples(path: str) -> list:
    with SqliteSaver.from_conn_string(path) as saver:
        found = list(saver.list(None))
        for row in found:
            again = saver.get_tuple(row.config)
            assert again == row, row.config
        return sorted(found, key=lambda row: repr(row.config))


def items(path: str) -> list:
    with SqliteStore.from_conn_string(path) as store:
        store.setup()
        found = store.search((), limit=100)
        return sorted((row.namespace, row.key, row.value) for row in found)


def main(original: str, copy: str) -> None:
    left, right = tuples(original), tuples(copy)
    assert len(left) == len(right) > 10, (len(left), len(right))
    for a, b in zip(left, right):
        assert a == b, (a, b)
    assert items(original) == items(copy), (items(original), items(copy))
    with SqliteSaver.from_conn_string(copy) as saver:
        compiled = graph(saver)
        assert compiled.get_state(config("waiting")).interrupts[0].value == {"question": "first?"}
        compiled.invoke(Command(resume="one"), config("waiting"))
        ended = compiled.invoke(Command(resume="two"), config("waiting"))
        assert ended["xs"] == [1, "a", "one", "two", "each"], ended["xs"]
        assert compiled.get_state(config("waiting")).next == ()
    print(f"equal: {len(left)} checkpoints")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
