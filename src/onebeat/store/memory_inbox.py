"""The inbox of the reference store. ``append`` is what a program outside does to the others."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from onebeat.core.messages import Edit, Entry, EntryAnswer, Purged, Request
from onebeat.core.ports import ANSWERS_KEPT, ENTRY_CHARS_MAX
from onebeat.store.memory_purge import MemoryPurge


class MemoryInbox(MemoryPurge):
    """The verbs of the inbox on the tables."""

    _last_entry = 0

    def append(self, entry: Entry) -> str:
        """Add an entry; return the id that it was given."""
        with self._lock:
            self._last_entry += 1
            identity = str(self._last_entry)
            document = entry.document[: ENTRY_CHARS_MAX + 1]
            self._entries[identity] = replace(entry, id=identity, document=document)
            self._notify()
            return identity

    def _notify(self) -> None:
        """Tell those who wait."""
        raise NotImplementedError

    def entries(self, limit: int, *, waiting: bool) -> list[Entry]:
        with self._lock:
            if waiting:
                found = (entry for entry in self._entries.values() if entry.answer is None)
                return [replace(each, first=self._first(each)) for each in islice(found, limit)]
            answered = [
                (entry.answer.answered_at, int(entry.id), entry)
                for entry in self._entries.values()
                if entry.answer is not None and entry.answer.answered_at is not None
            ]
            newest = sorted(answered, key=lambda each: each[:2], reverse=True)
            return [replace(each, first=self._first(each)) for _, _, each in newest[:limit]]

    def _first(self, entry: Entry) -> EntryAnswer | None:
        """Return the answer to the first entry of the same key that has one."""
        same = (
            other.answer
            for other in self._entries.values()
            if entry.key and other.key == entry.key and other.id != entry.id and other.answer is not None
        )
        return next(same, None)

    def answer(self, answers: Sequence[EntryAnswer]) -> list[bool]:
        with self._lock:
            now = self._clock.now()
            return [self._answer(each, now) for each in answers]

    def _answer(self, answer: EntryAnswer, now: datetime) -> bool:
        entry = self._entries.get(answer.entry_id)
        if entry is None or entry.answer is not None:
            return False
        self._entries[entry.id] = replace(entry, answer=replace(answer, answered_at=now))
        return True

    def _asks(self, wish: Edit | Request) -> bool:
        """Return whether the entry that asks for it, if there is one, has no answer yet."""
        entry = self._entries.get(wish.entry_id)
        return not wish.entry_id or (entry is not None and entry.answer is None)

    def _accept(
        self,
        wish: Edit | Request,
        now: datetime,
        *,
        version: int | None = None,
        cut_at: datetime | None = None,
        run_id: str | None = None,
    ) -> None:
        """Answer the entry that asks for it, if there is one."""
        accepted = EntryAnswer(
            entry_id=wish.entry_id, accepted=True, version=version, cut_at=cut_at, run_id=run_id
        )
        self._answer(accepted, now)

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        with self._lock:
            if from_id == 0:
                old = sorted(
                    (entry.answer.answered_at, entry.id)
                    for entry in self._entries.values()
                    if entry.answer is not None
                    and entry.answer.answered_at is not None
                    and entry.answer.answered_at < now - ANSWERS_KEPT
                )
                for _, identity in old[:limit]:
                    del self._entries[identity]
            return super().purge(now, limit, from_id)
