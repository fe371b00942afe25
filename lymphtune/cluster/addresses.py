"""Whether anyone answers at a Ray address, known within seconds; Ray itself waits for two minutes."""

import os
import re
import socket

from lymphtune.errors import InputError

FORM = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^\s:/\[\]]+):[0-9]{1,5}")
PATIENCE_S = 10.0
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # HTTP/2: preface, empty SETTINGS
SETTINGS = 4  # type of the frame that every HTTP/2 server, and so every Ray head, answers with


def check_answers(address: str) -> None:
    """Raise InputError unless something that may be a Ray head answers at `auto` or HOST:PORT."""
    from ray._private.services import canonicalize_bootstrap_address

    if address != "auto" and not FORM.fullmatch(address):  # Ray would print a traceback of its own
        raise InputError(f"address {address}: not an address; expected auto or HOST:PORT")
    try:
        found = canonicalize_bootstrap_address(address)
    except (ValueError, ConnectionError, OSError) as error:
        raise InputError(f"address {address}: not an address ({error}); expected auto or HOST:PORT") from error
    if found is None:
        raise InputError(f"address {address}: no Ray runs on this machine; `ray start` it, or name HOST:PORT")
    host, _, port = found.rpartition(":")
    if why := silence(host.strip("[]"), int(port)):
        at = "" if found == address else f" at {found}"
        raise InputError(f"address {address}: no Ray cluster answers{at or ' there'} ({why})")


def silence(host: str, port: int, patience_s: float = PATIENCE_S) -> str:
    """Return why nobody who speaks HTTP/2 answers there, empty where somebody does."""
    try:
        with socket.create_connection((host, port), timeout=patience_s) as line:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return ""
            line.settimeout(patience_s)
            line.sendall(HELLO)
            heard = line.recv(9)
    except TimeoutError:
        return f"silent for {patience_s:.0f} s"
    except (OSError, OverflowError) as error:
        return str(error)
    return "" if heard[3:4] == bytes((SETTINGS,)) else "something else does"
