"""Waiting for a change on the server, and knowing its clock.

Scripts that give others something to do count it, and publish the number. One thread of the process hears
the channel and ends the waits; it begins with the first wait. Should a message be lost, one of those who
wait finds the number by looking: a lost wake-up costs that long, and nothing else. A line that says nothing
of what is known by then (something on the way has forgotten it) is hung up, and another one made.

    another process ── settle.lua ── PUBLISH ──► heard ──► changed ──► the waits of this process end
                             └── counts ──► looked at, each PERIOD ──► the same, later
"""

import os
import threading
from datetime import datetime, timedelta

from onebeat.core.errors import OnebeatError
from onebeat.core.model import from_micros
from onebeat.core.ports import Clock
from onebeat.store.redis.server import Line, Server
from onebeat.store.waking import ServerClock, Waiting

PERIOD = timedelta(seconds=5)
"""How long a change may go unnoticed whose message was lost."""

LISTEN_S = 1.0
"""How long the thread that listens is deaf to being told to end, and how long a message may be on its way."""

AGAIN_S = 1.0
"""How long to wait before a line that broke is made again."""


class Waking:
    """The waits of one process on one ledger."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = ServerClock(clock)
        self._waiting = Waiting(self._clock, self._look, PERIOD)
        namespace = f"{{{server.address.namespace}}}"
        self._meta, self._channel = f"{namespace}:meta", f"{namespace}:changes"
        self._lock = threading.Lock()
        self._known: int | None = None  # the number of the newest change that this process's waits know of
        self._listener: threading.Thread | None = None
        self._listening = 0  # the process that listens: a thread does not survive a fork
        self._closed = threading.Event()

    def store_clock(self) -> datetime:
        """Return the server's clock."""
        return self._clock.measured(self._told)

    def _told(self) -> datetime:
        seconds, micros = self._server.ask("TIME")
        return from_micros(int(seconds) * 1_000_000 + int(micros))

    def changed(self, number: int) -> None:
        """End the waits of this process, which has changed the ledger; 0 is a change that is not counted."""
        with self._lock:
            # Only if nothing of others came in between is the number known with this.
            if self._known is not None and number == self._known + 1:
                self._known = number
        self._waiting.changed()

    def wait(self, until: datetime | None) -> bool:
        """Wait as ``Ledger.wait`` says."""
        self._listen()
        return self._waiting.wait(until)

    def wake(self) -> None:
        """End the waits of this process now."""
        self._waiting.changed()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._waiting.changed()

    def _look(self) -> bool:
        """Say whether others changed the ledger since this was asked last. A server that is down says no."""
        try:
            number = int(self._server.ask("HGET", self._meta, "changes") or 0)
        except OnebeatError:
            return False  # whoever is woken at its instant will meet the error itself
        return self._hear(number)

    def _hear(self, number: int) -> bool:
        """Say whether a number is news; a message may come after what was published later is known."""
        with self._lock:
            news = self._known is None or number > self._known
            self._known = number if self._known is None else max(number, self._known)
            return news

    def _begin_again(self) -> None:
        """After the line was down, take nothing for known: a fail-over may have set the numbers back."""
        with self._lock:
            self._known = None
        self._look()
        self._waiting.changed()

    def _listen(self) -> None:
        """Begin to listen, once in each process."""
        with self._lock:
            alive = self._listener is not None and self._listener.is_alive()
            if (alive and self._listening == os.getpid()) or self._closed.is_set():
                return
            self._listening = os.getpid()
            self._listener = threading.Thread(target=self._hear_all, name="onebeat-redis", daemon=True)
            self._listener.start()
        # From here on changes are compared with what there was; what came before may have been missed.
        self._look()
        self._waiting.changed()

    def _hear_all(self) -> None:
        again = False
        while not self._closed.is_set():
            try:
                line = self._server.listen(self._channel)
                try:
                    if again:
                        self._begin_again()
                    again = True
                    self._hear_line(line)
                finally:
                    line.close()
            except OnebeatError:
                self._closed.wait(AGAIN_S)

    def _hear_line(self, line: Line) -> None:
        """Hear what is said on a line; return when it turns out to be dead."""
        heard = 0
        missed: int | None = None  # what should have been heard by the end of the last silence
        while not self._closed.is_set():
            said = line.heard(LISTEN_S)
            if said is None:
                if missed is not None and heard < missed:
                    return
                missed = self._known
                heard = heard or missed or 0  # a new line need not hear what was known before it
                continue
            number, _, name = said.partition(" ")
            if not number.isdecimal():  # a program outside, which has appended to the inbox
                self._waiting.changed()
                continue
            heard = int(number)
            # What this process did itself is known from here on, and so is all that came before it.
            if self._hear(int(number)) and name != self._server.name:
                self._waiting.changed()
