"""Where weights are kept, and how a published file gets there: cache folder, lock, resumed download, hash.

Free of torch. Importing or converting what was downloaded is `edgetam_model.weights`' work.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from edgetam_model.errors import WeightsError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes in all (None: the server does not say)."""

MAX_BYTES = 512 * 2**20  # the published file has 54 MB; ten times that is another file
CHUNK_BYTES = 2**18
RETRY_WAIT_S = 1.0
LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class PublishedFile:
    """A checkpoint that its authors publish.

    Attributes:
        name: what `load_model` calls it.
        url: where it lies.
        git_blob: SHA-1 of the file as a git blob, the hash its repository knows it by.
        licence: SPDX identifier.
        source: where it comes from, for people.
    """

    name: str
    url: str
    git_blob: str
    licence: str
    source: str


PUBLISHED = PublishedFile(
    name="edgetam",
    url="https://raw.githubusercontent.com/facebookresearch/EdgeTAM/main/checkpoints/edgetam.pt",
    git_blob="abd54d22bbd22ba3e53cf59a307e59e0f3701be6",
    licence="Apache-2.0",
    source="facebookresearch/EdgeTAM checkpoints/edgetam.pt",
)


@dataclass(frozen=True)
class Patience:
    """How long a download may take.

    Attributes:
        timeout_s: seconds of silence after which the connection counts as dead.
        budget_s: seconds for everything, None for no end.
        attempts: how often a cut connection is taken up again.
    """

    timeout_s: float = 30.0
    budget_s: float | None = None
    attempts: int = 5


class _CutOffError(Exception):
    """The connection ended before the file did: worth another attempt."""


def cache_dir() -> Path:
    """Folder for downloads and converted weights: EDGETAM_CACHE, else the platform's cache folder."""
    if named := os.environ.get("EDGETAM_CACHE"):
        return Path(named).expanduser()
    platform_cache = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(platform_cache) if platform_cache else Path.home() / ".cache") / "edgetam"


def is_offline() -> bool:
    """Whether EDGETAM_OFFLINE forbids the network (any value but empty and 0)."""
    return os.environ.get("EDGETAM_OFFLINE", "") not in ("", "0")


def git_blob_hash(path: Path) -> str:
    """SHA-1 that git gives the file's content: sha1("blob SIZE\\0" + content)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, wait_s: float | None = None) -> Iterator[None]:
    """Hold `path` as a lock between processes; the system frees it when its holder dies.

    Raises:
        WeightsError: it is still held after `wait_s` seconds (None: wait for ever), or its folder
            cannot be written.
    """
    give_up = None if wait_s is None else time.monotonic() + wait_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    except OSError as error:
        raise WeightsError(f"{path.parent}: cannot be written: {error.strerror}") from error
    with handle:
        while not _try_lock(handle.fileno()):
            if give_up is not None and time.monotonic() > give_up:
                raise WeightsError(f"another process has been busy with {path.stem} for {wait_s:g} s")
            time.sleep(LOCK_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_url(url: str) -> None:
    """Refuse everything but https; http is for this machine only.

    Raises:
        WeightsError: another scheme, or no host.
    """
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    except ValueError as error:
        raise WeightsError(f"{url}: not a URL: {error}; expected https") from error
    if not host or not (scheme == "https" or (scheme == "http" and _is_loopback(host))):
        raise WeightsError(f"{url}: expected an https URL (http only for this machine)")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def download(
    url: str,
    part: Path,
    progress: Progress | None = None,
    patience: Patience | None = None,
    limit: int = MAX_BYTES,
) -> None:
    """Bring the file `part` up to the whole of `url`, going on from the bytes it already has.

    A cut connection is taken up again; what came stays in `part` for a later call. The caller checks the
    content: a `part` left by another file is not noticed here.

    Raises:
        WeightsError: no such file, unreachable, too large, out of time, or cut off too often.
    """
    check_url(url)
    patience = patience or Patience()
    deadline = None if patience.budget_s is None else time.monotonic() + patience.budget_s
    part.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(RETRY_WAIT_S)
        try:
            return _receive(url, part, progress, patience.timeout_s, deadline, limit)
        except _CutOffError as error:
            reason = str(error)
    have = part.stat().st_size if part.exists() else 0
    raise WeightsError(f"{url}: cut off after {have} bytes ({reason}); the next fetch goes on from there")


def _receive(
    url: str,
    part: Path,
    progress: Progress | None,
    timeout_s: float,
    deadline: float | None,
    limit: int,
) -> None:
    """One attempt: ask for what is missing and append it."""
    have = part.stat().st_size if part.exists() else 0
    try:
        with _open(url, have, timeout_s) as response:
            have = _resume_position(response, have)
            total = None if response.length is None else have + response.length
            with part.open("r+b" if have else "wb") as file:
                file.seek(have)
                for chunk in iter(lambda: response.read1(CHUNK_BYTES), b""):
                    have += file.write(chunk)
                    if max(have, total or 0) > limit:
                        raise WeightsError(f"{url}: larger than the limit of {limit} bytes")
                    if progress:
                        progress(have, total)
                    if deadline is not None and time.monotonic() > deadline:
                        raise WeightsError(f"{url}: out of time; the next fetch goes on from {have} bytes")
    except HTTPError as error:
        _refuse(url, part, error)
    except URLError as error:
        raise WeightsError(f"{url}: cannot be reached: {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _CutOffError(f"{type(error).__name__}: {error}") from error
    if total is not None and have < total:
        raise _CutOffError(f"{have} of {total} bytes")


class _SameOrSaferRedirect(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where the rules for URLs hold, and never from https back to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise WeightsError(f"{req.full_url}: redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, have: int, timeout_s: float) -> http.client.HTTPResponse:
    """Ask for `url` from byte `have` on."""
    headers = {"User-Agent": "edgetam-labeling", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    # A proxy is for the way out; this machine is reached directly.
    proxies: dict[str, str] | None = {} if _is_loopback(urlsplit(url).hostname or "") else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _SameOrSaferRedirect())
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - check_url has seen the scheme
    response: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    return response


def _resume_position(response: http.client.HTTPResponse, have: int) -> int:
    """Byte at which the answer's body starts: `have`, or 0 from a server without Range."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {have}-"):
        raise _CutOffError(f"asked for bytes from {have}, got {content_range!r}")
    return have


def _refuse(url: str, part: Path, error: HTTPError) -> None:
    """Turn an HTTP error status into ours: worth another attempt, or final."""
    error.close()
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)  # longer than the file: the bytes are of another one
        raise _CutOffError("the partial file does not fit and starts anew") from error
    if error.code == http.HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500:
        raise _CutOffError(f"HTTP {error.code}") from error
    raise WeightsError(f"{url}: HTTP {error.code} {error.reason}") from error
