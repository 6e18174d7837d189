"""What does the syntax tree of a Go template mention, and how is it changed before it runs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gotpl.parse.nodes import (
    ActionNode,
    BlockNode,
    CommandNode,
    FieldNode,
    IdentifierNode,
    IfNode,
    ListNode,
    ParenthesizedNode,
    ParsedTemplate,
    PipeNode,
    RangeNode,
    TemplateNode,
    TermNode,
    VariableNode,
    WithNode,
)

BranchNode = IfNode | WithNode | RangeNode
PRINT = "print value"  # names the function that prints; no template can call a name with a blank


def names_in_pipe(pipe: PipeNode | None) -> Iterator[str]:
    """The fields that a pipeline mentions, such as "Messages" in `len $.Messages`."""
    for term in terms(pipe):
        if isinstance(term, FieldNode | VariableNode | ParenthesizedNode):
            yield from term.fields


def terms(pipe: PipeNode | None) -> Iterator[TermNode]:
    """Every term of a pipeline, with those in parentheses."""
    for command in pipe.commands if pipe else ():
        for term in command.arguments:
            yield term
            if isinstance(term, ParenthesizedNode):
                yield from terms(term.pipeline)


def names_in(tree: ParsedTemplate) -> frozenset[str]:
    """The fields that a template mentions anywhere."""
    bodies = (tree.root, *(definition.body for definition in tree.definitions))
    pipes = (pipe for body in bodies for pipe in _pipes(body))
    return frozenset(name for pipe in pipes for name in names_in_pipe(pipe))


def with_printing(tree: ParsedTemplate) -> ParsedTemplate:
    """The template with each value that it prints piped through the function PRINT."""
    definitions = (replace(d, body=_printing(d.body)) for d in tree.definitions)
    return replace(tree, root=_printing(tree.root), definitions=tuple(definitions))


def with_response(tree: ParsedTemplate) -> ParsedTemplate:
    """The template with `{{ .Response }}` at its end."""
    pipe = PipeNode((), False, (CommandNode((FieldNode(("Response",), 0, 0),), 0, 0),), 0, 0)
    return replace(tree, root=ListNode((*tree.root.nodes, ActionNode(pipe, 0, 0))))


def cut_after_response(tree: ParsedTemplate) -> ParsedTemplate:
    """The template without what follows the response: the model continues there."""
    return replace(tree, root=_cut(tree.root)[0])


def _pipes(nodes: ListNode) -> Iterator[PipeNode | None]:
    for node in nodes.nodes:
        if not hasattr(node, "pipeline"):
            continue
        yield node.pipeline
        if isinstance(node, BranchNode | BlockNode):
            yield from _pipes(node.body)
        if isinstance(node, BranchNode) and node.else_body:
            yield from _pipes(node.else_body)


def _printing(nodes: ListNode) -> ListNode:
    return ListNode(tuple(map(_printing_node, nodes.nodes)))


def _printing_node(node: TemplateNode) -> TemplateNode:
    if isinstance(node, ActionNode) and not node.pipeline.declarations:
        pipe = node.pipeline
        function = CommandNode((IdentifierNode(PRINT, pipe.end, pipe.end),), pipe.end, pipe.end)
        return replace(node, pipeline=replace(pipe, commands=(*pipe.commands, function)))
    if isinstance(node, BranchNode):
        otherwise = node.else_body and _printing(node.else_body)
        return replace(node, body=_printing(node.body), else_body=otherwise)
    return node


def _cut(nodes: ListNode) -> tuple[ListNode, bool]:
    """The nodes up to the first that prints the response, and whether there is one."""
    kept: list[TemplateNode] = []
    for node in nodes.nodes:
        kept.append(node)
        if isinstance(node, ActionNode) and "Response" in names_in_pipe(node.pipeline):
            return ListNode(tuple(kept)), True
        if isinstance(node, BranchNode):
            body, found = _cut(node.body)
            otherwise, found_otherwise = _cut(node.else_body) if node.else_body else (None, False)
            kept[-1] = replace(node, body=body, else_body=otherwise)
            if found or found_otherwise:
                return ListNode(tuple(kept)), True
    return ListNode(tuple(kept)), False
