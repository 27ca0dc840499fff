"""The audit is right about a right ledger, and each way of damaging one is noticed.

The ledger here is a list of tiles that decide.py and edits.py made, so that a change of the rule shows; each
damage is done to that list by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from onebeat.core.audit import PATIENCE, Audited, Evidence, audit, lateness
from onebeat.core.decide import settle
from onebeat.core.edits import Author, create, delete, edit, owing_of, pause, quarantine, resume, skip_next
from onebeat.core.messages import Change, Edit, Summary, Tile
from onebeat.core.model import (
    Definition,
    Load,
    Policy,
    Run,
    RunState,
    Schedule,
    Settlement,
    Target,
    TriggerSpec,
)
from onebeat.core.triggers import cron, interval

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
LONG_AGO = NOON - timedelta(days=1)


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


class Life:
    """One schedule's life as a ledger would keep it, from noon on."""

    def __init__(self, trigger: TriggerSpec | None = None, **policy: Any) -> None:
        self.trail: list[Change] = []
        self.tiles: list[Tile] = []
        self.now = NOON
        self.held = False
        spec = interval(minutes=1, anchor=NOON) if trigger is None else trigger
        target = Target(kind="python", address="shop:close")
        definition = Definition(trigger=spec, target=target, policy=Policy(**{"overlap": "allow"} | policy))
        self.row = self._keep(create("a", definition, self.author()))

    def author(self) -> Author:
        return Author(edit_id="e", cut_at=self.now, actor="ada", held=self.held)

    def act(self, change: Callable[..., Edit], minutes: float, *more: Any) -> None:
        """Change the schedule at so many minutes after noon."""
        self.now = at(minutes)
        self._keep(change(self.row, Load(), *more, self.author()))

    def _keep(self, made: Edit) -> Schedule:
        before = self.row.settled_until if self.trail else made.boundary_at
        for tile in made.settlements:
            self._tile(tile)
        mark = made.settlements[-1].mark_after if made.settlements else before
        if mark < made.boundary_at:
            self.tiles.append(
                Tile(
                    mark_before=mark,
                    mark_after=made.boundary_at,
                    count=0,
                    reason=made.action,
                    created_at=self.now,
                )
            )
        self.row = replace(made.after, id=1)
        self.trail.append(
            Change(
                edit_id="e",
                schedule_id=1,
                schedule="a",
                incarnation=self.row.incarnation,
                version=self.row.version,
                number=self.row.number,
                action=made.action,
                actor=made.actor,
                reason="",
                cut_at=made.cut_at,
                boundary_at=made.boundary_at,
                committed_at=self.now,
                settled_until=self.row.settled_until,
                definition=self.row.definition,
                paused=self.row.paused is not None,
                deleted=self.row.deleted,
                tz_version="",
            )
        )
        return self.row

    def settle(self, minutes: float) -> None:
        """Have a dispatcher settle what is owed at so many minutes after noon."""
        self.now = at(minutes)
        decision = settle(owing_of(self.row, Load()), self.now)
        for tile in decision.settlements:
            self._tile(tile)
        skips = self.row.skips if decision.skips is None else decision.skips
        self.row = replace(
            self.row,
            version=self.row.version + 1,
            settled_until=decision.settled_until,
            next_at=decision.next_at,
            skips=skips,
        )

    def _tile(self, tile: Settlement) -> None:
        run = tile.run
        self.tiles.append(
            Tile(
                mark_before=tile.mark_before,
                mark_after=tile.mark_after,
                count=tile.count,
                run_id=tile.into if run is None else run.id,
                fired=run is not None,
                reason="" if tile.reason is None else tile.reason.value,
                occurrence_at=None if run is None else run.occurrence_at,
                due_at=None if run is None else run.due_at,
                created_at=self.now,
            )
        )

    def audit(self, since: datetime = LONG_AGO, until: datetime | None = None, **more: Any) -> Audited:
        """Audit it, over what touches the window."""
        end = self.now if until is None else until
        tiles = [tile for tile in self.tiles if tile.mark_after > since and tile.mark_before < end]
        evidence = Evidence(
            **{
                "schedule": self.row,
                "trail": self.trail,
                "tiles": tiles,
                "provable_from": self.trail[0].boundary_at,
                "mark": self.row.settled_until,
            }
            | more
        )
        return audit(evidence, since, end, self.now)[0]


def lived(minutes: int = 10) -> Life:
    """Return a life in which every minute was settled in time."""
    life = Life()
    for minute in range(1, minutes + 1):
        life.settle(minute + 0.01)
    return life


