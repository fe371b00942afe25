"""An address that nobody answers is known within seconds."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lymphtune
from lymphtune.cluster.addresses import silence

SEARCH = ["search", "--space", "tiny", "--data", "simulated", "--folds", "2"]


def test_whoever_is_silent_or_speaks_something_else_is_no_ray_head() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert silence("127.0.0.1", port, 0.3) == "silent for 0 s"
        answers = threading.Thread(target=_say, args=(server, b"HTTP/1.1 400 Bad Request\r\n"))
        answers.start()
        assert silence("127.0.0.1", port, 5) == "something else does"
        answers.join()
    assert "refused" in silence("127.0.0.1", port)


def _say(server: socket.socket, words: bytes) -> None:
    for _ in range(2):  # the one that got no answer, and the one that gets this
        line, _ = server.accept()
        with line:
            line.recv(100)
            line.sendall(words)


@pytest.mark.parametrize("command", [["doctor"], pytest.param(SEARCH, marks=pytest.mark.slow)], ids=lambda it: it[0])
def test_an_address_that_nobody_answers_is_one_line_within_seconds(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "lymphtune", *command, "--address", f"127.0.0.1:{port}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(lymphtune.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert f"lymphtune: address 127.0.0.1:{port}: no Ray cluster answers" in done.stderr.splitlines()[-1]
