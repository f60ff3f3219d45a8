"""Getting a published file: cached, resumed where it broke off, and never read before its hash is right.

Files lie in ``$XDG_CACHE_HOME/edge-pipeline/weights`` (``~/.cache`` by default); ``EDGE_PIPELINE_WEIGHTS_DIR`` names
another folder. ``EDGE_PIPELINE_WEIGHTS_URL`` names a mirror, ``http(s)://…/``, that has all files under their names.
What is not whole yet is ``<file>.part``; beside it ``<file>.part.version`` holds the server's word (an ETag or a
date) for the version that it is a part of.
"""

from __future__ import annotations

import contextlib
import fcntl
import http
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from edge_apps import __version__, progress
from edge_apps.errors import first_line
from edge_apps.files import sync_folder
from edge_apps.runtime.content import sha256_of
from edge_apps.untrusted import MB
from pipeline.checkpoints.pretrained.published import Published
from pipeline.errors import BadInput, DownloadFailed

FOLDER, MIRROR = "EDGE_PIPELINE_WEIGHTS_DIR", "EDGE_PIPELINE_WEIGHTS_URL"
TIMEOUT_S = 30.0
PAUSES_S = (1.0, 3.0)
"""Before the second and the third attempt."""
CHUNK = 1 << 18
LARGEST = 1_000 * MB
"""Bytes of a published file; the largest known, VGG-19 with batch norm, has 575 million."""

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

Done = Callable[[int, int | None], None]
"""Called with the bytes that are there, and how many there will be where the server says so."""


class _Broken(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


def folder() -> Path:
    """Where downloaded files are kept."""
    chosen = os.environ.get(FOLDER)
    if chosen:
        return Path(chosen).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "edge-pipeline" / "weights"


def address(published: Published) -> str:
    """Where the file is fetched from; ``BadInput`` for a mirror that is no web address."""
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return published.url
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"{MIRROR} is '{mirror}'; it must be an address that starts with http:// or https://.")
    return f"{mirror.rstrip('/')}/{published.file}"


def fetch(published: Published) -> Path:
    """The file, whole and with the right hash: from the cache, or downloaded with a bar on stderr.

    What an interrupted download left is taken up. Several processes may ask at once: one downloads, the others wait.

    Raises:
        DownloadFailed: no network, no such file there, or bytes that are not those that were published.
        BadInput: the cache folder cannot be written.
    """
    path, url = folder() / published.file, address(published)
    try:
        if not _has(path, published):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.with_name(f"{path.name}.part")) as part:
                if not _has(path, published):  # another process may have brought it meanwhile
                    _bring(part, path, published, url)
    except OSError as error:
        raise BadInput(
            f"Cannot keep '{path}': {error.strerror or error}. Name another folder for weights in {FOLDER}."
        ) from error
    return path


def _has(path: Path, published: Published) -> bool:
    """Whether the cached file is there and whole; a damaged one is said, and downloaded again."""
    if not path.exists():
        return False
    if _is_right(path, published):
        return True
    progress.note(f"'{path}' is damaged: downloading it again.")
    return False


def _is_right(path: Path, published: Published) -> bool:
    return sha256_of(path).startswith(published.sha256_start)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[Path]:
    """Hold the lock on the ``.part`` file, which exists then, waiting for whoever has it."""
    while True:
        with part.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.note(f"Another process is downloading '{part.stem}': waiting.")
                fcntl.flock(held, fcntl.LOCK_EX)
            if not _is_still(held, part):  # whoever had the lock renamed the file, or deleted it
                continue
            try:
                yield part
            finally:
                if _is_still(held, part) and part.stat().st_size == 0:
                    part.unlink()
            return