def found(report: Audited) -> list[tuple[str, int]]:
    return [(finding.kind, finding.count) for finding in report.findings]


# --- right ledgers --------------------------------------------------------------------------------------


def test_a_right_ledger_is_proven_by_its_rows() -> None:
    report = lived(10).audit()

    assert report.right
    assert (report.proof, report.expected, report.fired, report.gaps, report.extras) == ("rows", 10, 10, 0, 0)


@pytest.mark.parametrize("catch_up", ["all", "latest", "earliest", "skip"])
def test_folds_and_skips_are_counted_and_right(catch_up: str) -> None:
    life = Life(catch_up=catch_up, grace=timedelta(minutes=30))
    life.settle(1)
    life.settle(60)

    report = life.audit()

    assert report.right
    assert report.expected == 60
    assert report.fired + report.folded + sum(report.skipped.values()) == 60


def test_a_whole_life_of_changes_is_right() -> None:
    life = Life()
    life.settle(2)
    life.act(pause, 5.5)
    life.act(resume, 9.5)
    life.act(skip_next, 10.2)
    life.settle(12)
    five = replace(life.row.definition, trigger=cron("*/5 * * * *", zone="UTC"))
    life.act(edit, 13.7, five)
    life.settle(30)
    life.act(delete, 31)

    report = life.audit()

    assert report.right, report.findings
    assert report.skipped == {"paused": 4, "skip_next": 1}
    assert report.expected == 13 + 4  # each minute until 13, then 15, 20, 25, 30


@pytest.mark.parametrize(("before", "after"), [(0, 90), (90, 0), (30, 90), (90, 30)])
def test_edits_of_the_spread_are_right(before: int, after: int) -> None:
    life = Life(catch_up="all", spread=timedelta(minutes=before))
    life.settle(200)
    moved = replace(
        life.row.definition, policy=replace(life.row.definition.policy, spread=timedelta(minutes=after))
    )
    life.act(edit, 200.5, moved)
    life.settle(400)

    report = life.audit(until=at(250))

    assert report.right, report.findings


def test_a_name_used_again_is_one_story() -> None:
    life = lived(5)
    life.act(delete, 5.5)
    life.now = at(8)
    life._keep(create("a", life.row.definition, life.author(), tombstone=life.row))
    life.settle(10)

    report = life.audit()

    assert report.right, report.findings
    assert report.expected == 5 + 2


def test_a_quarantined_stretch_is_owed_and_then_settled() -> None:
    life = lived(5)
    life.act(quarantine, 6.5)
    life.now = at(60)
    assert life.audit(excuse="it is quarantined").right
    assert life.audit(excuse="it is quarantined").owed == 55

    life.act(edit, 60, replace(life.row.definition, title="mended"))
    life.settle(61)

    assert life.audit().right, life.audit().findings


def test_what_was_owed_at_an_edit_under_a_hold_belongs_to_the_definition_that_settled_it() -> None:
    life = lived(5)
    life.held = True
    five = replace(life.row.definition, trigger=cron("*/5 * * * *", zone="UTC"))
    life.act(edit, 12.5, five)
    assert life.audit(excuse="all firing is held").owed == 1  # 12:10
    life.act(edit, 13.5, replace(five, trigger=interval(minutes=2, anchor=NOON)))
    assert life.audit(excuse="all firing is held").right
    life.held = False
    life.settle(20)

    report = life.audit()

    assert report.right, report.findings
    assert report.expected == 5 + 6  # each minute until 5; from 10 on 10, 12, 14, 16, 18, 20


@pytest.mark.parametrize("change", [pause, delete])
def test_what_is_owed_under_a_hold_and_will_never_fire_is_skipped(change: Callable[..., Edit]) -> None:
    life = lived(5)
    life.held = True
    life.act(change, 9.5)
    life.held = False
    life.act(resume if change is pause else delete, 12.5)

    report = life.audit()

    assert report.right, report.findings
    assert report.skipped == ({"paused": 7} if change is pause else {"deleted": 4})


def test_a_window_within_a_fold_is_judged_by_the_whole_tile() -> None:
    life = Life()
    life.settle(60)

    report = life.audit(since=at(20), until=at(30))

    assert report.right, report.findings


# --- damage ---------------------------------------------------------------------------------------------


def test_a_run_that_vanished_is_a_gap() -> None:
    life = lived()
    del life.tiles[4]

    assert found(life.audit()) == [("gap", 1)]


def test_the_last_run_that_vanished_is_a_gap() -> None:
    life = lived()
    del life.tiles[-1]

    assert found(life.audit()) == [("gap", 1)]


