"""An MLflow server on loopback: the part of its REST API that the tracker uses. It can be killed and started again."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = re.compile(r".*/api/2\.0/mlflow/(experiments|runs)/([a-z-]+)")


class Server:
    """Experiments and runs as JSON, by the names of MLflow's API."""

    def __init__(self) -> None:
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.address = ""
        self.kill_when: Callable[[], bool] = lambda: False  # looked at after every answer
        self._port = 0
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> "Server":
        """Answer at the port of the first start."""
        handler = type("Handler", (_Handler,), {"state": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._http.server_port
        self.address = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def kill(self) -> None:
        """Answer nobody any more, until the next start."""
        if self._http is not None:
            http, self._http = self._http, None
            http.shutdown()
            http.socket.close()

    def answer(self, kind: str, verb: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return what MLflow would; raises KeyError where nothing of that name is there."""
        called: Any = getattr(self, f"_{kind}_{verb}".replace("-", "_"))
        return called(given) or {}

    def _experiments_search(self, given: dict[str, Any]) -> Any:
        return {"experiments": list(self.experiments.values())}

    def _experiments_get_by_name(self, given: dict[str, Any]) -> Any:
        return {"experiment": self.experiments[given["experiment_name"]]}

    def _experiments_create(self, given: dict[str, Any]) -> Any:
        number = str(len(self.experiments) + 1)
        own = {"experiment_id": number, "name": given["name"], "lifecycle_stage": "active", "artifact_location": "a"}
        self.experiments[given["name"]] = own
        return {"experiment_id": number}

    def _runs_create(self, given: dict[str, Any]) -> Any:
        number = f"{len(self.runs):032x}"
        info = {
            "run_id": number,
            "run_uuid": number,
            "experiment_id": given["experiment_id"],
            "status": "RUNNING",
            "run_name": given["run_name"],
            "start_time": given["start_time"],
            "lifecycle_stage": "active",
            "artifact_uri": "a",
            "user_id": "",
        }
        data: dict[str, Any] = {"tags": given.get("tags", []), "params": [], "metrics": []}
        self.runs[number] = {"info": info, "data": data}
        return {"run": self.runs[number]}

    def _runs_get(self, given: dict[str, Any]) -> Any:
        return {"run": self.runs[given["run_id"]]}

    def _runs_log_batch(self, given: dict[str, Any]) -> Any:
        data = self.runs[given["run_id"]]["data"]
        for name in ("params", "metrics"):
            data[name] += given.get(name, [])
        set_again = {tag["key"] for tag in given.get("tags", [])}
        data["tags"] = [tag for tag in data["tags"] if tag["key"] not in set_again] + given.get("tags", [])

    def _runs_update(self, given: dict[str, Any]) -> Any:
        own = self.runs[given["run_id"]]
        own["info"] |= {name: given[name] for name in ("status", "end_time") if name in given}
        return {"run_info": own["info"]}

    def _runs_search(self, given: dict[str, Any]) -> Any:
        return {"runs": [run for run in self.runs.values() if run["info"]["experiment_id"] in given["experiment_ids"]]}

    def steps(self, name: str) -> list[int]:
        """Return the steps of a run's log losses, by the run's name."""
        (run,) = [run for run in self.runs.values() if run["info"]["run_name"] == name]
        return [int(point["step"]) for point in run["data"]["metrics"] if point["key"] == "log_loss"]

    def statuses(self) -> dict[str, str]:
        return {run["info"]["run_name"]: run["info"]["status"] for run in self.runs.values()}


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"))

    do_PATCH = do_POST

    def do_GET(self) -> None:
        self._answer({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

    def _answer(self, given: dict[str, Any]) -> None:
        found = API.fullmatch(urlsplit(self.path).path)
        code, said = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": self.path}
        if found:
            try:
                code, said = 200, self.state.answer(found[1], found[2], given)
            except KeyError as error:
                said["message"] = f"no {error}"
        body = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.state.kill_when():
            self.state.kill()

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def served() -> Iterator[Server]:
    server = Server().start()
    try:
        yield server
    finally:
        server.kill()
