"""An MCP server without the SDK, so that a test needs nothing but an interpreter.

Its tools: `shout` gives text and structure, `erase` must not run unasked, `odd.name` has a name that
model providers refuse. Writes the calls that it got to the file that the argument names.
"""

import json
import sys

TOOLS = [
    {
        "name": "shout",
        "description": "Shouts.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        },
    },
    {"name": "erase", "description": "Erases.", "inputSchema": {"type": "object"}},
    {"name": "odd.name", "inputSchema": {"type": "object"}},
]


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "fake", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        with open(sys.argv[1], "a") as log:
            log.write(params["name"] + "\n")
        if params["name"] == "shout":
            text = params["arguments"]["text"].upper()
            said = [{"type": "text", "text": text}]
            return {"content": said, "structuredContent": {"loud": text}}
        return {"content": [{"type": "text", "text": "done"}]}
    return {}


for line in sys.stdin:
    call = json.loads(line)
    if "id" in call:
        result = answer(call["method"], call.get("params", {}))
        print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}), flush=True)
