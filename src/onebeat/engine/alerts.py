"""The dead man's alert: a run that is unfinished ``alert_after`` after it was due leaves an event.

The rule is pure. The scan reads unfinished runs only, a page at a time; it belongs to the dispatcher's role,
so it goes on while one node lives. An alert is said at least once: two nodes that scan in the same instant
may both say it.
"""

from datetime import datetime, timedelta
from functools import lru_cache

from onebeat.core.errors import BrokenDocument, NotFound
from onebeat.core.messages import EventQuery, RunQuery
from onebeat.core.model import UNFINISHED, Definition, Event, Policy, Run, RunState
from onebeat.core.ports import Clock, Store
from onebeat.engine.attempt import run_event
from onebeat.engine.metrics import Metrics

SCAN_EVERY = timedelta(seconds=15)
"""At most so long after its limit a run is alerted; and before it is so old nobody looks at it, so that what
fires and ends in seconds costs no scan."""
PAGE = 1000
PAGE_PAUSE = timedelta(milliseconds=250)
"""Between the pages of one scan: a backlog of a million runs must not keep a core busy with alerts."""

REMEMBERED_MAX = 10_000
KIND = "run.overdue"


def overdue(policy: Policy, run: Run, now: datetime) -> str | None:
    """Return in words why a run is overdue at ``now``, None while it is not, or was finished."""
    if policy.alert_after is None or run.state not in UNFINISHED or now <= run.due_at + policy.alert_after:
        return None
    limit = f"{policy.alert_after} after it was due"
    if run.started_at is None:
        return f"not started {limit}: it is {run.state.value}"
    if run.state is RunState.RUNNING:
        return f"not finished {limit}: attempt {run.attempt} runs on {run.holder}"
    return f"not finished {limit}: it is {run.state.value} after attempt {run.attempt}"


class Alerts:
    """Scans unfinished runs every SCAN_EVERY. ``step()`` never waits and never sleeps."""

    def __init__(self, store: Store, clock: Clock, *, holder: str, metrics: Metrics | None = None) -> None:
        self._store = store
        self._holder = holder
        self._metrics = Metrics() if metrics is None else metrics
        self._definition = lru_cache(maxsize=1024)(store.definition)
        self._said: dict[str, None] = {}
        self._before: str | None = None
        self._scan_at: datetime | None = None

    def step(self) -> datetime:
        """Look at one page of unfinished runs, if a scan is due; return when to be called again."""
        now = self._store.now()
        if self._scan_at is not None and now < self._scan_at <= now + SCAN_EVERY:
            return self._scan_at
        query = RunQuery(
            states=tuple(sorted(UNFINISHED)), until=now - SCAN_EVERY, before=self._before, limit=PAGE
        )
        runs = self._store.runs(query)
        events = [event for run in runs if (event := self._judged(run, now)) is not None]
        if events:
            self._store.record(events)
            for event in events:
                assert event.run_id is not None
                self._said[event.run_id] = None
                self._metrics.count("onebeat_alerts_total", event.schedule or "")
            while len(self._said) > REMEMBERED_MAX:
                del self._said[next(iter(self._said))]
        if len(runs) == PAGE:
            self._before = runs[-1].id
            return now + PAGE_PAUSE
        self._before = None
        self._scan_at = now + SCAN_EVERY
        return self._scan_at

    def _judged(self, run: Run, now: datetime) -> Event | None:
        if run.id in self._said:
            return None
        try:
            definition: Definition = self._definition(run.schedule_id, run.number)
        except (BrokenDocument, NotFound):
            self._said[run.id] = None  # the dispatcher says it; here it must not stop the scan
            return None
        why = overdue(definition.policy, run, now)
        if why is None:
            return None
        if self._store.events(EventQuery(run_id=run.id, kinds=(KIND,), limit=1)):
            self._said[run.id] = None  # another node was first
            return None
        return run_event(KIND, run, at=now, actor=self._holder, reason=why, data={"state": run.state.value})