def _is_still(held: IO[bytes], part: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _bring(part: Path, path: Path, published: Published, url: str) -> None:
    """Complete the ``.part`` file and give it its name, or delete it where it is not the published one."""
    if not _is_right(part, published):  # it is where a process ended just before the renaming
        _download(part, url)
    _version_file(part).unlink(missing_ok=True)
    found = sha256_of(part)
    if not found.startswith(published.sha256_start):
        part.unlink()
        raise DownloadFailed(
            f"{url} is not what was published (sha256 {found[:12]}…, its name says {published.sha256_start}…): it was "
            "deleted. Repeat the command; if that does not help, the server or a proxy has another file."
        )
    part.replace(path)
    sync_folder(path.parent)


def _download(part: Path, url: str) -> None:
    """Fetch what is missing, in a few attempts."""
    progress.note(f"Downloading {url}")
    with progress.track(part.stem, unit="bytes") as task:
        for pause in (*PAUSES_S, None):
            try:
                _attempt(part, url, task.at)
                return
            except _Broken as error:
                if pause is None:
                    raise DownloadFailed(
                        f"Cannot download {url}: {error}. Check the network and repeat the command (it goes on where "
                        f"it stopped), or put the file into '{part.parent}' yourself."
                    ) from error
                progress.note(f"{error}; again in {pause:g} s.")
                time.sleep(pause)


def _attempt(part: Path, url: str, done: Done) -> None:
    """Fetch what is missing of the file; ``_Broken`` where not all of it came."""
    have, version = part.stat().st_size, _version_file(part)
    headers = {"User-Agent": f"edge-pipeline/{__version__}"}
    if have and version.exists():
        # If-Range: a server with another version than the one begun sends it whole.
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text("latin-1")}
    with _answer(urllib.request.Request(url, headers=headers), part) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
            version.unlink(missing_ok=True)
            if mark := _version(answer.headers):
                version.write_text(mark, "latin-1")
        with part.open("r+b") as out:
            out.truncate(have)
            out.seek(have)
            _copy(answer, out, have, done)
            out.flush()
            os.fsync(out.fileno())


def _answer(request: urllib.request.Request, part: Path) -> Any:
    """What the server sends; ``_Broken`` where another attempt may help."""
    try:
        return urllib.request.build_opener(_WebOnly).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        said = f"the server says {error.code} {error.reason}"
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # more than the whole file is no part of it
            part.write_bytes(b"")
        elif error.code not in TRANSIENT:
            raise DownloadFailed(
                f"Cannot download {request.full_url}: {said}. Put the file into '{part.parent}' yourself, or name a "
                f"mirror in {MIRROR}."
            ) from error
        raise _Broken(said) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        if isinstance(getattr(error, "reason", None), socket.gaierror):
            # Of a proxy where one is set.
            raise _Broken(f"no network, or no such host: {request.host}") from error
        raise _Broken(_reason(error)) from error


def _copy(answer: Any, out: IO[bytes], have: int, done: Done) -> None:
    """Write what comes; ``_Broken`` where the connection ends before the file does."""
    length = _length(answer.headers.get("Content-Length"))
    total = None if length is None else have + length
    while True:
        if max(have, total or 0) > LARGEST:
            out.truncate(0)
            raise DownloadFailed(
                f"{answer.url} is larger than any published file ({max(have, total or 0):,} bytes, at most {LARGEST:,} "
                "are downloaded): the server or a proxy has another file. Repeat the command, or name a mirror in "
                f"{MIRROR}."
            )
        done(have, total)
        try:
            chunk = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_reason(error)) from error
        if not chunk:
            break
        out.write(chunk)
        have += len(chunk)
    if total is not None and have < total:
        raise _Broken(f"the connection ended after {have:,} of {total:,} bytes")


def _length(stated: str | None) -> int | None:
    """The bytes that will come; None where the server does not say, or says what is no number of bytes."""
    return int(stated) if stated is not None and re.fullmatch(r"[0-9]{1,18}", stated.strip()) else None


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to other web addresses alone; urllib itself follows those to FTP servers, too."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to '{newurl:.80}'", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version(headers: Any) -> str | None:
    """What ``If-Range`` may hold: a strong ETag, or the date of the last change."""
    tag: str | None = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    date: str | None = headers.get("Last-Modified")
    return date


def _reason(error: BaseException) -> str:
    """A network error in words; urllib wraps the one that says something."""
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror  # without its number
    return first_line(inner) if isinstance(inner, BaseException) else str(inner)
