"""What is done again and again while a fault is in force."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chaos.place import Nobody


class Again:
    """Does something in a thread of its own, with a pause after each time, until it is stopped.

    That there is nobody to do it to, or no server, ends nothing: it is tried again.
    """

    def __init__(self, act: Callable[[], object], pause_s: float) -> None:
        self._act = act
        self._pause_s = pause_s
        self._enough = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._go_on, name="fault", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until it has. Raises what it failed with. Safe to repeat."""
        self._enough.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _go_on(self) -> None:
        while not self._enough.is_set():
            try:
                self._act()
            except Nobody:
                pass
            except Exception as error:  # noqa: BLE001 - told by whoever stops it, in the play's own thread
                self._failed = error
                return
            self._enough.wait(self._pause_s)
