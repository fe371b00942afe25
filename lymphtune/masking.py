"""Passwords, keys and tokens in addresses: masked wherever an address is written down or printed."""

import re

MASK = "***"
# what stands before an @: a name alone, or name:password, which may hold slashes; a port is no password
USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/+)(?:[^\s/?#@'\"]*|[^\s/?#:@'\"]*:(?!\d+[/?#])[^\s'\"]*)@")
WORDS = "token|secret|passw(?:or)?d|pwd|api_?key|access_?key|key_?id|signature|sig|credentials?|auth"
QUERY = re.compile(rf"(?P<name>[?&;][^=&;\s'\"]*(?:{WORDS})[^=&;\s'\"]*=)[^&;\s'\"]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return the text with *** for what addresses in it hold of names, passwords, keys and tokens."""
    return QUERY.sub(rf"\g<name>{MASK}", USER.sub(rf"\g<scheme>{MASK}@", text))


def is_masked(text: str) -> bool:
    return MASK in text
