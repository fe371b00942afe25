"""Files on other machines by URI: s3:// through obstore, any other filesystem that pyarrow knows through pyarrow.

What fails raises OSError or ValueError, in one line.
"""

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from lymphtune.scratch import scratch_path

CONNECT_S, ANSWER_S = 5, 60  # for a connection, and for one request
HASTY_S, PATIENT_S = 4.0, 30.0  # in which a failed request is repeated: of a command, of a search that trains
S3_OPTIONS = {"scheme", "endpoint_override", "region"}
IGNORED = {"allow_bucket_creation", "allow_bucket_deletion"}  # buckets are neither made nor removed
CHUNK_BYTES = 8 * 2**20


class Entry(NamedTuple):
    """What a listing says of a file. tag: another one means another content."""

    mtime_ns: int
    tag: str


class Store(Protocol):
    """Files below one folder, by their path in it."""

    def files(self, prefix: str = "") -> dict[str, Entry]: ...
    def own(self) -> dict[str, Entry]: ...
    def folders(self) -> list[str]: ...
    def find(self, name: str) -> Entry | None: ...
    def fetch(self, name: str, to: Path) -> None: ...
    def send(self, source: Path, name: str) -> Entry: ...
    def delete(self, name: str) -> None: ...
    def read(self, name: str) -> tuple[bytes, Entry] | None: ...
    def write(self, name: str, data: bytes) -> None: ...


def is_uri(place: object) -> bool:
    return "://" in str(place)


