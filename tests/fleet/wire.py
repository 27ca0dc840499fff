"""A line to a server that a test can cut, slow down, or lead elsewhere: what networks do."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue

CHUNK = 65_536


class Wire:
    """Listens on a port of its own and passes on what comes, to wherever it leads. Thread-safe."""

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s  # for what comes back from the server
        self._to = port
        self._lock = threading.Lock()
        self._whole = True
        self._ends: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Pass on nothing more, not even what is under way; whoever connects is hung up on."""
        with self._lock:
            self._whole = False
            ends, self._ends = self._ends, set()
        for end in ends:
            _hang_up(end)

    def mend(self, port: int | None = None) -> None:
        """Pass on again, from new connections on; to another server, if one is named."""
        with self._lock:
            self._to = self._to if port is None else port
            self._whole = True

    def close(self) -> None:
        """Cut it for good."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                _hang_up(here)
                continue
            for end in (here, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                whole = self._whole
                if whole:
                    self._ends |= {here, there}
            if not whole:
                _hang_up(here)
                _hang_up(there)
                continue
            under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_pass_on, args=(here, there), daemon=True).start()
            threading.Thread(target=self._take, args=(there, under_way), daemon=True).start()
            threading.Thread(target=self._bring, args=(here, there, under_way), daemon=True).start()

    def _take(self, source: socket.socket, under_way: SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + self.delay_s, data))

    def _bring(
        self, to: socket.socket, source: socket.socket, under_way: SimpleQueue[tuple[float, bytes]]
    ) -> None:
        nap = threading.Event()
        while True:
            at, data = under_way.get()
            if self.delay_s:
                nap.wait(max(0.0, at - time.monotonic()))
            try:
                if not data:
                    break
                to.sendall(data)
            except OSError:
                break
        _hang_up(to)
        _hang_up(source)


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            to.sendall(data)
    _hang_up(to)
    _hang_up(source)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
