"""The inbox on Redis: entries of a stream that others append to, and the answers to them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from onebeat.core.messages import Entry, EntryAnswer, Purged
from onebeat.core.ports import ANSWERS_KEPT, ENTRY_CHARS_MAX
from onebeat.store.redis.cells import (
    Flat,
    flat_of,
    hash_of,
    instant_or_none,
    number_of,
    text_of,
    text_or_none,
)
from onebeat.store.redis.purge import AT_ONCE, RedisPurge
from onebeat.store.redis.server import script

PAGE = 20
"""How many entries that wait one script reads: each may carry a document of some hundred kilobytes."""


class RedisInbox(RedisPurge):
    """The verbs of the inbox."""

    def _inbox(self, wish: str, *args: Any, writes: bool = False) -> Any:
        return self._server.run(script("entries", "inbox"), [wish, *args], self._now(), writes=writes)

    def entries(self, limit: int, *, waiting: bool) -> list[Entry]:
        if limit <= 0:
            return []
        # More bytes than characters are asked for: what is cut is longer than may be, however it is counted.
        cut = [min(limit, PAGE), 4 * ENTRY_CHARS_MAX] if waiting else [limit]
        return [_entry(*each) for each in self._inbox("waiting" if waiting else "answered", *cut)]

    def answer(self, answers: Sequence[EntryAnswer]) -> list[bool]:
        told: list[bool] = []
        for begin in range(0, len(answers), AT_ONCE):
            part = [[each.entry_id, answer_cells(each)] for each in answers[begin : begin + AT_ONCE]]
            told += [done == 1 for done in self._inbox("answer", part, writes=True)]
        return told

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        if from_id == 0 and limit > 0:
            self._inbox("forget", text_of(now - ANSWERS_KEPT), min(limit, AT_ONCE), writes=True)
        return super().purge(now, limit, from_id)


def answer_cells(answer: EntryAnswer) -> Flat:
    """Return an answer as ``answer`` in entries.lua takes it."""
    return flat_of(
        answer="accepted" if answer.accepted else "refused",
        why=answer.why or None,
        version=answer.version,
        cut_at=text_or_none(answer.cut_at),
        run_id=answer.run_id,
    )


def _entry(entry_id: str, words: Flat, first: Flat) -> Entry:
    said = hash_of(words)
    return Entry(
        id=entry_id,
        key=said.get("key", ""),
        kind=said.get("kind", ""),
        name=said.get("name", ""),
        document=said.get("document", ""),
        actor=said.get("actor", ""),
        reason=said.get("reason", ""),
        answer=_answer(entry_id, said),
        first=_answer("", hash_of(first)),
    )


def _answer(entry_id: str, said: dict[str, str]) -> EntryAnswer | None:
    if "answer" not in said:
        return None
    return EntryAnswer(
        entry_id=said.get("entry_id", entry_id),
        accepted=said["answer"] == "accepted",
        why=said.get("why", ""),
        version=number_of(said.get("version")),
        cut_at=instant_or_none(said.get("cut_at")),
        run_id=said.get("run_id"),
        answered_at=instant_or_none(said.get("answered_at")),
    )
