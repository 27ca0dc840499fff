"""Wake-ups on PostgreSQL: one connection of a process listens, and tells others of what was committed here.

    commit ──► changed() ──► the thread sends NOTIFY ──► every process that listens ends its waits
                             at most one in NAP_S: whoever changes much says it once

It lives in a thread of its own, begun by the first wait. A process that never waits says it by an ordinary
connection. NOTIFY is never part of a transaction that writes: PostgreSQL commits those one after the other.
Losing a wake-up costs latency, so nothing here is ever an error: the thread connects again.
"""

import os
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress

from onebeat.store.dialects import postgres_driver as driver
from onebeat.store.dialects.postgres_driver import Connection

NAP_S = 0.01
AGAIN_S, AGAIN_S_MAX = 0.1, 5.0


class Listener:
    """Hears what other processes commit, and says what this one did. Thread-safe, and safe across fork."""

    def __init__(self, connect: Callable[[], Connection], channel: str, changed: Callable[[], None]) -> None:
        self._connect = connect
        self._listen = f'LISTEN "{channel}"'.encode()
        self._notify = f'NOTIFY "{channel}"'.encode()
        self._changed = changed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._pipe: tuple[int, int] | None = None
        self._closed = threading.Event()
        self._news = False

    @property
    def listens(self) -> bool:
        """Whether the thread is there, in this process."""
        return self._thread is not None and self._pid == os.getpid()

    def begin(self) -> None:
        """Begin to listen. Safe to repeat; a child of fork begins anew."""
        if self.listens or self._closed.is_set():
            return
        with self._lock:
            if not self.listens:
                self._pid, self._pipe = os.getpid(), os.pipe()
                os.set_blocking(self._pipe[1], False)
                self._thread = threading.Thread(target=self._live, name="onebeat-listen", daemon=True)
                self._thread.start()

    def tell(self) -> None:
        """Have the thread tell other processes, as soon as it can."""
        self._news = True
        self._nudge()

    def say(self, db: Connection) -> None:
        """Tell other processes by this connection, at once."""
        db.execute(self._notify)

    def close(self) -> None:
        """End the thread, after it has told what there was to tell."""
        self._closed.set()
        with self._lock:
            thread, self._thread = (self._thread, None) if self.listens else (None, None)
        if thread is not None and thread is not threading.current_thread():
            self._nudge()
            thread.join()

    def _nudge(self) -> None:
        if self._pipe is not None:
            with suppress(OSError):  # full: it will look anyway
                os.write(self._pipe[1], b"!")

    # --- the thread ---

    def _live(self) -> None:
        assert self._pipe is not None
        reading, writing = self._pipe
        pause = AGAIN_S
        while not self._closed.is_set():
            try:
                with self._connect() as db:
                    db.execute(b"SET synchronous_commit TO off")  # a notification need not survive
                    db.execute(self._listen)
                    self._changed()  # who knows what happened before
                    pause = AGAIN_S
                    self._hear(db, reading)
            except Exception:  # noqa: BLE001 - losing wake-ups costs latency only; whoever works meets the error
                self._closed.wait(pause)
                pause = min(2 * pause, AGAIN_S_MAX)
        os.close(reading)
        os.close(writing)

    def _hear(self, db: Connection, reading: int) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(db.fileno(), selectors.EVENT_READ)
            ready.register(reading, selectors.EVENT_READ)
            while True:
                ended = self._closed.is_set()
                if self._news:
                    self._news = False
                    self.say(db)
                    self._closed.wait(NAP_S)
                if ended:
                    return
                for key, _ in ready.select():
                    if key.fd == reading:
                        os.read(reading, 4096)
                if driver.heard(db):
                    self._changed()