def join(uri: str, name: str) -> str:
    """Return the URI of a file or folder below a URI; the query stays at its end."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), name.strip("/")]).rstrip("/")))


def opened(uri: str, patience_s: float = HASTY_S) -> "S3 | Arrow":
    """Return the folder that a URI names; raises OSError or ValueError. patience_s: how long failures are repeated."""
    return S3(uri, patience_s) if urlsplit(uri).scheme == "s3" else Arrow(uri)


class S3:
    """A folder of an S3 bucket, with the options of pyarrow's URIs: ?scheme=http&endpoint_override=HOST:PORT&region=R.

    Keys come from the URI (s3://KEY:SECRET@bucket), the AWS_* variables, the shared credentials file, or the machine's
    role, in this order; AWS_ENDPOINT_URL names another server.
    """

    def __init__(self, uri: str, patience_s: float = HASTY_S) -> None:
        from obstore.store import S3Store

        parts = urlsplit(uri)
        bucket = parts.netloc.rpartition("@")[2]
        if not bucket:
            raise ValueError("no bucket named; expected s3://BUCKET/FOLDER")
        with _as_os_error():
            self._store = S3Store(
                bucket,
                prefix=unquote(parts.path).strip("/") or None,
                **_s3_options(uri, bucket),
                retry_config={"max_retries": max(2, int(patience_s)), "retry_timeout": timedelta(seconds=patience_s)},
            )

    def files(self, prefix: str = "") -> dict[str, Entry]:
        with _as_os_error():
            found = [meta for batch in self._store.list(prefix or None) for meta in batch]
        return {meta["path"]: _entry(meta) for meta in found if not _is_marker(meta)}

    def own(self) -> dict[str, Entry]:
        with _as_os_error():
            found = self._store.list_with_delimiter()["objects"]
        return {meta["path"]: _entry(meta) for meta in found if not _is_marker(meta)}

    def folders(self) -> list[str]:
        with _as_os_error():
            return sorted(self._store.list_with_delimiter()["common_prefixes"])

    def find(self, name: str) -> Entry | None:
        with _as_os_error():
            try:
                return _entry(self._store.head(name))
            except FileNotFoundError:
                return None

    def fetch(self, name: str, to: Path) -> None:
        with _as_os_error(), to.open("wb") as file:
            for chunk in self._store.get(name).stream(min_chunk_size=CHUNK_BYTES):
                file.write(chunk)

    def send(self, source: Path, name: str) -> Entry:
        with _as_os_error():
            tag = self._store.put(name, source)["e_tag"]
        return Entry(source.stat().st_mtime_ns, str(tag))

    def delete(self, name: str) -> None:
        with _as_os_error():
            self._store.delete(name)

    def read(self, name: str) -> tuple[bytes, Entry] | None:
        """Return a small file and its entry, None where there is none."""
        with _as_os_error():
            try:
                found = self._store.get(name)
            except FileNotFoundError:
                return None
            return bytes(found.bytes()), _entry(found.meta)

    def write(self, name: str, data: bytes) -> None:
        with _as_os_error():
            self._store.put(name, data)

    def write_if(self, name: str, data: bytes, tag: str | None) -> str | None:
        """Write a small file if it has this tag (None: if there is none); return its new tag, None where it has not."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with _as_os_error():
            try:
                written = self._store.put(name, data, mode="create" if tag is None else {"e_tag": tag})
            except (AlreadyExistsError, PreconditionError):
                return None
        return str(written["e_tag"])


class Arrow:
    """A folder of another filesystem that pyarrow knows: file://, gs://, abfs://, hdfs://."""

    def __init__(self, uri: str) -> None:
        import pyarrow.fs

        self._fs, base = pyarrow.fs.FileSystem.from_uri(uri)
        self._base = base.rstrip("/")
        self._local = self._fs.type_name == "local"

    @property
    def folder(self) -> Path | None:
        """Return the folder here that a file:// URI names, None for others."""
        return Path(self._base) if self._local else None

    def files(self, prefix: str = "") -> dict[str, Entry]:
        found = self._infos(prefix, recursive=True)
        return {info.path[len(self._base) :].lstrip("/"): _of_info(info) for info in found if info.is_file}

    def own(self) -> dict[str, Entry]:
        return {info.base_name: _of_info(info) for info in self._infos("", recursive=False) if info.is_file}

    def folders(self) -> list[str]:
        return sorted(info.base_name for info in self._infos("", recursive=False) if not info.is_file)

    def find(self, name: str) -> Entry | None:
        info = self._fs.get_file_info(f"{self._base}/{name}")
        return _of_info(info) if info.is_file else None

    def fetch(self, name: str, to: Path) -> None:
        with self._fs.open_input_stream(f"{self._base}/{name}") as source, to.open("wb") as file:
            shutil.copyfileobj(source, file)

    def send(self, source: Path, name: str) -> Entry:
        target = f"{self._base}/{name}"
        written = str(scratch_path(Path(target))) if self._local else target
        self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        with source.open("rb") as file, self._fs.open_output_stream(written) as to:
            shutil.copyfileobj(file, to)
        if written != target:
            self._fs.move(written, target)
        return _of_info(self._fs.get_file_info(target))

    def delete(self, name: str) -> None:
        if self.find(name) is not None:
            self._fs.delete_file(f"{self._base}/{name}")
        folder = self.folder
        if folder is not None:
            _remove_empty((folder / name).parent, folder)

    def read(self, name: str) -> tuple[bytes, Entry] | None:
        """Return a small file and its entry, None where there is none."""
        entry = self.find(name)
        if entry is None:
            return None
        with self._fs.open_input_stream(f"{self._base}/{name}") as source:
            return bytes(source.read()), entry

    def write(self, name: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(data)
            self.send(Path(file.name), name)

    def _infos(self, prefix: str, recursive: bool) -> Any:
        import pyarrow.fs

        place = f"{self._base}/{prefix}".rstrip("/")
        return self._fs.get_file_info(pyarrow.fs.FileSelector(place, recursive=recursive, allow_not_found=True))


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove the folder and those above it below `top`, as long as they are empty."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _entry(meta: Any) -> Entry:
    return Entry(int(meta["last_modified"].timestamp() * 1e9), str(meta["e_tag"]))


def _of_info(info: Any) -> Entry:
    return Entry(info.mtime_ns or 0, f"{info.mtime_ns} {info.size}")


def _is_marker(meta: Any) -> bool:
    """Return whether an object only stands for a folder, as other tools leave them: NAME/, without content."""
    return meta["size"] == 0 and "." not in meta["path"].rpartition("/")[2]


def _s3_options(uri: str, bucket: str) -> dict[str, Any]:
    """Return obstore's options for what a URI and the environment say; raises ValueError on an unknown option."""
    options = dict(parse_qsl(urlsplit(uri).query))
    if unknown := set(options) - S3_OPTIONS - IGNORED:
        raise ValueError(f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(S3_OPTIONS))}")
    endpoint = options.get("endpoint_override", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    client = {"connect_timeout": f"{CONNECT_S}s", "timeout": f"{ANSWER_S}s", "allow_http": endpoint.startswith("http:")}
    given: dict[str, Any] = {"client_options": client, "region": options.get("region") or _region(bucket, endpoint)}
    return given | ({"endpoint": endpoint} if endpoint else {}) | _keys(uri)


def _region(bucket: str, endpoint: str) -> str:
    """Return the region of the environment, else the bucket's own on AWS, else the one that other servers expect."""
    if known := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return known
    if endpoint:
        return "us-east-1"
    from pyarrow.fs import resolve_s3_region

    return str(resolve_s3_region(bucket))


def _keys(uri: str) -> dict[str, str]:
    """Return the keys of the URI, or of the shared credentials file; {} where obstore finds some by itself."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    if at:
        key, _, secret = user.partition(":")
        return {"access_key_id": unquote(key), "secret_access_key": unquote(secret)}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    found = configparser.RawConfigParser()
    try:
        found.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a credentials file") from error
    profile = os.environ.get("AWS_PROFILE", "default")
    if not found.has_option(profile, "aws_access_key_id"):
        return {}
    names = ("access_key_id", "secret_access_key", "session_token")
    return {name: value for name in names if (value := found.get(profile, f"aws_{name}", fallback=""))}


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what obstore raises as an OSError that says in a line what happened."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise OSError("the bucket does not exist") from error
        raise
    except BaseError as error:
        raise OSError(_short(str(error))) from error


REASONS = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "AccessDenied": "access denied",
    "403 Forbidden": "access denied",
    "169.254.169.254": "no access key is set; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "error sending request": "the server does not answer",
}


def _short(text: str) -> str:
    """Return the reason of a failed request in obstore's message, which is a page long."""
    found = [reason for word, reason in REASONS.items() if word in text]
    return found[0] if found else " ".join(text.partition("Debug source")[0].split())[:300]
