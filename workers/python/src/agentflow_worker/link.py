"""The connection to the server, in a thread of its own.

User code may keep the loop that runs graphs busy for as long as it likes. The connection is read
and written elsewhere, so that threads still get answers, a cancel still arrives, and a loop that
stands still can be reported while it does.
"""

import asyncio
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from agentflow_worker.errors import ConnectionLost, ServerError
from agentflow_worker.frames import (
    ANSWER,
    MAX_FRAME_BYTES,
    NOTICE,
    REQUEST,
    BadFrame,
    Splitter,
    pack,
    unpack,
)

Deliver = Callable[[Exception | None, Any], None]
"""Takes the end of a call: an error or a result. Runs in the thread of the connection."""

_CONNECT_SECONDS = 30.0
_CLOSE_SECONDS = 5.0


class Receiver(Protocol):
    """Who is told what the server sends. Everything runs in the thread of the connection."""

    def on_request(self, call_id: int, method: str, params: dict[str, Any]) -> None: ...

    def on_notice(self, method: str, params: dict[str, Any]) -> None: ...

    def on_closed(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Tls:
    """Files for mutual TLS."""

    ca: str
    cert: str
    key: str

    def context(self) -> ssl.SSLContext:
        """A context that trusts `ca` alone and shows `cert`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context


class Link:
    """Calls, answers and notifications over one connection. All methods may be called anywhere."""

    def __init__(self, address: str, receiver: Receiver, tls: Tls | None = None) -> None:
        self.address = address
        self.max_frame_bytes = MAX_FRAME_BYTES
        self._receiver = receiver
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="agentflow-link", daemon=True)
        self._wire: _Wire | None = None
        self._lock = threading.Lock()
        self._calls: dict[int, Deliver] = {}
        self._last_id = 0
        self._out: deque[bytes] = deque()
        self._flushing = False
        self._closed: str | None = None

    def connect(self) -> None:
        """Connects. Raises `OSError` if nobody listens."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_CONNECT_SECONDS)

    def set_max_frame_bytes(self, limit: int) -> None:
        """The limit of both directions, as the server set it."""
        self.max_frame_bytes = limit
        if self._wire is not None:
            self._wire.splitter.limit = limit

    def close(self) -> None:
        """Sends what waits, then closes."""
        if not self._loop.is_closed() and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(_CLOSE_SECONDS)

    def every(self, seconds: float, look: Callable[[], None]) -> None:
        """Calls `look` again and again in the thread of the connection."""

        def again() -> None:
            look()
            self._loop.call_later(seconds, again)

        self._loop.call_soon_threadsafe(again)

    # Calls

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Asks and waits. Raises `ServerError`, `ConnectionLost`, `FrameTooLarge`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self.ask(method, params, deliver_to(answer, loop))
        return await answer

    def call_sync(self, method: str, params: dict[str, Any]) -> Any:
        """As `call`, for threads; blocks."""
        answer: Future[Any] = Future()

        def deliver(err: Exception | None, result: Any) -> None:
            if err is not None:
                answer.set_exception(err)
            else:
                answer.set_result(result)

        self.ask(method, params, deliver)
        return answer.result()

    def ask(self, method: str, params: dict[str, Any], deliver: Deliver) -> None:
        """Sends a request; `deliver` gets its end, once."""
        with self._lock:
            self._last_id += 1
            call_id = self._last_id
        frame = pack([REQUEST, call_id, method, params], self.max_frame_bytes)
        with self._lock:
            closed = self._closed
            if closed is None:
                self._calls[call_id] = deliver
        if closed is not None:
            raise ConnectionLost(closed)
        self._send(frame)

    def answer(self, call_id: int, result: Any) -> None:
        """Answers a request of the server. Raises `FrameTooLarge`; then nothing was sent."""
        self._send(pack([ANSWER, call_id, None, result], self.max_frame_bytes))

    def refuse(self, call_id: int, error: dict[str, Any]) -> None:
        """Answers a request of the server with an error."""
        self._send(pack([ANSWER, call_id, error, None], self.max_frame_bytes))

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Sends what nobody answers. Raises `FrameTooLarge`."""
        self._send(pack([NOTICE, method, params], self.max_frame_bytes))

    def _send(self, frame: bytes) -> None:
        """Frames leave in the order of the calls.

        If nothing waits, the caller writes to the socket itself, which spares two switches of
        threads; what does not fit is left to the thread of the connection.
        """
        with self._lock:
            if self._closed is not None:
                return
            if not self._flushing and (rest := self._write_now(frame)) is not None:
                frame = rest
                if not frame:
                    return
            self._out.append(frame)
            if self._flushing:
                return
            self._flushing = True
        self._loop.call_soon_threadsafe(self._flush)

    def _write_now(self, frame: bytes) -> bytes | None:
        """Writes as much as the socket takes; what is left, or `None` if it must not be tried."""
        wire = self._wire
        if wire is None or wire.plain_fd is None or wire.full:
            return None
        try:
            return frame[os.write(wire.plain_fd, frame) :]
        except OSError:
            # Full, or broken: the transport will find out.
            return None

    # In the thread of the connection

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> None:
        kind, _, rest = self.address.partition(":")
        if kind == "unix":
            _, self._wire = await self._loop.create_unix_connection(self._new_wire, rest)
        elif kind in ("tls", "tcp"):
            host, _, port = rest.rpartition(":")
            context = self._tls.context() if self._tls else None
            if (kind == "tls") != (context is not None):
                raise ValueError("tls: addresses need certificates, other addresses take none")
            host = host.strip("[]")
            _, self._wire = await self._loop.create_connection(
                self._new_wire, host, int(port), ssl=context
            )
        else:
            raise ValueError(f"address {self.address!r} is not unix:/path or tls:host:port")

    def _new_wire(self) -> "_Wire":
        return _Wire(self._received, self._lost)

    async def _shut(self) -> None:
        self._flush()
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.close()
            await asyncio.wait([self._wire.gone], timeout=_CLOSE_SECONDS / 2)

    def _flush(self) -> None:
        # Under the lock, or somebody could write between these frames.
        with self._lock:
            if self._out and self._wire is not None and self._wire.transport is not None:
                # Not `writelines`, which does not tell of bytes that wait in every Python.
                self._wire.transport.write(b"".join(self._out))
            self._out.clear()
            self._flushing = False

    def _received(self, body: bytes) -> None:
        message = unpack(body)
        match message:
            case [0, int(call_id), str(method), dict(params)]:
                self._receiver.on_request(call_id, method, params)
            case [1, int(call_id), error, result]:
                self._answered(call_id, error, result)
            case [2, str(method), dict(params)]:
                self._receiver.on_notice(method, params)
            case _:
                raise BadFrame(f"an array that is no message: {str(message)[:200]}")

    def _answered(self, call_id: int, error: Any, result: Any) -> None:
        with self._lock:
            deliver = self._calls.pop(call_id, None)
        if deliver is None:
            raise BadFrame(f"an answer to {call_id}, which nobody asked")
        deliver(None if error is None else ServerError.read(error), result)

    def _lost(self, err: Exception | None) -> None:
        reason = f"the connection to the server was lost: {err}" if err else "the server closed"
        with self._lock:
            self._closed = reason
            calls = list(self._calls.values())
            self._calls.clear()
        for deliver in calls:
            deliver(ConnectionLost(reason), None)
        self._receiver.on_closed(reason)


def deliver_to(answer: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> Deliver:
    """Ends `answer`, which belongs to `loop`, from another thread."""

    def settle(err: Exception | None, result: Any) -> None:
        if answer.done():
            return
        if err is not None:
            answer.set_exception(err)
        else:
            answer.set_result(result)

    def deliver(err: Exception | None, result: Any) -> None:
        # The loop may be over: one that user code made for itself.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, err, result)

    return deliver


class _Wire(asyncio.Protocol):
    """Bytes to bodies."""

    def __init__(
        self, received: Callable[[bytes], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.splitter = Splitter()
        self.plain_fd: int | None = None
        """The socket, if bytes may be written to it as they are."""
        self.full = False
        """Whether the transport has bytes that the socket did not take yet."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = received
        self._lost = lost
        self._bad: BadFrame | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # Every byte that waits is told by `pause_writing`.
        transport.set_write_buffer_limits(0)
        if transport.get_extra_info("sslcontext") is None:
            self.plain_fd = transport.get_extra_info("socket").fileno()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def data_received(self, data: bytes) -> None:
        try:
            for body in self.splitter.feed(data):
                self._received(body)
        except BadFrame as err:
            self._bad = err
            assert self.transport is not None
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        self._lost(self._bad or exc)


class Watch:
    """Notices that a loop stands still. `tick` in the loop, `still_for` anywhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = time.monotonic()
        self._asked = False

    def ask(self) -> None:
        """Asks the loop for a sign of life."""
        if not self._asked and not self._loop.is_closed():
            self._asked = True
            self._last = time.monotonic()
            self._loop.call_soon_threadsafe(self._tick)

    def _tick(self) -> None:
        self._asked = False

    def still_for(self) -> float:
        """Seconds since the loop was asked and did not answer; zero if it did."""
        return time.monotonic() - self._last if self._asked else 0.0
