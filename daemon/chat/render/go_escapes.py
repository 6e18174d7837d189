"""How do the functions `html`, `js` and `urlquery` of Go templates escape a text?"""

from __future__ import annotations

from urllib.parse import quote_plus

from .go_values import print_values

HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'} | {char: f"\\u{ord(char):04X}" for char in "<>&="}
_HTML_ESCAPES, _JS_ESCAPES = str.maketrans(HTML), str.maketrans(JS)


def escape_html(*values: object) -> str:
    """As HTMLEscapeString of text/template."""
    return print_values(*values).translate(_HTML_ESCAPES)


def escape_js(*values: object) -> str:
    """As JSEscapeString of text/template."""
    escaped = print_values(*values).translate(_JS_ESCAPES)
    if escaped.isprintable():
        return escaped
    return "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in escaped)


def escape_query(*values: object) -> str:
    """As QueryEscape of net/url."""
    return quote_plus(print_values(*values), safe="~")
