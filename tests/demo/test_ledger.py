"""The demo reads the ledger's tables as they are, and sees when somebody was at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import pytest
from tests.demo.virtual import START, World, effect, nothing, world

from onebeat import interval
from onebeat.core.messages import ScheduleQuery
from onebeat.demo import sabotage
from onebeat.demo.expect import SECOND, Every, instant, micros
from onebeat.demo.ledger import Ledger
from onebeat.demo.outside import Line
from onebeat.demo.picture import Deed, Picture
from onebeat.demo.verdict import Case, Verdict, judge

EACH = {"catch_up": "all", "overlap": "allow"}
NAMES = ("tick-0", sabotage.PRUNED, sabotage.REWOUND)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[World]:
    """Three schedules of every second, served for five."""
    with world(tmp_path / "ledger.db") as opened:
        for name in NAMES:
            trigger = interval(seconds=1, anchor=START - timedelta(seconds=1, milliseconds=500))
            opened.beat.schedules.put(name, trigger, nothing, **EACH)
        opened.serve(5)
        yield opened


def picture(served: World) -> Picture:
    ledger = Ledger(served.path)
    try:
        return ledger.picture()
    finally:
        ledger.close()


def judged(served: World, lines: list[Line]) -> Verdict:
    began = micros(START)
    every = Every(SECOND, began - SECOND * 3 // 2)
    return judge(
        Case(
            picture=picture(served),
            lines=lines,
            deeds=[Deed(name, "schedule.created", began, began, every) for name in NAMES],
            policies=dict.fromkeys(NAMES, EACH),
            closed=served.now,
        )
    )


def test_plain_sql_sees_what_the_reader_answers(served: World) -> None:
    seen = picture(served)
    runs = {run.id: run for run in served.beat.runs.list(limit=1000)}
    row = served.store.schedules(ScheduleQuery(names=("tick-0",)))[0]
    tiles = served.store.tiles(row.id, START - timedelta(days=1), served.clock.now())

    assert {run.id for run in seen.runs} == set(runs)
    assert len(runs) == 15
    for run in seen.runs:
        assert (run.state, run.attempt, run.token) == (runs[run.id].state, 1, runs[run.id].token)
        assert run.due == micros(runs[run.id].due_at)
    assert [(tile.before, tile.after, tile.count) for tile in seen.tiles if tile.schedule == "tick-0"] == [
        (micros(tile.mark_before), micros(tile.mark_after), tile.count) for tile in tiles
    ]
    assert seen.marks["tick-0"] == micros(row.settled_until)
    assert {change.action for change in seen.changes} == {"schedule.created"}


def test_a_fold_and_a_pause_are_read(served: World) -> None:
    served.beat.schedules.edit("tick-0", catch_up="latest", overlap="skip")
    served.clock.advance(timedelta(seconds=3))  # nobody was there
    served.serve(1)
    served.beat.schedules.pause("tick-0")
    served.serve(2)
    served.beat.schedules.resume("tick-0")
    reasons = {tile.reason for tile in picture(served).tiles if tile.schedule == "tick-0" and tile.count}
    folds = [
        tile for tile in picture(served).tiles if tile.schedule == "tick-0" and tile.count > 1 and tile.fired
    ]

    assert reasons == {"", "paused"}
    assert [tile.count for tile in folds] == [3]


def test_a_ledger_that_is_right_is_said_to_be_right(served: World) -> None:
    verdict = judged(served, [effect(run) for run in picture(served).runs])

    assert verdict.problems == []
    assert (verdict.expected, verdict.fired, verdict.effects) == (15, 15, 15)


def test_both_judges_notice_the_sabotage(served: World) -> None:
    before = [effect(run) for run in picture(served).runs]
    sabotage.strike(served.path)
    served.serve(2)
    known = {line.run for line in before}
    rewound = [run for run in picture(served).runs if run.schedule == sabotage.REWOUND and run.id in known]
    again = [effect(run) for run in picture(served).runs if run.id not in known and "before" not in run.id]
    verdict = judged(
        served, [*before, *again, *(replace(effect(run), pid=2) for run in rewound[-sabotage.BACK :])]
    )
    audit = served.beat.audit()

    assert verdict.missed_at == {(sabotage.PRUNED, micros(START) + SECOND * 9 // 2)}
    assert verdict.doubled == sabotage.BACK
    assert not audit.right
    assert (audit.gaps, audit.extras) == (1, sabotage.BACK)


def test_watching_needs_no_file_and_no_tables(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "later.db")

    assert (ledger.schedules(), ledger.unfinished(), ledger.alive()) == (0, 0, set())
    assert not (tmp_path / "later.db").exists()

    apsw.Connection(str(tmp_path / "later.db")).execute("CREATE TABLE other (x)")
    assert ledger.schedules() == 0
    ledger.close()


def test_a_write_lock_that_somebody_holds_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE t (x)")
    ledger = Ledger(path)

    assert ledger.writable()
    other.execute("BEGIN IMMEDIATE")
    assert not ledger.writable()
    other.execute("ROLLBACK")
    assert ledger.writable()


def test_instants_of_the_tables_are_microseconds(served: World) -> None:
    (held,) = {run.due for run in picture(served).runs if run.id == "tick-0@20261121T120001.500000Z"}

    assert instant(held) == datetime.fromisoformat("2026-11-21T12:00:01.5+00:00")
