"""From a task's data value to a file on this machine: uploads, shared folders, storage, the web.

Whatever the value says, nothing is read but what Label Studio serves, what is public, what an allow list
names, and files below configured folders.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Literal
from urllib.parse import parse_qs, quote, unquote_to_bytes

from pydantic import SecretStr

from backend.addresses import WebAddress, parse_url
from backend.fetching import Fetcher, FetchError, Request, Response
from backend.label_studio import LabelStudio
from backend.media_cache import Incoming, MediaCache
from backend.settings import Settings
from edgetam_model import MediaError

Kind = Literal["image", "video"]

# What Label Studio serves: uploads, local files, and what it resolves for cloud storage.
SERVED = re.compile(
    r"/(data/upload/|data/local-files/?\?|storage-data/uploaded/?\?"
    r"|(tasks|projects)/[0-9]+/(resolve|presign)/?\?)"
)
LOCAL_FILES = re.compile(r"/data/local-files/?")
STORAGE_SCHEMES = frozenset({"s3", "gs", "azure-blob"})
LOCKED = (
    "lies in Label Studio, and this process has no token for it: set LABEL_STUDIO_URL and "
    "LABEL_STUDIO_API_KEY for `edgetam serve` and for every `edgetam worker`"
)
MAX_INLINE_BYTES = 32 * 2**20
HEAD_BYTES = 600  # three packets of a transport stream, the widest mark there is
FRESH_S = 5.0  # how long a file counts as unchanged: a click follows a click without asking again
MAX_REMEMBERED = 256
MAX_GUESTS = 32

VIDEO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
IMAGE_STARTS: tuple[bytes, ...] = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
PHONE_IMAGES = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")
IMAGE_STARTS += tuple(f"P{kind}{space}".encode() for kind in range(1, 7) for space in " \n\r\t")


@dataclass(frozen=True)
class MediaFile:
    """A file that can be read until the `with` it came from ends.

    Attributes:
        path: where it is; its name says nothing about its content.
        kind: what the content begins like.
        source: where it came from, for people; without anything secret.
    """

    path: Path
    kind: Kind
    source: str


class MediaIntake:
    """Finds, fetches and keeps the media of tasks; may be shared between threads.

    Args:
        settings: roots, limits, cache.
        label_studio: the configured one, None where there is none.
        fetcher, cache: made from the settings when left out.
    """

    def __init__(
        self,
        settings: Settings,
        label_studio: LabelStudio | None,
        fetcher: Fetcher | None = None,
        cache: MediaCache | None = None,
    ) -> None:
        self._settings = settings
        self._label_studio = label_studio
        self._fetcher = fetcher or Fetcher.from_settings(settings)
        self._cache = cache or MediaCache(
            settings.media_cache_dir, int(settings.media_cache_bytes), settings.fetch_seconds
        )
        self._guests: dict[tuple[str, str], LabelStudio] = {}  # by address and token
        self._fresh: dict[str, tuple[str, float]] = {}  # source → version, time.monotonic() of the answer
        self._lock = Lock()

    @contextmanager
    def open(
        self,
        value: object,
        *,
        task_id: int | None = None,
        hostname: str | None = None,
        token: SecretStr | None = None,
    ) -> Iterator[MediaFile]:
        """The file that a task's data value names; it stays until the end of the `with`.

        Args:
            value: as the task has it.
            task_id: needed for cloud storage, which Label Studio resolves by task.
            hostname: Label Studio's address in its own words, from `/setup`; it may differ from the way
                it is reached from here.
            token: the token from `/setup`, used where none is configured.

        Raises:
            MediaError: refused, not found, too large, or neither image nor video.
            LabelStudioError: the token cannot be exchanged.
        """
        if not isinstance(value, str) or not value.strip():
            raise MediaError("data", f"expected the address of a file as text, got {type(value).__name__}")
        asking = _Asking(hostname, token, task_id)
        with self._located(value.strip(), asking) as (path, source):
            kind = media_kind(path, source)
            self._settings.media_limits().check_bytes(source, path.stat().st_size)
            yield MediaFile(path, kind, source)

    def _located(self, value: str, asking: _Asking) -> AbstractContextManager[tuple[Path, str]]:
        """Holds the file: its path, and its source for people."""
        scheme = value.partition(":")[0].lower() if ":" in value else ""
        if scheme == "data":
            return self._inline(value)
        if scheme in STORAGE_SCHEMES:
            return self._from_storage(value, asking)
        if scheme in ("http", "https"):
            return self._from_web(parse_url(value), asking)
        if "://" in value:
            raise MediaError("data", f"{scheme[:20]} addresses are not supported")
        path = value if value.startswith("/") else f"/{value}"
        mount = self._label_studio.base.path if self._label_studio else "/"
        path = path.removeprefix(mount.rstrip("/"))
        path = f"/data{path}" if path.startswith("/upload/") else path
        if SERVED.match(path):
            return self._served(path, self._site(asking), asking)
        return nullcontext(self._below_roots(value))

    def _from_storage(self, uri: str, asking: _Asking) -> AbstractContextManager[tuple[Path, str]]:
        if asking.task_id is None:
            raise MediaError("data", "expected the task's id: Label Studio resolves cloud storage by task")
        encoded = base64.urlsafe_b64encode(uri.encode("utf-8", "surrogatepass")).decode()
        path = f"/tasks/{asking.task_id}/resolve/?fileuri={quote(encoded)}"
        return self._served(path, self._site(asking), asking)

    def _from_web(self, address: WebAddress, asking: _Asking) -> AbstractContextManager[tuple[Path, str]]:
        known = [text for text in (self._settings.label_studio_url, asking.hostname) if text]
        if any(_same_origin(text, address) for text in known):
            site = self._site(asking)
            path = address.target.removeprefix(site.base.path.rstrip("/"))
            if SERVED.match(path):
                return self._served(path, site, asking)
            if address.origin == site.origin:
                return self._fetched(address, site, asking)
        return self._fetched(address, None, asking)

    def _served(
        self, path: str, site: LabelStudio, asking: _Asking
    ) -> AbstractContextManager[tuple[Path, str]]:
        """What Label Studio serves: read from the shared folder where there is one, else fetched."""
        address = site.address(path)
        plain, _, query = path.partition("?")
        root = self._settings.local_files_document_root
        if root and LOCAL_FILES.fullmatch(plain):
            named = parse_qs(query).get("d", [""])[0]
            found = _below(root, named.lstrip("/"))
            if found is None:
                raise MediaError("data", "names a local file outside LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT")
            if _is_file(found):
                return nullcontext((found, found.name))
        return self._fetched(address, site, asking)

    def _site(self, asking: _Asking) -> LabelStudio:
        """The Label Studio to ask: the configured one, else the one that introduced itself."""
        if self._label_studio:
            return self._label_studio
        url = self._settings.label_studio_url or asking.hostname
        if not url or asking.token is None:
            raise MediaError("data", LOCKED)
        key = (url, asking.token.get_secret_value())
        with self._lock:
            if len(self._guests) > MAX_GUESTS:
                self._guests.clear()
            return self._guests.setdefault(key, LabelStudio(url, asking.token, self._fetcher))

    @contextmanager
    def _fetched(
        self, address: WebAddress, site: LabelStudio | None, asking: _Asking
    ) -> Iterator[tuple[Path, str]]:
        """The file in the cache; its origin is asked whether it has changed, unless it just was."""
        source = address.url
        key = f"{hash(asking.token and asking.token.get_secret_value())} {source}"
        with ExitStack() as stack:
            path = self._if_fresh(key, source, stack)
            if path is None:
                path = stack.enter_context(self._cache.hold(source, lambda: self._asked(address, site, key)))
            yield path, str(address)

    def _if_fresh(self, key: str, source: str, stack: ExitStack) -> Path | None:
        with self._lock:
            version, answered = self._fresh.get(key, ("", 0.0))
        if not version or time.monotonic() - answered > FRESH_S:
            return None
        held = self._cache.peek(source, version)
        return stack.enter_context(held) if held else None

    @contextmanager
    def _asked(self, address: WebAddress, site: LabelStudio | None, key: str) -> Iterator[Incoming]:
        request = Request(address)
        with site.open(request) if site else self._fetcher.open(request) as response:
            _check_answer(response, is_label_studio=site is not None)
            size = "" if response.length is None else str(response.length)
            # An origin that tells nothing may have another file each time.
            version = f"{response.validator} {size}".strip() or f"at {time.time_ns()}"
            yield Incoming(version, partial(self._save, site, address, response))
        with self._lock:
            if len(self._fresh) > MAX_REMEMBERED:
                self._fresh.clear()
            self._fresh[key] = (version, time.monotonic())

    def _save(
        self, site: LabelStudio | None, address: WebAddress, response: Response, file: BinaryIO
    ) -> None:
        request = Request(address, credentials=site.credentials() if site else None)
        self._fetcher.save(request, response, file)

    @contextmanager
    def _inline(self, value: str) -> Iterator[tuple[Path, str]]:
        """A data URI with an image in it."""
        content = _inline_bytes(value)
        incoming = Incoming("", lambda file: file.write(content))
        source = f"data:{hashlib.sha256(content).hexdigest()}"
        with self._cache.hold(source, lambda: nullcontext(incoming)) as path:
            if media_kind(path, "inline image") != "image":
                raise MediaError("data", "videos inside a data URI are not supported")
            yield path, "inline image"

    def _below_roots(self, value: str) -> tuple[Path, str]:
        """A local file, named in full or from one of the roots.

        Outside the roots nothing is told, not even whether a file exists.
        """
        for root in self._settings.media_roots:
            found = _below(root, value)
            if found and _is_file(found):
                return found, found.name
        raise MediaError("data", "no such file below EDGETAM_MEDIA_ROOTS, and not an address of Label Studio")


@dataclass(frozen=True)
class _Asking:
    """Who Label Studio says it is, and the task in question."""

    hostname: str | None
    token: SecretStr | None
    task_id: int | None


def media_kind(path: Path, source: str) -> Kind:
    """Whether a file begins like an image or a video that can be opened.

    Raises:
        MediaError: like neither, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise MediaError(source, f"cannot be read: {error.strerror}") from error
    if head.startswith(IMAGE_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp" and head[8:12] in PHONE_IMAGES:
        raise MediaError(source, "HEIC and AVIF images are not supported: convert it to JPEG or PNG")
    if _begins_like_video(head):
        return "video"
    raise MediaError(source, _what_else(head))


def _what_else(head: bytes) -> str:
    if not head:
        return "is empty (0 bytes)"
    page = head.lstrip().startswith(b"<")
    return "is a web page" if page else "is neither an image nor a video that can be opened"


def _begins_like_video(head: bytes) -> bool:
    transport = (head[0::188][:3], head[4::192][:3])  # sync bytes of MPEG transport streams
    return (
        head[4:8] in VIDEO_BOXES
        or head.startswith(b"\x1aE\xdf\xa3")  # Matroska, WebM
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or b"GGG" in transport
    )


def _below(root: Path, named: str) -> Path | None:
    """A file below a folder, links resolved; None where it leads out of it."""
    try:
        base = root.resolve()
        found = (base / named).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that cannot be one
        return None
    return found if found.is_relative_to(base) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _same_origin(text: str, address: WebAddress) -> bool:
    try:
        return parse_url(text).origin == address.origin
    except MediaError:
        return False


def _inline_bytes(value: str) -> bytes:
    head, _, body = value.partition(",")
    if len(body) > MAX_INLINE_BYTES * 4 // 3:
        raise MediaError("data", f"an inline image may have {MAX_INLINE_BYTES:,} bytes at most")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise MediaError("data", "not a data URI that can be decoded") from error


def _check_answer(response: Response, *, is_label_studio: bool) -> None:
    """Raise unless the file is coming."""
    status = response.status
    if status == HTTPStatus.OK:
        return
    problem = f"answered {status}"
    if status == HTTPStatus.NOT_FOUND:
        problem = "is not there (404)"
    elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        problem = f"may not be read ({status})"
        if is_label_studio:
            problem += ": is LABEL_STUDIO_API_KEY a valid token, and may its user see the project?"
    raise FetchError(response.address, problem, status=status)
