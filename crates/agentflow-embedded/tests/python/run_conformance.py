"""Runs LangGraph's checkpoint conformance package against the Rust storage.

usage: run_conformance.py SAVER_PROGRAM [PROGRAM_URL DIRECT_URL]

With URLs the storage is that PostgreSQL database, emptied before each test; otherwise a new file
for each. Exits with 1 if a test fails.
"""

import asyncio
import os
import sys
import tempfile

from agentflow_saver import AgentFlowSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

BASE = {"put", "put_writes", "get_tuple", "list", "delete_thread"}


def place(folder: str, url: str | None, direct: str | None) -> str:
    if url is None:
        return os.path.join(folder, "test.db")
    import psycopg

    with psycopg.connect(direct, autocommit=True) as connection:
        connection.execute("TRUNCATE checkpoints, checkpoint_blobs, checkpoint_writes")
    return url


async def main(program: str, url: str | None = None, direct: str | None = None) -> int:
    @checkpointer_test(name="AgentFlow")
    async def fresh():
        with tempfile.TemporaryDirectory() as folder:
            saver = await AgentFlowSaver.start(program, place(folder, url, direct))
            try:
                yield saver
            finally:
                await saver.stop()

    report = await validate(fresh)
    passed = failed = base = 0
    for name, result in report.results.items():
        label = "base" if name in BASE else "extended"
        print(f"{name}: {label}, {result.tests_passed} passed, {result.tests_failed} failed")
        for failure in result.failures:
            print("  " + failure)
        passed, failed = passed + result.tests_passed, failed + result.tests_failed
        base += result.tests_passed if name in BASE else 0
    print(f"total: {passed} passed ({base} base), {failed} failed")
    return 1 if failed or base < 58 else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