def test_a_vanished_fold_is_a_gap_of_all_that_it_stood_for() -> None:
    life = Life()
    life.settle(1)
    life.settle(60)
    life.settle(61)
    assert life.tiles[1].count == 59
    del life.tiles[1]

    assert found(life.audit()) == [("gap", 59)]


def test_a_run_that_is_there_twice_is_an_extra() -> None:
    life = lived()
    life.tiles.insert(5, replace(life.tiles[4], run_id="a@forged"))

    report = life.audit()

    assert found(report) == [("extra", 1)]
    assert "settled before" in report.findings[0].what


def test_a_run_for_no_occurrence_is_an_extra() -> None:
    life = lived()
    life.tiles[4] = replace(life.tiles[4], occurrence_at=at(4) + 30 * SECOND)

    assert found(life.audit()) == [("extra", 1)]


def test_a_run_without_a_tile_that_nobody_asked_for_is_an_extra() -> None:
    life = lived(3)
    forged = Run(
        id="a@forged",
        schedule_id=1,
        schedule="a",
        number=1,
        queue="default",
        target="python:x",
        state=RunState.READY,
        occurrence_at=at(1),
        due_at=at(1),
        ready_at=at(1),
        created_at=at(1),
    )

    assert found(life.audit(loose=[forged])) == [("extra", 1)]


def test_a_tile_that_counts_too_few_is_a_gap_and_too_many_an_extra() -> None:
    life = Life()
    life.settle(10)
    whole = life.tiles[0]

    life.tiles[0] = replace(whole, count=whole.count - 3)
    assert found(life.audit()) == [("gap", 3)]
    life.tiles[0] = replace(whole, count=whole.count + 2)
    assert found(life.audit()) == [("extra", 2)]


def test_a_mark_that_jumped_without_a_settlement_is_a_gap() -> None:
    # "The clock advanced before the hand-over, and the error was swallowed."
    life = lived(5)
    life.row = replace(life.row, settled_until=at(8))
    life.now = at(8.5)

    assert found(life.audit()) == [("gap", 3)]


def test_a_mark_that_went_back_and_settled_again_is_an_extra() -> None:
    life = lived(5)
    life.row = replace(life.row, settled_until=at(3))
    life.settle(6)

    report = life.audit()

    assert report.extras == 2


def test_a_mark_behind_the_last_settlement_is_found_before_anything_is_settled_twice() -> None:
    life = lived()

    report = life.audit(mark=at(7))

    assert found(report) == [("set_back", 3)]
    assert not report.right
    assert report.findings[0].what == (
        "its row says settled until 2026-11-21T12:07:00Z, behind its last settlement at "
        "2026-11-21T12:10:00Z: 3 occurrences would be settled twice"
    )


def test_a_mark_is_held_against_the_trail_and_the_summaries_too() -> None:
    life = Life()
    life.act(pause, 5.5)

    assert found(life.audit(mark=at(5), tiles=[], provable_from=life.row.settled_until)) == [("set_back", 1)]


def test_a_mark_beyond_what_was_read_is_right() -> None:
    # A dispatcher may settle between the reading of the tiles and of the mark.
    assert lived().audit(mark=at(11)).right


def test_a_stretch_that_no_tile_covers_is_a_gap_even_with_nothing_due_in_it() -> None:
    life = Life(cron("0 * * * *", zone="UTC"))
    life.settle(60)
    life.act(pause, 70)
    life.act(resume, 80)
    life.act(pause, 90)
    assert life.audit().right
    life.tiles = [tile for tile in life.tiles if tile.mark_after != at(80)]

    assert [kind for kind, _ in found(life.audit())] == ["gap"]


def test_a_fire_before_its_instant_is_early() -> None:
    life = lived()
    tile = life.tiles[3]
    life.tiles[3] = replace(tile, created_at=tile.mark_after - timedelta(milliseconds=1))

    report = life.audit()

    assert (report.early, report.right) == (1, False)


def test_an_edit_that_settled_nothing_before_it_leaves_a_gap() -> None:
    # The old definition owed minutes 6 to 9; an edit that forgets them is what loses occurrences.
    life = lived(5)
    life.act(edit, 9.5, replace(life.row.definition, trigger=cron("0 * * * *", zone="UTC")))
    life.tiles = [tile for tile in life.tiles if tile.mark_after <= at(5)]
    life.tiles.append(
        Tile(mark_before=at(5), mark_after=at(9.5), count=0, reason="schedule.edited", created_at=at(9.5))
    )

    assert found(life.audit()) == [("gap", 4)]


