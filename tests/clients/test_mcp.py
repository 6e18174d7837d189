"""Tools of real MCP servers, which are started over stdio."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from outrider.daemon.cli.mcp_servers import (
    DECLINED,
    McpError,
    McpToolbox,
    ServerSpec,
    read_config,
)

pytest.importorskip("mcp", reason="the extra outrider[mcp] is not installed")
pytestmark = pytest.mark.contract

SERVER = """
import os
from mcp.server.mcpserver import MCPServer
server = MCPServer("demo")
@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
@server.tool()
def fail() -> str:
    "Always fails."
    raise ValueError("out of order")
@server.tool()
def variable(name: str) -> str:
    "An environment variable."
    return os.environ.get(name, "")
server.run()
"""


def call(name: str, /, **arguments: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": arguments}}


@pytest.fixture
def server(tmp_path: Path) -> ServerSpec:
    (tmp_path / "server.py").write_text(SERVER)
    config = tmp_path / "mcp.json"
    entry = {"command": sys.executable, "args": [str(tmp_path / "server.py")], "env": {"X": "7"}}
    config.write_text(json.dumps({"mcpServers": {"demo": entry}}))
    (spec,) = read_config(config)
    return spec


async def test_tools_are_listed_and_called(server: ServerSpec) -> None:
    asked: list[tuple[str, str]] = []

    def confirm(name: str, arguments: str) -> bool:
        asked.append((name, arguments))
        return name != "fail" or len(asked) < 4

    toolbox = await McpToolbox((server,), confirm).open()
    try:
        functions = {tool["function"]["name"]: tool["function"] for tool in toolbox.tools}
        assert functions.keys() == {"add", "fail", "variable"}
        assert functions["add"]["description"] == "Add two numbers."
        assert functions["add"]["parameters"]["required"] == ["a", "b"]
        assert await toolbox.call(call("add", a=1, b=2)) == "3"
        assert await toolbox.call(call("variable", name="X")) == "7"
        assert (await toolbox.call(call("add", a="x"))).startswith("Error: ")
        assert await toolbox.call(call("fail")) == DECLINED
        assert await toolbox.call(call("other")) == "Error: there is no tool other."
    finally:
        await toolbox.close()
    assert asked[0] == ("add", '{"a": 1, "b": 2}')


async def test_two_servers_may_not_have_one_tool(server: ServerSpec) -> None:
    with pytest.raises(McpError, match="two MCP servers have a tool add"):
        await McpToolbox((server, server), lambda *_: True).open()


@pytest.mark.parametrize(
    "spec",
    [
        ServerSpec("gone", command="/does/not/exist"),
        ServerSpec("gone", command=sys.executable, args=("-c", "raise SystemExit(3)")),
        ServerSpec("gone", url="http://127.0.0.1:9/mcp"),
    ],
)
async def test_a_server_that_cannot_be_used_is_named(spec: ServerSpec) -> None:
    with pytest.raises(McpError, match="the MCP server gone cannot be used"):
        await McpToolbox((spec,), lambda *_: True).open()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "names no servers"),
        ('{"mcpServers": {"a": {}}}', "the server a needs a command or a url"),
        ('{"mcpServers": {"a": {"command": "x", "args": "y"}}}', "args must be a list"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mcp.json").write_text(text)
    with pytest.raises(McpError, match=words):
        read_config(tmp_path / "mcp.json")
