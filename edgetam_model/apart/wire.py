"""The words between a decoder and who asks it: a line of JSON with a few numbers, then bytes if any.

Nothing that is received is run or unpickled, and nothing is allocated before its size was checked.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

HEAD = struct.Struct("!IQ")  # bytes of JSON, bytes that follow it
WORDS = 1 << 16  # bytes of JSON at most: 10 warnings of 300 letters, each written in six or twelve bytes
NO_DEADLINE = float("inf")

Message = dict[str, Any]


class Channel:
    """One end of a connection. Used by one thread at a time.

    Args:
        connection: a stream socket, closed by whoever made it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(
        self, message: Mapping[str, Any], data: bytes | memoryview = b"", deadline: float = NO_DEADLINE
    ) -> None:
        """Send a message whole.

        Args:
            message: what JSON can hold.
            data: goes along as it is.
            deadline: on the monotonic clock.

        Raises:
            TimeoutError: not taken by then.
            OSError: the other end is gone.
        """
        words = json.dumps(message).encode()
        for part in (HEAD.pack(len(words), len(data)) + words, data):
            if part:
                self._socket.settimeout(_left(deadline))
                self._socket.sendall(part)

    def receive(self, most: int = 0, deadline: float = NO_DEADLINE) -> tuple[Message, bytearray]:
        """The next message, and the bytes that came with it: `most` of them at most.

        Raises:
            TimeoutError: it did not come by then.
            ValueError: it is too long, or no JSON object.
            OSError: the other end is gone.
        """
        words, data = HEAD.unpack(self._exactly(HEAD.size, deadline))
        if words > WORDS or data > most:
            raise ValueError(f"a message of {words} and {data} bytes")
        try:
            message = json.loads(self._exactly(words, deadline))
        except RecursionError as error:
            raise ValueError("a message that is nested too deeply") from error
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message, self._exactly(data, deadline)

    def _exactly(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            self._socket.settimeout(_left(deadline))
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionError("the other end is gone")
            view = view[count:]
        return data


def _left(deadline: float) -> float | None:
    if deadline == NO_DEADLINE:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left