def test_findings_are_counted_beyond_what_is_listed() -> None:
    life = Life(catch_up="all", catch_up_max=500)
    life.settle(400)
    life.tiles = life.tiles[::2]

    report = life.audit()

    assert report.gaps == 200
    assert len(report.findings) == 100


# --- what is owed ---------------------------------------------------------------------------------------


def test_what_is_owed_is_a_gap_only_while_a_dispatcher_lives_and_nothing_explains_it() -> None:
    life = lived(5)
    life.now = at(10.5)

    assert (life.audit().owed, life.audit().gaps) == (5, 0)
    assert life.audit(served_since=at(0)).gaps == 4  # those due for longer than the patience
    assert life.audit(served_since=at(0), excuse="it is paused").gaps == 0
    assert life.audit(served_since=at(10)).gaps == 0  # it came a moment ago, and needs one


def test_patience_is_a_minute() -> None:
    life = lived(5)
    life.now = at(6) + PATIENCE
    assert life.audit(served_since=at(0)).gaps == 0

    life.now += SECOND
    assert life.audit(served_since=at(0)).gaps == 1


def test_a_spread_schedule_owes_nothing_before_its_offset() -> None:
    life = Life(cron("0 13 * * *", zone="UTC"), spread=timedelta(days=1))
    assert life.row.next_at is not None
    life.now = life.row.next_at - SECOND
    assert life.audit(until=life.now).owed == 0

    life.now += 2 * SECOND
    assert life.audit(until=life.now).owed >= 1


# --- what was purged ------------------------------------------------------------------------------------


def purged(life: Life, upto: int, **sums: int) -> dict[str, Any]:
    """Take the first tiles away as purging does, and return what it leaves of them."""
    gone, life.tiles = life.tiles[:upto], life.tiles[upto:]
    day = Summary(
        **{
            "day": "2026-11-21",
            "fired": len(gone),
            "folded": 0,
            "skipped": 0,
            "mark_before": gone[0].mark_before,
            "mark_after": gone[-1].mark_after,
        }
        | sums
    )
    return {"summaries": [day], "provable_from": gone[-1].mark_after}


def test_what_was_purged_is_proven_by_its_summary() -> None:
    life = lived()

    report = life.audit(**purged(life, 4))

    assert report.right, report.findings
    assert (report.proof, report.expected, report.fired) == ("summary", 10, 10)
    assert report.provable_from == at(4)


def test_a_run_that_purging_left_among_the_purged_is_counted_once() -> None:
    life = lived()
    unfinished = life.tiles[1]
    left = purged(life, 4, fired=3)
    life.tiles.insert(0, unfinished)

    assert life.audit(**left).right


def test_a_summary_that_counts_wrong_is_noticed() -> None:
    life = lived()

    assert found(life.audit(**purged(life, 4, fired=3))) == [("gap", 1)]
    other = lived()
    assert found(other.audit(**purged(other, 4, skipped=2))) == [("extra", 2)]


def test_without_a_summary_nothing_can_be_proven_before() -> None:
    life = lived()
    left = purged(life, 4)

    report = life.audit(provable_from=left["provable_from"])

    assert report.right
    assert report.not_before == at(4)


def test_a_window_after_what_was_purged_is_proven_by_rows() -> None:
    life = lived()

    report = life.audit(since=at(5), **purged(life, 4))

    assert (report.proof, report.not_before) == ("rows", None)


# --- other kinds, and lateness --------------------------------------------------------------------------


def test_a_kind_that_the_matcher_does_not_know_is_judged_by_its_tiles_alone() -> None:
    life = lived(5)
    strange = TriggerSpec(kind="from-the-future")
    life.trail = [
        replace(change, definition=replace(change.definition, trigger=strange)) for change in life.trail
    ]

    report = life.audit()
    assert (report.proof, report.right, report.fired) == ("tiles", True, 5)
    assert "unchecked" in report.notes[0]

    del life.tiles[2]
    assert not life.audit().right


def test_lateness_is_told_by_its_percentiles() -> None:
    told = lateness([count / 1000 for count in range(1, 101)])

    assert (told.fires, told.p50_s, told.p99_s, told.max_s) == (100, 0.05, 0.099, 0.1)
    assert lateness([]).p50_s is None
    assert lateness([3.0]).p99_s == 3.0


def test_lateness_counts_from_the_instant_at_which_it_was_due() -> None:
    report = lived(10).audit()

    assert report.lateness.fires == 10
    assert report.lateness.max_s == pytest.approx(0.6)
