"""Mask passwords, keys and tokens in addresses before they are written or printed."""

import re

MASK = "***"
# The part before an @ is a name, or name:password. A password may contain slashes; a port is not a password.
USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/+)(?:[^\s/?#@'\"]*|[^\s/?#:@'\"]*:(?!\d+[/?#])[^\s'\"]*)@")
WORDS = "token|secret|passw(?:or)?d|pwd|api_?key|access_?key|key_?id|signature|sig|credentials?|auth"
QUERY = re.compile(rf"(?P<name>[?&;][^=&;\s'\"]*(?:{WORDS})[^=&;\s'\"]*=)[^&;\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """The text with user names, passwords, keys and tokens in its addresses replaced by ***."""
    return QUERY.sub(rf"\g<name>{MASK}", USER.sub(rf"\g<scheme>{MASK}@", text))


def is_masked(text: str) -> bool:
    return MASK in text
