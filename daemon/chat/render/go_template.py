"""How a Go template turns a conversation into a prompt, as Ollama has it (CONTRACT 8.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

import msgspec
from gotpl.compile.compiler import compile_template
from gotpl.compile.instructions import Program
from gotpl.errors import TemplateError
from gotpl.parse.nodes import ParsedTemplate
from gotpl.parse.parser import parse_template
from gotpl.runtime.callables import PreparedFunctionRegistry
from gotpl.runtime.policy import ExecutionBudget, SandboxPolicy
from gotpl.runtime.sync_vm import render_program

from ...errors import BadRequest
from ..conversation import Conversation, Infill, Message, Tool, ToolCall
from ..format import UnreadableTemplate
from .go_bounds import bounded, bounded_format
from .go_data import of_conversation, of_infill, of_think, to_typescript
from .go_escapes import escape_html, escape_js, escape_query
from .go_facts import GoFacts, read_facts
from .go_tree import PRINT, cut_after_response, with_printing, with_response
from .go_values import (
    are_equal,
    are_unequal,
    print_format,
    print_line,
    print_values,
    to_json,
    to_text,
)
from .merging import merge
from .renderer import NO_INFILL

DATE = "%Y-%m-%d"
# Stands at the end of a message that is continued. It is no character, so that no text holds it.
END = "\ufdd0"
# Far more than any model's template has. One of this length is compiled in 2 s (measured).
MAX_TEMPLATE_CHARS = 1 << 18
# Far more than any prompt needs, so that a template that runs for ever ends with an error.
BUDGET = ExecutionBudget(
    max_output_chars=1 << 26,
    max_iterations=1 << 20,
    max_template_depth=100,
    max_function_calls=1 << 21,
)
# Enough for the few short messages with which a template is tried out.
PROBE_BUDGET = ExecutionBudget(
    max_output_chars=1 << 16,
    max_iterations=1 << 10,
    max_template_depth=100,
    max_function_calls=1 << 12,
)
# The parts of an exchange in their order: roles, and the variables of a legacy template.
_PLACES, _VARIABLES = ("system", "user", "assistant"), ("System", "Prompt", "Response")


class GoTemplate:
    """A Renderer of a Go template. What a template prints of tools and calls is JSON."""

    def __init__(self, source: str, *, budget: ExecutionBudget = BUDGET) -> None:
        """`budget`: of one rendering. Raises UnreadableTemplate."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise UnreadableTemplate(f"it is longer than {MAX_TEMPLATE_CHARS} characters")
        self._source, self._budget = source, budget
        try:
            self._read()
        except (TemplateError, RecursionError) as error:
            raise UnreadableTemplate(str(error)) from error

    def render(self, conversation: Conversation) -> str:
        """The prompt. Raises BadRequest with the text of the template engine if it fails."""
        messages = merge(conversation.messages, after_calls=True)
        if "Messages" not in self.facts.names:
            return self._render_exchanges(messages, conversation.think)
        last = messages[-1] if messages else None
        if last and last.role == "assistant" and not last.tool_calls:
            prompt = self._render_open(conversation, messages)
            if prompt is not None:
                return prompt
        return self._run(self._program, of_conversation(conversation, messages))

    def render_infill(self, infill: Infill) -> str:
        """The prompt that has the model fill the gap."""
        if "Suffix" not in self.facts.names:
            raise BadRequest(NO_INFILL)
        return self._run(self._program, of_infill(infill))

    def _read(self) -> None:
        tree = parse_template(self._source, functions=_FUNCTIONS.keys())
        self.facts: GoFacts = read_facts(tree)
        if not self.facts.names & {"Messages", "Response"}:
            tree = with_response(tree)
        self._program = self._compile(tree)
        self._last_program = self._compile(cut_after_response(tree))

    @cached_property
    def round_trips(self) -> bool:
        """Whether a call and its result both appear in a prompt; the template is tried out."""
        try:
            prompt = self.render(_ROUND_TRIP)
        except BadRequest:
            return False
        return "called_tool" in prompt and "tool result" in prompt

    def _render_open(self, conversation: Conversation, messages: Sequence[Message]) -> str | None:
        """The prompt up to the end of the last message; None if the template leaves that out."""
        content = messages[-1].content + END
        marked = [*messages[:-1], msgspec.structs.replace(messages[-1], content=content)]
        prompt, end, _ = self._run(self._program, of_conversation(conversation, marked)).rpartition(
            END
        )
        return prompt if end else None

    def _render_exchanges(self, messages: Sequence[Message], think: bool | str | None) -> str:
        """The prompt of a template that knows one exchange: it is rendered for each of them."""
        exchanges: list[dict[str, object]] = [{}]
        for message in messages:
            if message.role not in _PLACES:
                continue
            place = _PLACES.index(message.role)
            if any(exchanges[-1].get(name) for name in _VARIABLES[place:]):
                exchanges.append({})
            exchanges[-1][_VARIABLES[place]] = message.content
        *earlier, last = (
            {**dict.fromkeys(_VARIABLES, ""), **texts, **of_think(think)} for texts in exchanges
        )
        prompts = [self._run(self._program, exchange) for exchange in earlier]
        return "".join([*prompts, self._run(self._last_program, last)])

    def _compile(self, tree: ParsedTemplate) -> Program:
        return compile_template(with_printing(tree), source=self._source)

    def _run(self, program: Program, variables: dict[str, object]) -> str:
        namespace = {definition.name: definition for definition in program.definitions}
        try:
            return render_program(
                program,
                variables,
                functions=_PREPARED,
                budget=self._budget,
                sandbox=_SANDBOX,
                _namespace=namespace,
            )
        except (TemplateError, RecursionError) as error:
            raise BadRequest(f"the template of the model failed: {error}") from error


def _today(*_ignored: object) -> str:
    return datetime.now().strftime(DATE)


def _yesterday(*_ignored: object) -> str:
    return (datetime.now() - timedelta(days=1)).strftime(DATE)


# Those of Ollama, and those of Go that print, escape or compare values.
_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "json": to_json,
    "currentDate": _today,
    "yesterdayDate": _yesterday,
    "toTypeScriptType": to_typescript,
    "eq": are_equal,
    "ne": are_unequal,
    "print": bounded(print_values),
    "println": bounded(print_line),
    "printf": bounded_format(print_format),
    "html": bounded(escape_html),
    "js": bounded(escape_js),
    "urlquery": bounded(escape_query),
}
_PREPARED = PreparedFunctionRegistry({**_FUNCTIONS, PRINT: to_text})
_SANDBOX = SandboxPolicy(allow_functions=_PREPARED.keys(), default_budget=BUDGET)
_ROUND_TRIP = Conversation(
    (
        Message("user", "question"),
        Message("assistant", tool_calls=(ToolCall("called_tool", {}),)),
        Message("tool", "tool result", tool_name="called_tool"),
    ),
    tools=(Tool({"type": "function", "function": {"name": "offered_tool", "parameters": {}}}),),
)
