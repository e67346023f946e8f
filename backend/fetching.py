"""HTTP for what others name: connects to the address that was checked, follows redirects one by one.

Proxies, cookies and credentials of the environment play no part, and the connection ends with the answer.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import urljoin

from backend.addresses import AddressPolicy, AllowedHost, Origin, WebAddress, parse_url
from backend.settings import Settings
from edgetam_model import MediaError

CHUNK_BYTES = 2**18
MAX_REDIRECTS = 5
MAX_RESUMES = 50  # Label Studio's storage proxy ends every answer after a while; each must bring something
OWN_HEADERS = MappingProxyType({"User-Agent": "edgetam-labeling", "Accept-Encoding": "identity"})


class FetchError(MediaError):
    """An address that was refused, could not be reached, or gave something else than was asked for.

    Attributes:
        status: the HTTP status where one came, else None.
        cut_off: the answer began well and ended too early.
    """

    def __init__(self, address: object, problem: str, *, status: int | None = None, cut_off: bool = False):
        super().__init__(str(address), problem)
        self.status = status
        self.cut_off = cut_off


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch may cost.

    Attributes:
        max_bytes: of the body.
        total_s: seconds for everything, redirects and resumed parts included.
        stall_s: seconds without a single byte.
    """

    max_bytes: int = 16 * 2**30
    total_s: float = 900.0
    stall_s: float = 30.0


@dataclass(frozen=True)
class Credentials:
    """An Authorization header and the only origin that may see it."""

    origin: Origin
    header: str = field(repr=False)


@dataclass(frozen=True)
class Request:
    """What is asked. A body that is iterated over needs a Content-Length among the headers."""

    address: WebAddress
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Iterable[bytes] | None = field(default=None, repr=False)
    credentials: Credentials | None = None


class _TimedReader(io.RawIOBase):
    """Reads a socket, and waits for no byte beyond the stall limit or the deadline."""

    def __init__(self, connection: socket.socket, deadline: float, stall_s: float) -> None:
        self._connection, self._deadline, self._stall_s = connection, deadline, stall_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives this
        self._connection.settimeout(_patience(self._deadline, self._stall_s))
        return self._connection.recv_into(buffer)


class _TimedSocket:
    """The part of a socket that http.client uses. It stays open until `release`, also when told to close,
    since http.client closes it before the body is read."""

    def __init__(self, connection: socket.socket, deadline: float, stall_s: float) -> None:
        self._connection, self._deadline, self._stall_s = connection, deadline, stall_s

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(_patience(self._deadline, self._stall_s))
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connection, self._deadline, self._stall_s))

    def close(self) -> None:
        """Do nothing: see above."""

    def release(self) -> None:
        self._connection.close()


