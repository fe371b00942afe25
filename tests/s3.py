"""A real S3 server on loopback for the tests: moto's, with conditional writes and, where asked, checked keys."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import S3Store

ROOT = Path(__file__).parent.parent
KEY, SECRET = "AKIDTESTS", "hunter2"


@dataclass
class Server:
    """port: of 127.0.0.1; buckets are made on request."""

    port: int
    process: subprocess.Popen

    def uri(self, bucket: str, folder: str = "runs", keys: str = f"{KEY}:{SECRET}") -> str:
        at = f"{keys}@" if keys else ""
        return f"s3://{at}{bucket}/{folder}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def make(self, bucket: str) -> None:
        whose = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request"
        self._ask(f"/{bucket}", "PUT", headers={"Authorization": whose, "Content-Length": "0"})

    def store(self, bucket: str) -> S3Store:
        return S3Store(
            bucket, endpoint=f"http://127.0.0.1:{self.port}", region="us-east-1", access_key_id=KEY,
            secret_access_key=SECRET, client_options={"allow_http": True},
        )  # fmt: skip

    def keys(self, bucket: str) -> set[str]:
        """Return what is in a bucket, folder markers included."""
        return {meta["path"] for batch in self.store(bucket).list() for meta in batch}

    def check_keys_after(self, actions: int) -> None:
        """Have the server check keys and their policies, but for so many requests."""
        self._ask("/moto-api/reset-auth", "POST", str(actions).encode())

    def call(self, service: str, body: str, whose: str = KEY) -> str:
        """Return the answer of a service that takes forms, as IAM does."""
        by = f"AWS4-HMAC-SHA256 Credential={whose}/20260101/us-east-1/{service}/aws4_request"
        kind = "application/x-www-form-urlencoded"
        return self._ask("/", "POST", body.encode(), {"Authorization": by, "Content-Type": kind})

    def _ask(self, path: str, method: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, headers or {}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def started(port: int = 0) -> Iterator[Server]:
    """Yield a running server; `make s3-server` installs it."""
    place = os.environ.get("LYMPHTUNE_TEST_S3", str(ROOT / ".venv-s3" / "bin" / "moto_server"))
    if not Path(place).exists():
        pytest.skip(f"no S3 server at {place}: `make s3-server` installs it")
    port = port or _free_port()
    process = subprocess.Popen(
        [place, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Server(port, process)
    try:
        _wait_for(server)
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            json.loads(server._ask("/moto-api/data.json", "GET"))
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the S3 server did not start")
