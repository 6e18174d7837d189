"""Where does a path with a trailing slash lead? Never to another host."""

from __future__ import annotations

from urllib.parse import quote

from yarl import URL

# What may stand in a Location as it is: a backslash may not, because browsers read it as a slash.
SAFE = "/%:@!$&'()*+,;=~"  # RFC 3986 3.3 and the sign of what is encoded already


def tidy_target(url: URL) -> str:
    """The path without slashes around it, still encoded, and the query.

    It begins with exactly one slash: with two, the next part would be a host (RFC 3986 4.2).
    """
    query = f"?{quote(url.raw_query_string, safe=SAFE + '?')}" if url.raw_query_string else ""
    return "/" + quote(url.raw_path.strip("/\\"), safe=SAFE) + query