def _patience(deadline: float, stall_s: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("out of time")
    return min(left, stall_s)


class Response:
    """An answer whose body has not been read yet; valid inside the `with` of `Fetcher.open`.

    Attributes:
        address: where it came from, after redirects.
        status, headers: as received.
        deadline: `time.monotonic()` at which the fetch must be over.
    """

    def __init__(
        self,
        address: WebAddress,
        raw: http.client.HTTPResponse,
        wire: _TimedSocket,
        limits: FetchLimits,
        deadline: float,
    ) -> None:
        self.address = address
        self.status = raw.status
        self.headers = raw.headers
        self.deadline = deadline
        self._raw, self._wire, self._limits = raw, wire, limits

    @property
    def length(self) -> int | None:
        """Bytes of the body as the server announces them."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def validator(self) -> str:
        """What tells two versions of a file apart: entity tag and date of change; may be empty."""
        return f"{self.headers.get('ETag', '')}|{self.headers.get('Last-Modified', '')}".strip("|")

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece as it arrives.

        Raises:
            FetchError: cut off, too slow, encoded, or larger than the limit.
        """
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchError(self.address, "comes compressed though that was not asked for")
        self._check_size(self.length or 0)
        received = 0
        while chunk := self._read():
            received += len(chunk)
            self._check_size(received)
            yield chunk
        if self._raw.length:  # what http.client still waits for
            raise FetchError(self.address, f"was cut off, {self._raw.length} bytes are missing", cut_off=True)

    def read(self, max_bytes: int) -> bytes:
        """The whole body, where it is no longer than this.

        Raises:
            FetchError: longer, or as `chunks` does.
        """
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > max_bytes:
                raise FetchError(self.address, f"has more than the limit of {max_bytes:,} bytes")
        return bytes(body)

    def release(self) -> None:
        """End the connection, whatever is still to come."""
        self._raw.close()
        self._wire.release()

    def _read(self) -> bytes:
        try:
            return self._raw.read1(CHUNK_BYTES)
        except TimeoutError as error:
            late = time.monotonic() >= self.deadline
            limit = f"took more than {self._limits.total_s:g} s" if late else "stalled"
            raise FetchError(self.address, limit, cut_off=not late) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(self.address, f"was cut off ({type(error).__name__})", cut_off=True) from error

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise FetchError(self.address, f"has more than the limit of {self._limits.max_bytes:,} bytes")


class Fetcher:
    """Asks for addresses under one policy and one set of limits; may be shared between threads.

    Args:
        policy: which addresses may be reached.
        limits: what one fetch may cost.
        tls: whom to trust; the operating system's authorities when left out.
    """

    def __init__(
        self, policy: AddressPolicy, limits: FetchLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.policy = policy
        self.limits = limits or FetchLimits()
        self._tls = tls or ssl.create_default_context()

    @classmethod
    def from_settings(cls, settings: Settings) -> Fetcher:
        """Allow the configured hosts and, on its own port only, Label Studio."""
        allowed = [AllowedHost.parse(text) for text in settings.allowed_hosts]
        if settings.label_studio_url:
            origin = parse_url(settings.label_studio_url).origin
            allowed.append(AllowedHost(origin.host, origin.port))
        limits = FetchLimits(int(settings.max_media_bytes), settings.fetch_seconds, settings.stall_seconds)
        return cls(AddressPolicy(allowed), limits)

    @contextmanager
    def open(self, request: Request, deadline: float | None = None) -> Iterator[Response]:
        """Send the request and follow redirects of a GET, each checked like the first address.

        Credentials go to their own origin only, and are dropped for good by a redirect that leaves it. Any
        final status is given to the caller.

        Args:
            request: what to ask.
            deadline: `time.monotonic()` at which to give up; the limits' total time when left out.

        Raises:
            FetchError: refused, unreachable, too slow, or too many redirects.
        """
        deadline = time.monotonic() + self.limits.total_s if deadline is None else deadline
        response = self._follow(request, deadline)
        try:
            yield response
        finally:
            response.release()

    def save(self, request: Request, first: Response, file: BinaryIO) -> int:
        """Write a body into an empty file; where it is cut off and the server gives ranges, go on from there.

        Args:
            request: what `first` answers.
            first: an open answer with status 200.
            file: receives the bytes.

        Returns:
            How many bytes there were.

        Raises:
            FetchError: cut off for good, changed meanwhile, too slow or too large.
        """
        total = first.length
        with ExitStack() as open_parts:
            part = first
            for _ in range(MAX_RESUMES):
                have = file.tell()
                cut = _drain(part, file)
                if cut is None and (total is None or file.tell() == total):
                    return file.tell()
                if total is not None and file.tell() > total:
                    raise FetchError(first.address, f"has more than the {total:,} bytes it announced")
                if total is None or not first.validator or file.tell() == have:
                    raise cut or FetchError(first.address, "was cut off", cut_off=True)
                open_parts.close()
                headers = {**request.headers, "Range": f"bytes={file.tell()}-"}
                rest = replace(request, headers=headers)
                part = open_parts.enter_context(self.open(rest, first.deadline))
                _check_continues(part, first, file.tell(), total)
        raise FetchError(first.address, f"was cut off {MAX_RESUMES} times", cut_off=True)

    def _follow(self, request: Request, deadline: float) -> Response:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._exchange(request, deadline)
            location = response.headers.get("Location")
            if request.method != "GET" or response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.release()
            request = _redirected(request, location)
        raise FetchError(request.address, f"redirects more than {MAX_REDIRECTS} times")

    def _exchange(self, request: Request, deadline: float) -> Response:
        origin = request.address.origin
        wire = _TimedSocket(self._dial(request.address, deadline), deadline, self.limits.stall_s)
        connection = http.client.HTTPConnection(origin.host, origin.port)
        connection.sock = wire
        headers = {**OWN_HEADERS, **request.headers, "Host": origin.authority, "Connection": "close"}
        if request.credentials and request.credentials.origin == origin:
            headers["Authorization"] = request.credentials.header
        try:
            connection.request(request.method, request.address.target, request.body, headers)
            raw = connection.getresponse()
        except TimeoutError as error:
            wire.release()
            raise FetchError(request.address, "gave no answer in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            wire.release()
            raise FetchError(request.address, f"gave no answer ({type(error).__name__})") from error
        return Response(request.address, raw, wire, self.limits, deadline)

    def _dial(self, address: WebAddress, deadline: float) -> socket.socket:
        """Connect to one of the addresses that were checked; names are not looked up again."""
        try:
            candidates = self.policy.addresses(address.origin)
        except MediaError as error:
            raise FetchError(address, error.problem) from error
        reason = ""
        for candidate in candidates:
            try:
                patience = _patience(deadline, self.limits.stall_s)
                plain = socket.create_connection((candidate, address.origin.port), patience)
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            return self._secure(address, plain) if address.origin.scheme == "https" else plain
        raise FetchError(address, f"cannot be reached: {reason}")

    def _secure(self, address: WebAddress, plain: socket.socket) -> ssl.SSLSocket:
        try:
            return self._tls.wrap_socket(plain, server_hostname=address.origin.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise FetchError(
                address, f"has a certificate that is not trusted: {error.verify_message}"
            ) from error
        except OSError as error:
            plain.close()
            raise FetchError(address, "speaks no TLS that can be used") from error


def _redirected(request: Request, location: str) -> Request:
    """The next request of a chain.

    Raises:
        FetchError: the target is no address of the web, or gives up encryption.
    """
    try:
        address = parse_url(urljoin(request.address.url, location))
    except (MediaError, ValueError) as error:
        raise FetchError(request.address, "redirects to what is no plain http or https URL") from error
    if request.address.origin.scheme == "https" and address.origin.scheme == "http":
        raise FetchError(request.address, "redirects from https to http")
    stays = address.origin == request.address.origin
    return replace(request, address=address, credentials=request.credentials if stays else None)


def _drain(part: Response, file: BinaryIO) -> FetchError | None:
    """Append a body to a file; a cut comes back as an error to be judged, others are raised."""
    try:
        for chunk in part.chunks():
            file.write(chunk)
    except FetchError as error:
        if not error.cut_off:
            raise
        return error
    return None


def _check_continues(part: Response, first: Response, have: int, total: int) -> None:
    """Raise unless the part goes on where the file ends, and is of the same version."""
    content_range = part.headers.get("Content-Range", "")
    goes_on = content_range.startswith(f"bytes {have}-") and content_range.endswith(f"/{total}")
    if part.status != HTTPStatus.PARTIAL_CONTENT or not goes_on or part.validator != first.validator:
        raise FetchError(
            first.address, f"was cut off after {have} bytes and cannot be continued", cut_off=True
        )
