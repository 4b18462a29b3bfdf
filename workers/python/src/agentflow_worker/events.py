"""Events of a run on their way to the server."""

import asyncio
from collections.abc import Sequence
from typing import Any

from agentflow_worker import encode
from agentflow_worker.scope import Scope

OVERHEAD_BYTES = 64
"""What an event costs beside its JSON."""

_BATCH_BYTES = 64 * 1024


class EventSink:
    """Sends events in order, in batches, and never more than the server gave credit for."""

    def __init__(self, scope: Scope, credit: int) -> None:
        self._scope = scope
        self._credit = credit
        self._more = asyncio.Event()
        self._waiting: list[list[Any]] = []
        self._waiting_bytes = 0
        self._loop = asyncio.get_running_loop()

    def give(self, credit: int) -> None:
        """The server stored events; runs in the loop."""
        self._credit += credit
        if self._credit > 0:
            self._more.set()

    async def send(self, ns: Sequence[str], mode: str, data: Any) -> bytes:
        """Sends an event, once there is credit; returns its JSON."""
        text = encode.dumps(data)
        while self._credit <= 0:
            self.flush()
            self._more.clear()
            await self._more.wait()
        cost = len(text) + OVERHEAD_BYTES
        self._credit -= cost
        if self._waiting and self._waiting_bytes + cost > _BATCH_BYTES:
            self.flush()
        # What is reported in the same turn of the loop leaves in one frame.
        if not self._waiting:
            self._loop.call_soon(self._flush_soon)
        self._waiting.append([[*ns], mode, text])
        self._waiting_bytes += cost
        if self._waiting_bytes > _BATCH_BYTES:
            self.flush()
        return text

    def flush(self) -> None:
        """Sends what waits. Raises `FrameTooLarge`."""
        events, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if events:
            self._scope.notify("run.events", {"events": events})

    def _flush_soon(self) -> None:
        try:
            self.flush()
        except ValueError as err:
            self._failed = err

    _failed: ValueError | None = None

    def finish(self) -> None:
        """Sends the rest. Raises what could not be sent."""
        self.flush()
        if self._failed is not None:
            raise self._failed
