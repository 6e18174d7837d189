"""What is found out about well-known templates by probing them."""

from __future__ import annotations

import chat_templates as templates
import pytest
from outrider.daemon.chat.render.jinja import JinjaTemplate
from outrider.daemon.chat.render.wording import TemplateTraits
from tiny import CHATML

pytestmark = pytest.mark.unit

EVERY_ROLE = frozenset(("system", "user", "assistant", "tool"))
NO_TOOLS = {"calls": False, "results": False}
ANSWER = "{% if add_generation_prompt %}A:{% endif %}"


def traits(source: str) -> TemplateTraits:
    return JinjaTemplate(source, bos="<s>", eos="</s>").traits


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (templates.QWEN3, TemplateTraits(thinking_keys=("reasoning_content",))),
        (templates.LLAMA_3_1, TemplateTraits(several_calls=False)),
        (
            templates.GEMMA_2,
            TemplateTraits(system=False, later_system=False, user_first=True, **NO_TOOLS),
        ),
        (
            templates.GEMMA_3,
            TemplateTraits(later_system=False, needs_user=True, user_first=True, **NO_TOOLS),
        ),
        (
            templates.MISTRAL_0_3,
            TemplateTraits(
                later_system=False,
                needs_user=True,
                user_first=True,
                filler="",
                short_ids=True,
                needs_ids=True,
            ),
        ),
        (templates.PHI_3, TemplateTraits(**NO_TOOLS)),
        (
            templates.DEEPSEEK_R1,
            TemplateTraits(
                later_system=False, string_arguments=True, null_content=True, content_apart=True
            ),
        ),
        (templates.COMMAND_R, TemplateTraits(later_system=False, user_first=True, **NO_TOOLS)),
        (templates.SMOLVLM, TemplateTraits(typed_roles=EVERY_ROLE, calls=False)),
        (templates.QWEN_3_5, TemplateTraits(later_system=False, needs_user=True, calls=False)),
        (CHATML, TemplateTraits(calls=False)),
    ],
)
def test_well_known_templates(source: str, found: TemplateTraits) -> None:
    assert traits(source) == found


@pytest.mark.parametrize(
    ("arguments", "as_string"),
    [
        ("c.function.arguments|tojson", False),
        ("c.function.arguments", True),
        ("'' + c.function.arguments", True),
        ("c.function.arguments if c.function.arguments is string else c|tojson", False),
        ("(c.function.arguments|from_json).needle_key", True),
        ("c.function.arguments.items()|map('join', '=')|join", False),
    ],
)
def test_arguments_are_text_where_an_object_would_be_worded_wrong(
    arguments: str, as_string: bool
) -> None:
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
        f"{{{{ c.function.name }}}}({{{{ {arguments} }}}}){{% endfor %}}{{% endfor %}}" + ANSWER
    )
    assert traits(source).calls
    assert traits(source).string_arguments is as_string


def test_a_template_that_refuses_everything_has_the_traits_of_one_that_takes_everything() -> None:
    assert traits("{{ raise_exception('no') }}") == TemplateTraits()


def test_the_developer_role_is_known_only_if_the_template_names_it() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert not traits(source).developer
    assert traits(source + "{# developer #}").developer


def test_content_is_typed_for_the_roles_that_want_it() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}"
        "{% for part in m.content %}{{ part.text }}{% endfor %}"
        "{% else %}{{ '' + m.content }}{% endif %}{% endfor %}"
    )
    assert traits(source).typed_roles == {"user"}
