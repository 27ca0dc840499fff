"""The outside file against plain arithmetic: what has fired, what is late, missing, or there twice.

Nothing here asks the ledger, so it goes on counting while the server is down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.cluster.load import SECOND, Beat

LATE = 1 * SECOND
"""A body that began longer than this after its occurrence was due is late."""


@dataclass
class Counts:
    """What was found so far."""

    fired: int = 0
    again: int = 0  # the same run under a further attempt: its node was lost, or stopped past its lease
    late: int = 0
    worst: int = 0  # the greatest lateness, in µs
    owed: int = 0  # due, and no body has begun
    missed: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class Evidence:
    """Reads the file as it grows. An occurrence is missed if later ones of its schedule have long begun.

    That judges while it runs, on ``patience``; ``left`` is what there is to say in the end.
    """

    def __init__(self, path: Path, beats: list[Beat], patience: float) -> None:
        self.counts = Counts()
        self._path = path
        self._beats = {each.name: each for each in beats}
        self._patience = round(patience * SECOND)
        self._read = 0
        self._seen: dict[str, dict[int, tuple[str, set[tuple[int, int]]]]] = {each.name: {} for each in beats}
        self._whole = dict.fromkeys(self._beats, 0)  # all before this number have begun
        self._last = dict.fromkeys(self._beats, 0)  # the newest that has begun is the one before this number
        self._holes: dict[tuple[str, int], int] = {}  # since when it has been missing

    def look(self, now: int) -> Counts:
        """Read what has been added, and count what ought to be there by now."""
        for text in self._added():
            self._take(json.loads(text))
        owed = missed = 0
        for name, beat in self._beats.items():
            seen = self._seen[name]
            owed += _due(beat, now) - len(seen)
            while self._whole[name] in seen:
                self._holes.pop((name, self._whole[name]), None)
                self._whole[name] += 1
            for number in range(self._whole[name], self._last[name]):
                if number not in seen:
                    since = self._holes.setdefault((name, number), now)
                    missed += now - since > self._patience
        self.counts.owed, self.counts.missed = owed - missed, missed
        return self.counts

    def left(self, marks: dict[str, int], unfinished: set[tuple[str, int]]) -> list[str]:
        """Return the occurrences up to each schedule's mark that have left no trace.

        ``unfinished`` are those whose runs are in the ledger, and had nobody to run them.
        """
        return [
            f"{name}, due {(beat.first + number * beat.period) / SECOND:.3f} s after 1970, has left no trace"
            for name, beat in self._beats.items()
            for number in range(_due(beat, marks[name]))
            if number not in self._seen[name] and (name, beat.first + number * beat.period) not in unfinished
        ]

    def _added(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode().splitlines()

    def _take(self, line: dict[str, Any]) -> None:
        beat = self._beats[line["schedule"]]
        number, rest = divmod(line["occurrence"] - beat.first, beat.period)
        attempt = (line["attempt"], line["token"])
        if rest or number < 0:
            self._doubled(f"{line['run']} is none of its schedule's occurrences")
            return
        run, attempts = self._seen[beat.name].setdefault(number, (line["run"], set()))
        if not attempts:
            self._first(beat, number, line["at"] - line["occurrence"])
        elif run != line["run"] or attempt in attempts:
            self._doubled(f"{line['run']} began twice under one attempt, or beside {run}")
        else:
            self.counts.again += 1
        attempts.add(attempt)

    def _first(self, beat: Beat, number: int, late: int) -> None:
        self.counts.fired += 1
        self.counts.late += late > LATE
        self.counts.worst = max(self.counts.worst, late)
        self._last[beat.name] = max(self._last[beat.name], number + 1)

    def _doubled(self, why: str) -> None:
        self.counts.doubled += 1
        self.counts.problems.append(why)


def _due(beat: Beat, now: int) -> int:
    """Return how many occurrences there are up to an instant."""
    return max(0, (now - beat.first) // beat.period + 1)
