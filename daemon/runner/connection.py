"""The socket to the front, as a runner sees it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import msgspec

from ..protocol import FrameReader, Load, ToFront, ToRunner, encode

READ_BYTES = 1 << 18


class FrontConnection:
    """Any thread writes, one reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._messages = self._read()

    def send(self, message: ToFront) -> None:
        frame = encode(message)
        with self._lock:
            self._socket.sendall(frame)

    def messages(self) -> Iterator[ToRunner]:
        """Those that were not taken yet, until the front closes the socket."""
        return self._messages

    def receive_load(self) -> Load | None:
        """The first message; None if the front is gone."""
        load = next(self._messages, None)
        assert load is None or isinstance(load, Load)
        return load

    def _read(self) -> Iterator[ToRunner]:
        frames = FrameReader()
        decoder = msgspec.msgpack.Decoder(ToRunner)
        while data := self._socket.recv(READ_BYTES):
            for body in frames.feed(data):
                yield decoder.decode(body)
