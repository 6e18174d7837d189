"""What does a Go template tell of its model: which variables it knows, and which tags?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gotpl.parse.nodes import (
    ActionNode,
    IdentifierNode,
    ListNode,
    ParsedTemplate,
    RangeNode,
    TextNode,
)

from .go_tree import BranchNode, names_in, names_in_pipe, terms

BARE_CALL = "{"  # the tag of a template whose calls are bare JSON (CONTRACT 8.4)


@dataclass(frozen=True, slots=True)
class GoFacts:
    """Facts of a template."""

    names: frozenset[str]  # of the fields that it mentions, such as "Tools"
    think_open: str  # the text before a thought; "" if it writes none
    think_close: str
    call_tag: str  # the text before a tool call


def read_facts(tree: ParsedTemplate) -> GoFacts:
    """The facts of a parsed template (CONTRACT 8.2, 8.4)."""
    opening, closing = next(_think_tags(tree.root, in_messages=False), ("", ""))
    if not (opening and closing):
        opening = closing = ""
    return GoFacts(names_in(tree), opening, closing, _call_tag(tree.root))


def _think_tags(nodes: ListNode, *, in_messages: bool) -> Iterator[tuple[str, str]]:
    """The texts directly around each `.Thinking` that is printed inside the range of messages."""
    for index, node in enumerate(nodes.nodes):
        if isinstance(node, ActionNode) and in_messages:
            if "Thinking" in names_in_pipe(node.pipeline):
                before = _text_at(nodes, index - 1).rpartition("\n")[2].strip()
                yield before, _text_at(nodes, index + 1).partition("\n")[0].strip()
        elif isinstance(node, BranchNode):
            is_range = isinstance(node, RangeNode) and "Messages" in names_in_pipe(node.pipeline)
            yield from _think_tags(node.body, in_messages=in_messages or is_range)
            if node.else_body:
                yield from _think_tags(node.else_body, in_messages=in_messages)


def _text_at(nodes: ListNode, index: int) -> str:
    node = nodes.nodes[index] if 0 <= index < len(nodes.nodes) else None
    return node.text.strip() if isinstance(node, TextNode) else ""


def _call_tag(root: ListNode) -> str:
    """The first text in the branch of `.ToolCalls`, up to its first brace or list."""
    text = next((text for body in _call_branches(root) for text in _texts(body)), "")
    tag = text.partition("{")[0].strip()
    return tag.removesuffix("[").rstrip() or tag or BARE_CALL


def _call_branches(nodes: ListNode) -> Iterator[ListNode]:
    """The bodies that are rendered if there are calls."""
    for node in nodes.nodes:
        if not isinstance(node, BranchNode):
            continue
        negated = any(
            isinstance(t, IdentifierNode) and t.name == "not" for t in terms(node.pipeline)
        )
        if "ToolCalls" in names_in_pipe(node.pipeline) and not negated:
            yield node.body
        else:
            yield from _call_branches(node.body)
        if node.else_body:
            yield from _call_branches(node.else_body)


def _texts(nodes: ListNode) -> Iterator[str]:
    """The literal texts that are more than blanks, in their order."""
    for node in nodes.nodes:
        if isinstance(node, TextNode) and node.text.strip():
            yield node.text
        elif isinstance(node, BranchNode):
            yield from _texts(node.body)
            if node.else_body:
                yield from _texts(node.else_body)
