"""What programs outside asked for, done: each entry of the inbox becomes an ordinary put or request.

    entries ──► act_of ──► read, decide ──► put or request, which answers its entry in the same transaction
                  │ raises      │ raises, or nothing is to be changed
                  └─────────────┴──► answer: refused and why, or accepted as it is

Whoever dies on the way leaves an entry without an answer and without effect, or both. Two dispatchers at once
are two writers: an entry is answered once, and what it asks for is done only by whoever answers it.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from onebeat.core import acts
from onebeat.core.definition import checked_sharing
from onebeat.core.edits import Author
from onebeat.core.errors import OnebeatError, SchemaMismatch, StoreError, StoreUnavailable, StoreUnsafe
from onebeat.core.inbox import Act, act_of
from onebeat.core.messages import Answer, Edit, Entry, EntryAnswer, Request, ScheduleQuery
from onebeat.core.model import Load, Schedule
from onebeat.core.ports import LEASE, Store
from onebeat.engine.current import storable
from onebeat.engine.metrics import Metrics

BATCH_MAX = 20
"""How many entries are taken at a time: while they are being done, nothing is settled."""

AT_ONCE = timedelta(0)
AGAIN = timedelta(milliseconds=100)
WHY_CHARS_MAX = 1000
KNOWN_MAX = 1000
ACTOR = "inbox"

STORES = (StoreUnavailable, StoreUnsafe, SchemaMismatch, MemoryError)
"""The store's trouble, or this node's, and not the entry's: it waits."""

_log = logging.getLogger("onebeat.engine")


