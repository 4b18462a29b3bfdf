"""A model server that speaks as much of OpenAI's API as the projects need, from a script.

The scripts are those of `agentflow-testkit-model-server`: rules with `when` and `replies`.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ModelServer:
    """Answers from `rules`; counts requests."""

    def __init__(self, script: dict[str, Any] | None = None) -> None:
        self.rules: list[dict[str, Any]] = (script or {}).get("rules", [])
        self.pause = 0.0
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = json.loads(self.rfile.read(length))
                outer.requests.append(body)
                reply = outer.reply(body)
                if body.get("stream"):
                    self.stream(reply)
                else:
                    self.whole(reply)

            def whole(self, reply: dict[str, Any]) -> None:
                message = {"role": "assistant", "content": reply.get("text")}
                if calls := _calls(reply):
                    message["tool_calls"] = calls
                text = json.dumps(
                    {
                        "id": "chatcmpl-1",
                        "object": "chat.completion",
                        "created": 0,
                        "model": "test-model",
                        "choices": [
                            {"index": 0, "message": message, "finish_reason": _reason(reply)}
                        ],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    }
                ).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def stream(self, reply: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                words = (reply.get("text") or "").split(" ") if reply.get("text") else []
                deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
                deltas += [
                    {"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)
                ]
                for index, call in enumerate(_calls(reply)):
                    deltas.append({"tool_calls": [{"index": index, **call}]})
                for delta in deltas:
                    time.sleep(outer.pause)
                    self.piece([{"index": 0, "delta": delta, "finish_reason": None}])
                self.piece([{"index": 0, "delta": {}, "finish_reason": _reason(reply)}])
                self.wfile.write(b"data: [DONE]\n\n")

            def piece(self, choices: list[dict[str, Any]]) -> None:
                part = {
                    "id": "chatcmpl-1",
                    "object": "chat.completion.chunk",
                    "created": 0,
                    "model": "test-model",
                    "choices": choices,
                }
                self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
                self.wfile.flush()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        user = [_text(m) for m in messages if m["role"] == "user"]
        tools = [_text(m) for m in messages if m["role"] == "tool"]
        everything = "\n".join(_text(m) for m in messages)
        for rule in self.rules:
            when = rule.get("when", {})
            if (
                when.get("text", "") in (user[-1] if user else "")
                and when.get("anywhere", "") in everything
                and when.get("tool_result", "") in (tools[-1] if tools else "")
                and when.get("last_role", messages[-1]["role"]) == messages[-1]["role"]
                and when.get("tools", bool(body.get("tools"))) == bool(body.get("tools"))
            ):
                return rule["replies"][0]
        return {"text": f"echo: {user[-1] if user else ''}"}


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _calls(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
        }
        for index, call in enumerate(reply.get("calls", []))
    ]


def _reason(reply: dict[str, Any]) -> str:
    return "tool_calls" if reply.get("calls") else "stop"
