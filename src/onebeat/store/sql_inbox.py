"""The inbox in the SQL store: entries that others append, and the answers to them.

An entry is answered in the very transaction in which what it asks for is done (see ``_put``), or by
``answer`` where nothing is: refused, or as it was wished already. Either way the row is held first, and
answered once.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from onebeat.core.messages import Edit, Entry, EntryAnswer, Request
from onebeat.core.model import micros
from onebeat.core.ports import ENTRY_CHARS_MAX
from onebeat.store.dialects.protocol import Cell, Row, Session
from onebeat.store.rows import instant_of, micros_or_none
from onebeat.store.sql_purge import SqlPurge

WORD_CHARS_MAX, WORDS_CHARS_MAX = 200, 2000
"""How much is read of a word, such as a name, and of what people say, such as a reason."""

ANSWER_COLUMNS = ("answer", "why", "version", "cut_at", "run_id", "answered_at")
ENTRY_COLUMNS = (
    f'substr(i."key", 1, {WORD_CHARS_MAX})',
    f"substr(i.kind, 1, {WORD_CHARS_MAX})",
    f"substr(i.name, 1, {WORD_CHARS_MAX})",
    f"substr(i.document, 1, {ENTRY_CHARS_MAX + 1})",
    f"substr(i.actor, 1, {WORD_CHARS_MAX})",
    f"substr(i.reason, 1, {WORDS_CHARS_MAX})",
)
_FIRST = ", ".join(["f.id", *(f"f.{name}" for name in ANSWER_COLUMNS)])
_OWN = ", ".join(["i.id", *(f"i.{name}" for name in ANSWER_COLUMNS)])
_WORDS = ", ".join(ENTRY_COLUMNS)
# What bytes that are no text stand in, where a database takes them.
_BYTES = ", ".join(f"hex({column})" for column in ENTRY_COLUMNS)
_FIRST_OF_KEY = """onebeat_inbox AS i LEFT JOIN onebeat_inbox AS f ON f.id = (SELECT min(n.id)
    FROM onebeat_inbox AS n WHERE n."key" = i."key" AND n.id <> i.id AND n.answer IS NOT NULL)"""
WAITING = "WHERE i.answer IS NULL ORDER BY i.id LIMIT ?"
ANSWERED = "WHERE i.answered_at IS NOT NULL ORDER BY i.answered_at DESC, i.id DESC LIMIT ?"
ENTRIES_WAITING = f"SELECT {_OWN}, {_FIRST}, {_WORDS} FROM {_FIRST_OF_KEY} {WAITING}"
ENTRIES_ANSWERED = f"SELECT {_OWN}, {_FIRST}, {_WORDS} FROM {_FIRST_OF_KEY} {ANSWERED}"
ENTRY_IDS = "SELECT i.id FROM onebeat_inbox AS i {}"
ENTRY_WORDS = f"SELECT {_OWN}, {_FIRST}, {{}} FROM {_FIRST_OF_KEY} WHERE i.id = ?"
ENTRIES_LOCKED = "SELECT id FROM onebeat_inbox WHERE id IN {keys} ORDER BY id"
ENTRY_WAITS = "SELECT 1 FROM onebeat_inbox WHERE id = ? AND answer IS NULL"
ENTRY_ANSWERED = """UPDATE onebeat_inbox SET answer = ?, why = ?, version = ?, cut_at = ?, run_id = ?,
    answered_at = ? WHERE id = ? AND answer IS NULL"""


class SqlInbox(SqlPurge):
    """The verbs of the inbox."""

    def entries(self, limit: int, *, waiting: bool) -> list[Entry]:
        whole, which = (ENTRIES_WAITING, WAITING) if waiting else (ENTRIES_ANSWERED, ANSWERED)

        def work(session: Session) -> list[Entry]:
            try:
                return [_entry_of(row) for row in session.rows(whole, (limit,))]
            except UnicodeDecodeError:  # one of them holds bytes that are no text: find it, and read round it
                return [
                    _read_alone(session, row[0]) for row in session.rows(ENTRY_IDS.format(which), (limit,))
                ]

        return self._read(work)

    def answer(self, answers: Sequence[EntryAnswer]) -> list[bool]:
        if not answers:
            return []

        def work(session: Session) -> list[bool]:
            self._lock_entries(session, (each.entry_id for each in answers))
            now = session.now()
            return [self._answer(session, each, now) for each in answers]

        return self._dialect.write(work)

    def _lock_entries(self, session: Session, entry_ids: Iterable[str]) -> None:
        keys = sorted({number for entry_id in entry_ids if (number := _number(entry_id)) is not None})
        if keys:
            session.lock(ENTRIES_LOCKED, keys)

    def _waits(self, session: Session, wish: Edit | Request) -> bool:
        """Return whether the entry that asks for it, if there is one, has no answer yet."""
        return not wish.entry_id or session.row(ENTRY_WAITS, (_number(wish.entry_id),)) is not None

    def _accept(
        self,
        session: Session,
        wish: Edit | Request,
        now: datetime,
        *,
        version: int | None = None,
        cut_at: datetime | None = None,
        run_id: str | None = None,
    ) -> None:
        """Answer the entry that asks for it, if there is one, in the transaction that does it."""
        if wish.entry_id:
            answer = EntryAnswer(
                entry_id=wish.entry_id, accepted=True, version=version, cut_at=cut_at, run_id=run_id
            )
            self._answer(session, answer, now)

    def _answer(self, session: Session, answer: EntryAnswer, now: datetime) -> bool:
        number = _number(answer.entry_id)
        if session.row(ENTRY_WAITS, (number,)) is None:
            return False
        cells: tuple[Cell, ...] = (
            "accepted" if answer.accepted else "refused",
            answer.why,
            answer.version,
            micros_or_none(answer.cut_at),
            answer.run_id,
            micros(now),
            number,
        )
        session.run(ENTRY_ANSWERED, cells)
        return True


def _number(entry_id: str) -> int | None:
    return int(entry_id) if entry_id.isdecimal() and len(entry_id) < 19 else None


def _read_alone(session: Session, number: int) -> Entry:
    try:
        return _entry_of(session.rows(ENTRY_WORDS.format(_WORDS), (number,))[0])
    except UnicodeDecodeError:
        row = session.rows(ENTRY_WORDS.format(_BYTES), (number,))[0]
        own = 2 * (1 + len(ANSWER_COLUMNS))
        words = (bytes.fromhex(cell or "").decode(errors="replace") for cell in row[own:])
        return _entry_of((*row[:own], *words))


def _entry_of(row: Row) -> Entry:
    width = 1 + len(ANSWER_COLUMNS)
    key, kind, name, document, actor, reason = (cell or "" for cell in row[2 * width :])
    return Entry(
        id=str(row[0]),
        key=key,
        kind=kind,
        name=name,
        document=document,
        actor=actor,
        reason=reason,
        answer=_answer_of(row[:width]),
        first=_answer_of(row[width : 2 * width]),
    )


def _answer_of(row: Row) -> EntryAnswer | None:
    number, answer, why, version, cut_at, run_id, answered_at = row
    if answer is None:
        return None
    return EntryAnswer(
        entry_id=str(number),
        accepted=answer == "accepted",
        why=why or "",
        version=version,
        cut_at=None if cut_at is None else instant_of(cut_at),
        run_id=run_id,
        answered_at=None if answered_at is None else instant_of(answered_at),
    )
