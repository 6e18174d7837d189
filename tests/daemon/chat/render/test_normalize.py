"""Which messages a template gets: those of the client, changed where the template refuses them."""

from __future__ import annotations

import itertools

import chat_templates as templates
import pytest
from outrider.daemon.chat.conversation import Conversation, Message, Tool, ToolCall
from outrider.daemon.chat.render.jinja import JinjaTemplate
from outrider.daemon.chat.render.merging import merge
from outrider.daemon.chat.render.normalize import normalize
from outrider.daemon.chat.render.wording import SHORT_ID, TemplateTraits, word

pytestmark = pytest.mark.unit

EVERYTHING = TemplateTraits()
TOOL = Tool({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def result(text: str, id_: str = "", name: str = "") -> Message:
    return Message("tool", text, tool_name=name, tool_call_id=id_)


F, G = ToolCall("f", {"x": 1}, "call_1234abcd"), ToolCall("g", {"y": "<z>"}, "call_5678efgh")
LATE = (system("one"), user("two"), answer("three"), system("four"), user("five"))


def test_a_conversation_that_the_template_takes_is_unchanged() -> None:
    turns = (system("s"), user("u"), answer("a", F, G), result("r", name="f"), system("t"))
    turns = (*turns, user("v"), answer("b"))
    assert normalize(turns, EVERYTHING) == turns
    assert normalize((), EVERYTHING) == ()


def test_neighbours_of_one_role_are_merged_by_a_blank_line() -> None:
    turns = (system("a"), system("b"), user("c"), user(""), user("d"), answer("e"), answer("f"))
    assert merge(turns) == (system("a\n\nb"), user("c\n\nd"), answer("e\n\nf"))
    thoughts = (Message("assistant", "a", "x"), Message("assistant", "b", "y"))
    assert merge(thoughts) == (Message("assistant", "a\n\nb", "x\n\ny"),)


def test_results_stay_apart_and_so_does_what_follows_a_call() -> None:
    results = (result("a"), result("b"))
    assert merge(results) == results
    turns = (answer("so", F), answer("then"))
    assert merge(turns) == turns


def test_calls_of_neighbours_are_one_turn() -> None:
    assert merge((answer("so"), answer("now", F), answer("", G))) == (answer("so\n\nnow", F, G),)


@pytest.mark.parametrize(
    ("traits", "roles"),
    [
        (TemplateTraits(), "system user assistant system user"),
        (TemplateTraits(later_system=False), "system user assistant user"),
        (TemplateTraits(system=False, later_system=False), "user assistant user"),
    ],
)
def test_a_system_message_that_is_refused_goes_in_front_of_the_next_user_message(
    traits: TemplateTraits, roles: str
) -> None:
    turns = normalize(LATE, traits)
    assert " ".join(turn.role for turn in turns) == roles
    assert [word for turn in turns for word in turn.content.split()] == [t.content for t in LATE]


def test_the_developer_is_the_system_unless_the_template_knows_both() -> None:
    turns = (Message("developer", "d"), user("u"))
    assert normalize(turns, EVERYTHING) == (system("d"), user("u"))
    assert normalize((system("s"), *turns), EVERYTHING) == (system("s\n\nd"), user("u"))
    both = TemplateTraits(developer=True)
    assert normalize(turns, both) == turns
    assert normalize((Message("developer", "d"), system("s"), user("u")), both) == (
        *(Message("developer", "d\n\ns"), user("u")),
    )
    assert normalize((*LATE[:3], *turns), both) == (*LATE[:3], system("d"), user("u"))


def test_unknown_roles_are_passed_on() -> None:
    turns = (user("u"), Message("critic", "c"))
    assert normalize(turns, TemplateTraits(system=False, later_system=False)) == turns


def test_a_template_that_insists_on_a_user_message_gets_one() -> None:
    traits = TemplateTraits(needs_user=True)
    assert normalize((system("s"),), traits) == (user("s"),)
    assert normalize((system("s"), answer("a")), traits) == (user("s"), answer("a"))
    assert normalize((answer("a"),), traits) == (user(""), answer("a"))
    assert normalize((), traits) == (user(""),)
    first = TemplateTraits(user_first=True)
    assert normalize((system("s"), answer("a"), user("u")), first) == (
        *(system("s"), user(""), answer("a"), user("u")),
    )


def test_calls_and_results_are_text_for_a_template_without_tools() -> None:
    turns = (user("u"), answer("so", F, G), result("1"), result("2"), user("v"))
    text = 'so\n\n{"name": "f", "arguments": {"x": 1}}\n{"name": "g", "arguments": {"y": "<z>"}}'
    assert normalize(turns, TemplateTraits(calls=False, results=False)) == (
        *(user("u"), answer(text), user("1\n\n2\n\nv")),
    )


def test_each_call_has_a_turn_where_one_is_the_most() -> None:
    turns = (answer("so", F, G), result("2", G.id), result("1", F.id), user("v"))
    assert normalize(turns, TemplateTraits(several_calls=False)) == (
        answer("so", F),
        result("1", F.id, "f"),
        answer("", G),
        result("2", G.id, "g"),
        user("v"),
    )


def test_results_find_the_names_of_their_tools() -> None:
    calls = answer("", F, G)
    by_id = normalize((calls, result("2", G.id), result("1", F.id)), EVERYTHING)
    assert [turn.tool_name for turn in by_id] == ["", "g", "f"]
    by_order = normalize((calls, result("1"), result("2")), EVERYTHING)
    assert [turn.tool_name for turn in by_order] == ["", "f", "g"]
    assert by_order[1].tool_call_id == ""


def test_missing_ids_are_made_up_where_the_template_needs_them() -> None:
    calls = answer("", ToolCall("f", {}), ToolCall("f", {}), ToolCall("g", {}))
    turns = (calls, result("3", name="g"), result("1"), result("2"))
    found = normalize((*turns, user("u"), *turns), TemplateTraits(needs_ids=True))
    ids = [call.id for turn in found for call in turn.tool_calls]
    assert len(set(ids)) == 6
    assert [turn.tool_call_id for turn in found if turn.role == "tool"] == [
        *(ids[2], ids[0], ids[1], ids[5], ids[3], ids[4]),
    ]


def test_long_ids_become_nine_characters_of_their_own() -> None:
    traits = TemplateTraits(short_ids=True)
    for call in (F, G, ToolCall("f", {}, "abcdEF123")):
        (turn,), (answered,) = word(answer("", call), traits), word(result("r", call.id), traits)
        (worded,) = turn["tool_calls"]  # type: ignore[misc, attr-defined]
        assert SHORT_ID.fullmatch(worded["id"])
        assert answered["tool_call_id"] == worded["id"]
        assert (worded["id"] == call.id) == (len(call.id) == 9)


def test_content_and_calls_are_two_messages_where_they_exclude_each_other() -> None:
    traits = TemplateTraits(null_content=True, content_apart=True, thinking_keys=("thinking",))
    (worded,) = word(answer("", F), TemplateTraits())
    call = {"role": "assistant", "content": None, "tool_calls": worded["tool_calls"]}
    turn = Message("assistant", "so", "hm", (F,))
    text = {"role": "assistant", "content": "so", "thinking": "hm"}
    assert list(word(turn, traits)) == [text, call]
    assert list(word(answer("", F), traits)) == [call]


def test_typed_content_is_a_list_of_parts() -> None:
    traits = TemplateTraits(typed_roles=frozenset(("user",)))
    assert [*word(user("u"), traits), *word(answer("a"), traits)] == [
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {"role": "assistant", "content": "a"},
    ]


def in_order(prompt: str, *texts: str) -> bool:
    places = [prompt.find(text) for text in texts]
    return -1 not in places and places == sorted(places)


@pytest.mark.parametrize("name", templates.ALL)
def test_every_template_takes_what_clients_send(name: str) -> None:
    """All texts are in the prompt, whatever the order of roles."""
    template = JinjaTemplate(templates.ALL[name], bos="<s>", eos="</s>")
    roles = ("system", "user", "assistant", "developer")
    for length in (1, 2, 3, 4):
        for chosen in itertools.product(roles, repeat=length):
            if chosen[-1] == "assistant":
                continue
            texts = [f"text-{i}" for i in range(length)]
            turns = tuple(Message(*pair) for pair in zip(chosen, texts, strict=True))
            prompt = template.render(Conversation(turns))
            # Mistral 0.3 words the system message in front of the last user message.
            if name == "Mistral 0.3":
                assert all(text in prompt for text in texts), chosen
            else:
                assert in_order(prompt, *texts), chosen


@pytest.mark.parametrize("name", templates.ALL)
@pytest.mark.parametrize("ids", [(F.id, G.id), ("", "")])
def test_every_template_takes_rounds_of_calls(name: str, ids: tuple[str, str]) -> None:
    template = JinjaTemplate(templates.ALL[name], bos="<s>", eos="</s>")
    first, second = (ToolCall(c.name, c.arguments, id_) for c, id_ in zip((F, G), ids, strict=True))
    results = (result("result-1", ids[0], "f"), result("result-2", ids[1], "g"))
    turns = (user("text-1"), answer("", first, second), *results)
    prompt = template.render(Conversation(turns, (TOOL,)))
    assert in_order(prompt, "text-1", "<z>")
    assert in_order(prompt, "text-1", "result-1", "result-2")
    more = (answer("text-2"), user("text-3"), answer("", first), results[0], user("text-4"))
    prompt = template.render(Conversation((*turns, *more), (TOOL,)))
    assert in_order(prompt, "result-2", "text-2", "text-3", "text-4")
    assert prompt.count("result-1") == 2
