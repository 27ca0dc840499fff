"""Runs that no live node can run, in the SQL store; and which targets have ready runs, found by leaps."""

import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

from onebeat.core.messages import Stray
from onebeat.core.model import micros
from onebeat.store.dialects.protocol import Session
from onebeat.store.rows import node_of
from onebeat.store.run_rows import RUN_COLUMNS
from onebeat.store.sql_reader import NODES_ALIVE, SqlReader

PARKED_OR_READY = """SELECT
    (SELECT target_id FROM onebeat_runs WHERE state = 'parked' AND target_id > 0 LIMIT 1),
    (SELECT target_id FROM onebeat_runs WHERE state = 'ready' AND target_id > 0 LIMIT 1)"""
READY_TARGET = """SELECT target_id FROM onebeat_runs WHERE state = 'ready' AND target_id >= ?
    ORDER BY target_id LIMIT 1"""
READY_RUNS = f"SELECT {RUN_COLUMNS} FROM onebeat_runs AS r WHERE r.state = 'ready' AND r.target_id = ?"
PARKED_RUNS = f"SELECT {RUN_COLUMNS} FROM onebeat_runs AS r WHERE r.state = 'parked' AND r.target_id = ?"


class SqlStrays(SqlReader):
    """The part of the Reader that looks at who can run what."""

    def strays(self, now: datetime, limit: int) -> list[Stray]:
        if self._dialect.look(PARKED_OR_READY) == [(None, None)]:
            return []

        def work(session: Session) -> list[Stray]:
            alive = [node_of(row) for row in session.rows(NODES_ALIVE, (micros(now),))]
            known = {target for node in alive for target in node.targets}
            self._learn_targets(session)
            found = chain(self._unparked(session, known), self._homeless(session, known))
            return sorted(islice(found, limit), key=lambda stray: stray.run.id)

        return self._read(work)

    def _unparked(self, session: Session, known: set[str]) -> Iterator[Stray]:
        """Yield parked runs whose target somebody announces, found target by target."""
        for target_id in sorted(id_ for id_, (_, key, _) in list(self._targets.items()) if key in known):
            for row in session.each(PARKED_RUNS, (target_id,)):
                yield Stray(run=self._run(session, row), resolvable=True)

    def _homeless(self, session: Session, known: set[str]) -> Iterator[Stray]:
        """Yield ready runs whose target nobody announces, found target by target."""
        unknown = sorted(
            identity for identity, (_, key, _) in list(self._targets.items()) if key not in known
        )
        for target_id in ready_targets(session, unknown):
            for row in session.each(READY_RUNS, (target_id,)):
                yield Stray(run=self._run(session, row), resolvable=False)


def ready_targets(session: Session, among: Sequence[int]) -> Iterator[int]:
    """Yield those of the target ids, which ascend, that have ready runs.

    Leaps along the index of ready runs and along ``among`` in turn: the shorter of the two is what it costs.
    """
    index = 0
    while index < len(among):
        row = session.row(READY_TARGET, (among[index],))
        following = sys.maxsize if row is None else row[0]
        if following == among[index]:
            yield following
            index += 1
        else:
            index = bisect_left(among, following, index)
