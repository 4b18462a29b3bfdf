"""The steps that LangGraph's saver and store take to make their tables.

usage: steps.py some URL CHECKPOINTS STORE
           the first so many steps of both, as an older package would have taken them, and a row
           in what is there
       steps.py all URL
           what Python's setup does now, twice: it must find nothing to complain about
"""

import sys

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore

ROWS = {
    2: "INSERT INTO checkpoints VALUES ('t', '', '1', NULL, NULL,"
    ' \'{"v": 1, "id": "1", "ts": "x", "channel_values": {"n": 1},'
    ' "channel_versions": {"n": "1", "l": "2"}, "versions_seen": {}}\', \'{"step": 7}\')',
    3: "INSERT INTO checkpoint_blobs VALUES ('t', '', 'l', '2', 'msgpack', '\\x9101')",
    4: "INSERT INTO checkpoint_writes VALUES ('t', '', '1', 'task', 0, 'a', 'msgpack', '\\x05')",
}


def some(url: str, checkpoints: str, store: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name, steps, count in (
            ("checkpoint_migrations", PostgresSaver.MIGRATIONS, int(checkpoints)),
            ("store_migrations", PostgresStore.MIGRATIONS, int(store)),
        ):
            if count:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (v INTEGER PRIMARY KEY)")
            for version, sql in enumerate(steps[:count]):
                connection.execute(sql)
                connection.execute(f"INSERT INTO {name} (v) VALUES ({version})")
        for count, sql in ROWS.items():
            if int(checkpoints) >= count:
                connection.execute(sql)
        if int(store):
            connection.execute("INSERT INTO store (prefix, key, value) VALUES ('a', 'k', '{}')")


def all_of_them(url: str) -> None:
    for _ in range(2):
        with PostgresSaver.from_conn_string(url) as saver:
            saver.setup()
        with PostgresStore.from_conn_string(url) as store:
            store.setup()


if __name__ == "__main__":
    {"some": some, "all": all_of_them}[sys.argv[1]](*sys.argv[2:])
