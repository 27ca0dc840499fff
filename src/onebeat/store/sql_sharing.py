"""Transactions shared with others: lent to a body that ends its run in it, or joined where somebody has one.

docs/design/009-one-transaction.md
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from onebeat.core.errors import InvalidInput, OnebeatError, Refused, StoreError, StoreUnavailable
from onebeat.core.messages import Advanced, Answer, Finish
from onebeat.core.ports import Store
from onebeat.store.dialects.joined import Joined
from onebeat.store.dialects.protocol import ORDER, AddMissing, BatchDelete, Joint, Session
from onebeat.store.run_rows import EVENT_COLUMNS
from onebeat.store.sql_put import SqlPut
from onebeat.store.sql_runs import EVENTS_ADDED

LEDGER = "SELECT value FROM onebeat_meta WHERE name = 'ledger'"
LEDGER_NAMED = AddMissing("INSERT INTO onebeat_meta (name, value) VALUES ('ledger', ?)", "name")
HELD_EVENTS = f"SELECT id, {EVENT_COLUMNS} FROM onebeat_held_events ORDER BY id LIMIT 1000"
HELD_EVENTS_GONE = BatchDelete("onebeat_held_events", "id")

BODY = "onebeat"
"""The savepoint between which and its release the body has the transaction."""


class SqlSharing(SqlPut):
    """What ``ports.Sharing`` asks for beside the verbs."""

    _id: int | None = None

    @property
    def alone(self) -> bool:
        return self._dialect.alone

    @contextmanager
    def lend(self) -> "Iterator[SqlLoan]":
        with self._dialect.lend() as joint:
            joint.run(f"SAVEPOINT {BODY}")
            loan = SqlLoan(joint, type(self)(Joined(self._dialect, joint)))
            try:
                yield loan
            finally:
                if not loan.committed:
                    with suppress(OnebeatError):
                        joint.run("ROLLBACK")
        if loan.committed:
            self._dialect.changed()

    def join(self, connection: object) -> Store:
        from onebeat.store.sql_joined import JoinedStore  # noqa: PLC0415 - which is made of this

        joined = Joined(self._dialect, self._dialect.join(connection))
        if not self.alone and self._own_id() != joined.read(_ledger_id):
            raise InvalidInput(
                f"this connection leads to another database than the ledger {joined.facts()['place']}, and "
                "one transaction cannot hold both; connect to that one, or do without using()"
            )
        return JoinedStore(joined, self)

    def committed(self) -> None:
        self._dialect.changed()

    def _own_id(self) -> int:
        """Return the number that tells this ledger from any other; give it one if it has none."""
        if self._id is None:
            self._id = self._named()
        return self._id

    def _named(self) -> int:
        known = self._dialect.read(_ledger_id)
        if known is None:
            wanted = uuid4().int >> 66
            self._dialect.write(lambda session: session.run(LEDGER_NAMED, (wanted,)))
            known = self._dialect.read(_ledger_id)
        assert known is not None
        return known

    def _move_held(self, session: Session) -> None:
        """Give the events of others' transactions, which are committed by now, their place among all."""
        if session.rows(HELD_EVENTS):
            session.gate(ORDER)
            held = session.rows(HELD_EVENTS)
            session.batch(EVENTS_ADDED, [row[1:] for row in held])
            session.batch(HELD_EVENTS_GONE, [row[:1] for row in held])


def _ledger_id(session: Session) -> int | None:
    row = session.row(LEDGER) if session.has_table("onebeat_meta") else None
    return None if row is None else int(row[0])


class SqlLoan:
    """A Loan."""

    def __init__(self, joint: Joint, joined: SqlPut) -> None:
        self.connection: Any = joint.connection
        self.committed = False
        self._joint = joint
        self._joined = joined

    def finish(self, finish: Finish) -> Advanced:
        try:
            self._joint.run(f"RELEASE SAVEPOINT {BODY}")
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise Refused(
                f"{finish.run_id}: its body has not left the transaction as it was lent ({error}): it "
                "committed, rolled back, ran a statement that commits by itself, or went on after an error; "
                "what it committed stands, the rest was rolled back. Leave commit and rollback to the ledger"
            ) from error
        (answer,) = self._joined.advance([finish])
        if answer.answer is not Answer.ACCEPTED or answer.cancel_requested:
            return replace(answer, answer=Answer.REFUSED)
        self._joint.run("COMMIT")
        self.committed = True
        return answer
