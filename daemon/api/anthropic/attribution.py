"""Which texts in front of a system prompt are about the client, and change with each request?

Some clients begin the system prompt with a line such as

    x-anthropic-billing-header: cc_version=2.1.77.a3f; cc_entrypoint=cli; cch=f0e67;

whose hash is a new one for each request. The model has no use for it, and a prompt that begins
with it shares no prefix with the prompt before, so that the prefix cache would never be hit.
"""

from __future__ import annotations

import re

ATTRIBUTION = re.compile(
    r"""\s*
    (?: x-anthropic-billing-header:
        (?: (?:[ \t]*[\w-]+=[^;\n]*;)+  # its fields; a text may follow without a line break
          | [^\n]* )                    # or whatever else the line has
      | cch=\w+;? )                     # a hash that stands alone
    [ \t]*\r?\n?""",
    re.VERBOSE | re.IGNORECASE,
)


def strip_attribution(text: str) -> str:
    """The system text without the client's attribution; nothing behind it is changed."""
    start = 0
    while found := ATTRIBUTION.match(text, start):
        start = found.end()
    return text[start:]