class Inbox:
    """Does what the entries of the inbox ask for, in their order for each schedule."""

    def __init__(self, store: Store, *, holder: str, tz_version: str, metrics: Metrics) -> None:
        self._store = store
        self._holder = holder
        self._tz_version = tz_version
        self._metrics = metrics

    def step(self) -> timedelta:
        """Take some entries; return how long until there may be more to do."""
        entries = self._store.entries(BATCH_MAX, waiting=True)
        taken = _apart(entries)
        answers: list[EntryAnswer] = []
        acts_of: list[tuple[Entry, Act]] = []
        for entry in taken:
            if entry.first is not None:
                answers.append(replace(entry.first, entry_id=entry.id))
                continue
            try:
                acts_of.append((entry, act_of(entry)))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - a trigger is anybody's code; the neighbours go on
                answers.append(_refused(entry.id, error))
        done = self._do(acts_of, answers)
        told = self._store.answer(answers) if answers else []
        for answer, given in zip(answers, told, strict=True):
            if given:
                done += 1
                self._count(accepted=answer.accepted)
                if not answer.accepted:
                    _log.warning("%s: entry %s is refused: %s", self._holder, answer.entry_id, answer.why)
        if not entries:
            return AT_ONCE
        return AT_ONCE if done else AGAIN

    def _do(self, wishes: Sequence[tuple[Entry, Act]], answers: list[EntryAnswer]) -> int:
        """Decide and commit; add to ``answers`` what comes to nothing. Return how many were committed."""
        if not wishes:
            return 0
        cut = self._store.now()
        held = self._store.held() is not None  # after the cut: see Author
        rows = {row.name: (row, load) for row, load in self._store.owing([act.name for _, act in wishes])}
        puts: list[Edit] = []
        requests: list[Request] = []
        for entry, act in wishes:
            row, load = rows.get(act.name, (None, Load()))
            author = Author(
                edit_id=act.edit_id,
                cut_at=cut,
                actor=storable(entry.actor) or ACTOR,
                reason=storable(entry.reason),
                tz_version=self._tz_version,
                held=held,
            )
            try:
                wish = self._decided(entry, act, row, load, author)
            except STORES:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a wish makes a rule raise, it is its answer
                answers.append(_refused(entry.id, error))
                continue
            if isinstance(wish, Edit):
                puts.append(wish)
            elif isinstance(wish, Request):
                requests.append(wish)
            else:
                answers.append(wish)
        return self._put(puts, answers) + self._request(requests, answers)

    def _decided(
        self, entry: Entry, act: Act, row: Schedule | None, load: Load, author: Author
    ) -> Edit | Request | EntryAnswer:
        """Return what to commit; where nothing is to be changed, the answer that says so."""
        if act.expected_version is not None and (0 if row is None else row.version) != act.expected_version:
            raise acts.not_expected(act.name, row, act.expected_version)
        if act.decide is not None:
            edit = act.decide(row, load, author)
        elif row is None or row.deleted:
            raise self._missing(act.name, row)
        elif act.request is not None:
            run = self._store.run(act.run_id(row, entry))
            if run is not None:
                return EntryAnswer(entry_id=entry.id, accepted=True, run_id=run.id)
            return Request(
                schedule_id=row.id,
                expected_version=row.version,
                run=act.new_run(row, load, entry, author.cut_at),
                actor=author.actor,
                reason=author.reason,
                entry_id=entry.id,
            )
        else:
            assert act.decide_present is not None
            edit = act.decide_present(row, load, author)
        if edit is not None:
            self._refuse_unshared(edit, row)
            return replace(edit, entry_id=entry.id)
        assert row is not None
        return EntryAnswer(entry_id=entry.id, accepted=True, version=row.version, cut_at=row.cut_at)

    def _refuse_unshared(self, edit: Edit, row: Schedule | None) -> None:
        """Raise InvalidInput for a new transactional definition whose ledger has no transaction to lend."""
        wanted = edit.after.definition
        if wanted.policy.transactional and (row is None or row.deleted or wanted != row.definition):
            checked_sharing(wanted.policy, self._store, lease=LEASE, place=self._store.facts()["place"])

    def _missing(self, name: str, row: Schedule | None) -> OnebeatError:
        if row is not None:
            return acts.gone(name)
        known = [row.name for row in self._store.schedules(ScheduleQuery(limit=KNOWN_MAX))]
        return acts.unknown(name, self._store.facts()["place"], known)

    def _put(self, puts: list[Edit], answers: list[EntryAnswer]) -> int:
        """Put all of them; where the store refuses the batch with an error, one by one."""
        if not puts:
            return 0
        try:
            return self._counted([answer.answer for answer in self._store.put(puts)])
        except STORES:
            raise
        except Exception as error:  # noqa: BLE001 - the one that is to blame is refused with it
            if len(puts) == 1:
                answers.append(_refused(puts[0].entry_id, error))
                return 0
            return sum(self._put([edit], answers) for edit in puts)

    def _request(self, requests: list[Request], answers: list[EntryAnswer]) -> int:
        if not requests:
            return 0
        try:
            return self._counted(self._store.request(requests))
        except STORES:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_put`
            if len(requests) == 1:
                answers.append(_refused(requests[0].entry_id, error))
                return 0
            return sum(self._request([request], answers) for request in requests)

    def _counted(self, given: Sequence[Answer]) -> int:
        done = sum(answer is not Answer.STALE for answer in given)
        for _ in range(done):
            self._count(accepted=True)
        return done

    def _count(self, *, accepted: bool) -> None:
        self._metrics.count("onebeat_inbox_entries_total", "accepted" if accepted else "refused")


def _apart(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entry of each schedule and of each key: the others wait for its answer."""
    names: set[str] = set()
    keys: set[str] = set()
    taken = []
    for entry in entries:
        if entry.name not in names and (not entry.key or entry.key not in keys):
            taken.append(entry)
        names.add(entry.name)
        keys.add(entry.key)
    return taken


def _refused(entry_id: str, error: Exception) -> EntryAnswer:
    expected = isinstance(error, OnebeatError) and not isinstance(error, StoreError)
    why = str(error) if expected else f"it cannot be done: {type(error).__name__}: {error}"
    return EntryAnswer(entry_id=entry_id, accepted=False, why=storable(why)[:WHY_CHARS_MAX])
