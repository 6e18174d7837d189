"""How are the tools of MCP servers offered to a model (Model Context Protocol)?"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..errors import OutriderError
from .client import Json

if TYPE_CHECKING:
    import mcp
    from mcp.client.stdio import StdioServerParameters

CALL_TIMEOUT_S = 300.0  # of one tool; some of them wait for a person
CONNECT_TIMEOUT_S = 60.0  # of one server, which may have to be downloaded first
MISSING = "--mcp needs the package mcp: pip install 'outrider[mcp]'"
DECLINED = "The user declined this call."
SHAPE = 'a JSON object like {"mcpServers": {"NAME": {"command": "...", "args": []}}}'

Confirm = Callable[[str, str], bool]
"""Shows a call (its name and its arguments), and decides whether it is made."""


class McpError(OutriderError):
    """An MCP configuration cannot be read, or a server cannot be reached."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How a server is started, or where it is: `command` or `url`."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str = ""  # of the transport "streamable HTTP"


def read_config(path: Path) -> tuple[ServerSpec, ...]:
    """The servers of a file as other MCP clients have it. Raises McpError."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise McpError(f"{path} cannot be read: {error}") from error
    servers = config.get("mcpServers") if isinstance(config, dict) else None
    if not isinstance(servers, dict) or not servers:
        raise McpError(f"{path} names no servers; it has to be {SHAPE}")
    return tuple(_spec(path, name, given) for name, given in servers.items())


def _spec(path: Path, name: str, given: object) -> ServerSpec:
    if not isinstance(given, dict) or not (given.get("command") or given.get("url")):
        raise McpError(f"{path}: the server {name} needs a command or a url")
    args, env = given.get("args") or [], given.get("env") or {}
    if not isinstance(args, list) or not isinstance(env, dict):
        raise McpError(f"{path}: of the server {name}, args must be a list and env an object")
    return ServerSpec(
        name=name,
        command=str(given.get("command") or ""),
        args=tuple(map(str, args)),
        env={str(key): str(value) for key, value in env.items()},
        cwd=str(given["cwd"]) if given.get("cwd") else None,
        url=str(given.get("url") or ""),
    )


class McpToolbox:
    """The tools of some servers, while they are connected.

    The servers live in a task of their own, because their connections have to be closed by the
    task that opened them, and each line typed at the prompt is a task.
    """

    def __init__(self, servers: tuple[ServerSpec, ...], confirm: Confirm) -> None:
        self._servers = servers
        self._confirm = confirm
        self._owners: dict[str, mcp.Client] = {}  # by the name of a tool
        self._closing = asyncio.Event()
        self.tools: tuple[Json, ...] = ()  # as POST /api/chat takes them

    async def open(self) -> Self:
        """Connect to all servers. Raises McpError."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(ready))
        await ready
        return self

    async def close(self) -> None:
        """Disconnect from the servers, and end those that were started."""
        self._closing.set()
        await self._task

    async def call(self, call: Json) -> str:
        """The result of a tool call (CONTRACT 1.9) as text for the model, also if it fails."""
        name, arguments = call["function"]["name"], call["function"].get("arguments") or {}
        owner = self._owners.get(name)
        if owner is None:
            return f"Error: there is no tool {name}."
        shown = json.dumps(arguments, ensure_ascii=False)
        if not self._confirm(name, shown):  # a person has the time that it takes
            return DECLINED
        try:
            result = await owner.call_tool(name, arguments, read_timeout_seconds=CALL_TIMEOUT_S)
        except Exception as error:  # of the server or of its transport: the model may try again
            return f"Error: {error}"
        texts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
        return ("Error: " if result.is_error else "") + "\n".join(texts)

    async def _serve(self, ready: asyncio.Future[None]) -> None:
        try:
            async with AsyncExitStack() as stack:
                for spec in self._servers:
                    await self._connect(stack, spec)
                ready.set_result(None)
                await self._closing.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(_first(error))

    async def _connect(self, stack: AsyncExitStack, spec: ServerSpec) -> None:
        try:
            import mcp
        except ImportError:
            raise McpError(MISSING) from None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                client = await stack.enter_async_context(mcp.Client(_transport(spec)))
                cursor: str | None = ""
                while cursor is not None:
                    page = await client.list_tools(cursor=cursor or None)
                    for tool in page.tools:
                        self._add(client, tool.name, tool.description or "", tool.input_schema)
                    cursor = page.next_cursor
        except McpError:
            raise
        except Exception as error:
            cause = _first(error)
            reason = str(cause) or type(cause).__name__
            raise McpError(f"the MCP server {spec.name} cannot be used: {reason}") from error

    def _add(self, owner: mcp.Client, name: str, description: str, schema: Json) -> None:
        if name in self._owners:
            raise McpError(f"two MCP servers have a tool {name}; leave one of them out")
        self._owners[name] = owner
        function = {"name": name, "description": description, "parameters": schema}
        self.tools = (*self.tools, {"type": "function", "function": function})


def _transport(spec: ServerSpec) -> str | StdioServerParameters:
    if spec.url:
        return spec.url
    from mcp.client.stdio import StdioServerParameters

    env = {**os.environ, **spec.env}
    return StdioServerParameters(command=spec.command, args=list(spec.args), env=env, cwd=spec.cwd)


def _first(error: BaseException) -> BaseException:
    """The error, or the first one of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
