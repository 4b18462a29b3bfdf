"""Runs LangGraph's checkpoint conformance package against the Rust storage.

usage: run_conformance.py SAVER_PROGRAM

Exits with 1 if a test fails.
"""

import asyncio
import os
import sys
import tempfile

from agentflow_saver import AgentFlowSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

BASE = {"put", "put_writes", "get_tuple", "list", "delete_thread"}


async def main(program: str) -> int:
    @checkpointer_test(name="AgentFlow")
    async def fresh():
        with tempfile.TemporaryDirectory() as folder:
            saver = await AgentFlowSaver.start(program, os.path.join(folder, "test.db"))
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
    sys.exit(asyncio.run(main(sys.argv[1])))
