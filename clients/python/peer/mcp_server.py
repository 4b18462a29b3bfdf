"""An MCP server of the official SDK: `mcp_server.py stdio`, or `mcp_server.py http PORT`."""

import os
import sys
import time

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("peer")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def describe(name: str) -> dict[str, str]:
    """Gives a structure."""
    return {"name": name, "length": str(len(name))}


@server.tool()
def environment(name: str) -> str:
    """Tells an environment variable."""
    return os.environ.get(name, "")


@server.tool()
def process() -> int:
    """Tells the id of this process."""
    return os.getpid()


@server.tool()
def large(n: int) -> str:
    """Gives a text of n characters."""
    return "x" * n


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("no such thing")


@server.tool()
def die() -> str:
    """Ends this process in the middle of the call."""
    os._exit(3)


@server.tool()
async def hang() -> str:
    """Does not answer, and keeps the server from answering anything else."""
    time.sleep(3600)
    return "late"


@server.tool()
async def grow(ctx: Context) -> str:
    """Adds the tool `grown` and says so."""
    server.add_tool(lambda: "grown", name="grown", description="Was added.")
    await ctx.session.send_tool_list_changed()
    return "done"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
