"""Threads for synchronous code, counted by request."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from agentflow_worker.scope import current

MAX_THREADS = int(os.environ.get("AGENTFLOW_WORKER_THREADS", "128"))
"""Most threads at once. A thread that never ends keeps its place until the process is replaced."""


class Threads(ThreadPoolExecutor):
    """The default executor of the loop: LangGraph runs synchronous nodes and tools here."""

    def __init__(self, most: int = MAX_THREADS) -> None:
        super().__init__(max_workers=most, thread_name_prefix="agentflow-node")

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        scope = current.get()
        if scope is None:
            return super().submit(function, *args, **kwargs)

        def counted() -> Any:
            # What waited for a free thread while its request was cancelled does not begin.
            scope.check_thread()
            scope.count_thread(1)
            try:
                return function(*args, **kwargs)
            finally:
                scope.count_thread(-1)

        return super().submit(counted)
