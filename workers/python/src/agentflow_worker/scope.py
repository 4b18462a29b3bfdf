"""One request of the server while it is worked on."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from agentflow_worker.errors import FATAL, ServerError
from agentflow_worker.link import Link, deliver_to

current: contextvars.ContextVar["Scope | None"] = contextvars.ContextVar(
    "agentflow_request", default=None
)
"""The request on whose behalf code runs, also in the threads that it starts."""


class Scope:
    """Everything that is asked or reported for a request goes through here.

    After the request was answered, or the server said that it is over, calls are refused here.
    Threads are refused from the moment when it is cancelled, so that they come to an end; the loop
    may still store what is complete.
    """

    def __init__(self, link: Link, call_id: int) -> None:
        self.link = link
        self.call_id = call_id
        self.fatal: ServerError | None = None
        self.cancelled: str | None = None
        self.answered = False
        self.stop: Callable[[], None] | None = None
        """Stops the request; any thread may call it."""
        self.credit: Callable[[int], None] | None = None
        """Takes credit for events; runs in the loop."""
        self.threads = 0
        """Threads that execute synchronous code of the request."""
        self._lock = threading.Lock()

    def count_thread(self, change: int) -> None:
        """A thread begins or ends to execute code of the request."""
        with self._lock:
            self.threads += change

    def check(self) -> None:
        """Raises if the request is over."""
        if self.fatal is not None:
            raise self.fatal
        if self.answered:
            raise ServerError("cancelled", "the request was answered")

    def check_thread(self) -> None:
        """Raises if a thread should not go on."""
        self.check()
        if self.cancelled is not None:
            raise ServerError("cancelled", f"the request was cancelled: {self.cancelled}")

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Asks the server. Raises `ServerError`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self.ask(method, params, answer, loop)
        return await self.wait(answer)

    def ask(
        self,
        method: str,
        params: dict[str, Any],
        answer: "asyncio.Future[Any]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Sends a call whose end `answer` gets."""
        self.check()
        self.link.ask(method, {"for": self.call_id, **params}, deliver_to(answer, loop))

    async def wait(self, answer: "asyncio.Future[Any]") -> Any:
        """Waits for an answer, and takes note if it means the end of the request."""
        try:
            return await answer
        except ServerError as err:
            self._note(err)
            raise

    def call_sync(self, method: str, params: dict[str, Any]) -> Any:
        """As `call`, for threads; blocks."""
        self.check_thread()
        try:
            return self.link.call_sync(method, {"for": self.call_id, **params})
        except ServerError as err:
            self._note(err)
            raise

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tells the server something."""
        self.link.notify(method, {"for": self.call_id, **params})

    def failed(self, err: BaseException) -> None:
        """Takes note of a call whose end nobody may be waiting for."""
        if isinstance(err, ServerError):
            self._note(err)

    def _note(self, err: ServerError) -> None:
        if err.kind in FATAL and self.fatal is None:
            self.fatal = err
            if self.stop is not None:
                self.stop()
