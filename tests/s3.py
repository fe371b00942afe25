"""A real S3 server on loopback for the tests: moto's, with conditional writes and, where asked, checked keys."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

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
            bucket,
            endpoint=f"http://127.0.0.1:{self.port}",
            region="us-east-1",
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )

    def keys(self, bucket: str) -> set[str]:
        """Return what is in a bucket, folder markers included."""
        return {meta["path"] for batch in self.store(bucket).list() for meta in batch}

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

    @contextmanager
    def checking_keys(self) -> Iterator[str]:
        """Have the server check keys and their policies for the block; yield KEY:SECRET of one that may only read."""
        version, reader = "Version=2010-05-08", f"reader-{uuid.uuid4().hex[:8]}"
        self.call("iam", f"Action=CreateUser&UserName={reader}&{version}")
        made = self.call("iam", f"Action=CreateAccessKey&UserName={reader}&{version}")
        key, secret = (made.partition(f"<{name}>")[2].partition("<")[0] for name in ("AccessKeyId", "SecretAccessKey"))
        may = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
        policy = quote(json.dumps({"Version": "2012-10-17", "Statement": [may]}))
        self.call("iam", f"Action=PutUserPolicy&UserName={reader}&PolicyName=reads&PolicyDocument={policy}&{version}")
        self._ask("/moto-api/reset-auth", "POST", b"0", {"Content-Type": "text/plain"})
        try:
            yield f"{key}:{quote(secret, safe='')}"
        finally:
            self._ask("/moto-api/reset-auth", "POST", b"inf", {"Content-Type": "text/plain"})

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Gate:
    """A port of 127.0.0.1 behind which the server answers while it is open, and nobody while it is shut."""

    def __init__(self, server: int) -> None:
        self.server, self.port = server, _free_port()
        self.listener: socket.socket | None = None
        self.ends: list[socket.socket] = []

    def open(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and break those that there are."""
        listener, self.listener = self.listener, None
        for end in [listener, *self.ends]:
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self.ends = []

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                self.ends += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


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
