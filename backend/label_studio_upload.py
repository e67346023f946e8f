"""A file on its way to Label Studio, as browsers send one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from backend.fetching import CHUNK_BYTES
from edgetam_model import InputError


class FileUpload:
    """A multipart body with one file, read anew each time it is iterated over.

    Raises:
        InputError: no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        boundary = secrets.token_hex(16)
        name = re.sub(r'[\x00-\x1f"\\]', "_", path.name)
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        try:
            self.length = len(self._head) + path.stat().st_size + len(self._tail)
        except OSError as error:
            raise InputError("file", f"{path.name} cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        yield self._tail
