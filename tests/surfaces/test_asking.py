"""Why, audit and doctor, each over a ledger that was lived in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.surfaces.stage import HOUR, MINUTE, at, close, fail, report

from onebeat import InvalidInput, NotFound, cron, holidays, interval, minutes, seconds, workdays
from onebeat.core.edits import quarantine
from onebeat.core.model import Event, Run
from onebeat.core.publicdays import announced_until, calendar_version
from onebeat.store.memory import MemoryStore
from onebeat.testing.conformance_stage import Book
from onebeat.testing.virtual import VirtualOnebeat


@pytest.fixture
def beat(onebeat: VirtualOnebeat) -> VirtualOnebeat:
    """An app on virtual time whose nodes run the bodies of the stage."""
    onebeat.allow(close.__module__)
    return onebeat


def memory(beat: VirtualOnebeat) -> MemoryStore:
    assert isinstance(beat.store, MemoryStore)
    return beat.store


# --- why ------------------------------------------------------------------------------------------------


def test_why_a_run_was_fired(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report, reason="wanted by sales")
    beat.run_until("2026-11-21T13:00:05")

    answer = beat.why("a", at(13))

    assert answer.fate == "fired"
    for part in (
        "was fired at 2026-11-21 13:00:00+00:00 as run a@20261121T130000Z",
        "The run is succeeded, attempt 1 on virtual-node",
        "created by test at 2026-11-21 12:00:00+00:00 (wanted by sales)",
        "Its last lines: [info] reported 2026-11-21T13:00:00+00:00",
    ):
        assert part in answer.text
    assert answer.run is not None


def test_why_a_run_failed(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", fail)
    beat.run_until("2026-11-21T13:00:05")

    assert "is failed" in beat.why("a", at(13)).text
    assert "ValueError: no such order" in beat.why("a", at(13)).text


def test_why_it_was_folded(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.at("2026-11-21T17:30:00")
    beat.run_for(seconds(5))

    answer = beat.why("a", at(15))
    assert answer.fate == "folded"
    assert "into run a@20261121T170000Z, which stands for 5 occurrences" in answer.text
    assert beat.why("a", at(17)).fate == "fired"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grace": minutes(1)}, "its grace had passed"),
        ({"catch_up": "skip", "grace": minutes(600)}, "catch_up='skip' fires the newest alone"),
    ],
)
def test_why_it_was_skipped_by_policy(beat: VirtualOnebeat, options: dict[str, Any], words: str) -> None:
    beat.schedules.put("a", "0 * * * *", report, **options)
    beat.at("2026-11-21T17:30:00")
    beat.run_for(seconds(5))

    answer = beat.why("a", at(14))
    assert answer.fate == "skipped"
    assert words in answer.text


def test_why_it_was_skipped_by_overlap(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", "shop.orders:nobody_has_it")
    beat.run_until("2026-11-21T14:00:05")

    answer = beat.why("a", at(14))
    assert answer.fate == "skipped"
    assert "overlap='skip' lets it go" in answer.text


def test_why_it_was_skipped_by_a_person(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.schedules.skip_next("a", "a holiday")
    coming = beat.why("a", at(13))
    assert (coming.fate, "a person has asked" in coming.text) == ("skip_next", True)

    beat.run_until("2026-11-21T13:00:05")
    done = beat.why("a", at(13))
    assert done.fate == "skipped"
    assert "a person had asked to skip it" in done.text
    assert "skip next by test" in done.text
    assert "(a holiday)" in done.text


def test_why_it_was_skipped_by_a_pause(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.schedules.pause("a", "the mail server moves")
    beat.run_until("2026-11-21T14:30:00")
    open_pause = beat.why("a", at(13))
    assert open_pause.fate == "paused"
    assert "(the mail server moves)" in open_pause.text

    beat.schedules.resume("a")
    assert beat.why("a", at(13)).fate == "skipped"
    assert "with 1 others" in beat.why("a", at(13)).text


def test_why_it_is_not_there(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.schedules.put("b", "0 9 * * *", report)

    assert beat.why("a", at(10)).fate == "before_creation"
    assert beat.why("a", at(15)).fate == "not_due"
    between = beat.why("b", at(12, 30))
    assert between.fate == "no_occurrence"
    assert "the nearest are 2026-11-21 09:00:00+00:00 and 2026-11-22 09:00:00+00:00" in between.text


def test_why_under_the_definition_that_was_in_force_then(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.run_until("2026-11-21T13:10:00")
    beat.schedules.edit("a", trigger="30 * * * *", reason="half past is better")
    beat.run_until("2026-11-21T14:10:00")

    assert beat.why("a", at(13)).fate == "fired"
    assert beat.why("a", at(14)).fate == "no_occurrence"
    assert beat.why("a", at(13, 30)).fate == "fired"
    assert "definition 2: edited by test" in beat.why("a", at(13, 30)).text


def test_why_it_is_owed(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report)
    beat.at("2026-11-21T13:00:05")
    assert beat.why("a", at(13)).fate == "owed"

    beat.hold("maintenance")
    assert beat.why("a", at(13)).fate == "held"

    row, load = beat.store.owing(["a"])[0]
    beat.store.put([quarantine(row, load, beat._desk.author("bad bytes"))])
    answer = beat.why("a", at(13))
    assert answer.fate == "quarantined"
    assert "bad bytes" in answer.text


def test_why_after_it_was_deleted_and_after_it_was_purged(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", report, keep_days=1, keep_runs=1)
    beat.run_until("2026-11-21T16:00:05")
    beat.schedules.delete("a", "not needed")
    gone = beat.why("a", at(18))
    assert gone.fate == "deleted"
    assert "deleted by test" in gone.text

    beat.clock.advance(timedelta(days=40))
    beat.store.purge(beat.store.now(), 1000)
    purged = beat.why("a", at(14))
    assert purged.fate == "purged"
    assert "4 fired, 0 folded, 0 skipped" in purged.text


def test_why_speaks_in_the_schedules_own_zone(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", cron("0 9 * * *", zone="Asia/Shanghai"), report)

    assert "2026-11-22 09:00:00+08:00" in beat.why("a", at(1, day=22)).text


def test_why_needs_a_schedule_and_an_instant(beat: VirtualOnebeat) -> None:
    beat.schedules.put("daily", "0 9 * * *", report)

    with pytest.raises(NotFound, match="did you mean 'daily'"):
        beat.why("dayly", at(9))
    with pytest.raises(InvalidInput, match="no zone"):
        beat.why("daily", at(9).replace(tzinfo=None))


# --- audit ----------------------------------------------------------------------------------------------


def lived(beat: VirtualOnebeat) -> VirtualOnebeat:
    beat.schedules.put("a", "*/5 * * * *", close, overlap="allow", catch_up="all")
    beat.schedules.put("b", interval(minutes=7), report, tags=["x"])
    beat.run_until("2026-11-21T13:00:02")
    beat.schedules.pause("b")
    beat.at("2026-11-21T13:30:00")
    beat.schedules.resume("b")
    beat.schedules.edit("a", trigger="*/10 * * * *")
    beat.run_until("2026-11-21T14:00:02")
    beat.schedules.delete("b")
    return beat


def test_an_audit_of_a_lived_ledger_is_right_and_adds_up(beat: VirtualOnebeat) -> None:
    report = lived(beat).audit()

    assert report.right
    assert [each.schedule for each in report.schedules] == ["a", "b"]
    assert report.expected == report.fired + report.folded + sum(report.skipped.values())
    assert report.skipped == {"paused": 4}
    assert report.lateness.fires == report.fired


def test_an_audit_is_of_names_a_tag_or_a_window(beat: VirtualOnebeat) -> None:
    lived(beat)
    done: list[int] = []

    assert [each.schedule for each in beat.audit(["b"]).schedules] == ["b"]
    assert [each.schedule for each in beat.audit(tag="x", progress=done.append).schedules] == ["b"]
    assert done == [1]
    assert beat.audit(["a"], since=at(12), until=at(12, 30)).expected == 6
    with pytest.raises(NotFound):
        beat.audit(["c"])
    with pytest.raises(InvalidInput, match="nothing to audit"):
        beat.audit(since=at(13), until=at(12))


def test_a_ledger_that_was_tampered_with_is_not_right(beat: VirtualOnebeat) -> None:
    store = memory(lived(beat))
    gone = next(run_id for run_id in store._runs if run_id.startswith("a@"))
    kept = store._runs.pop(gone)
    report = beat.audit()
    assert (report.right, report.gaps, report.extras) == (False, 1, 0)

    store._runs[gone] = kept
    store._runs["a@forged"] = replace(kept, id="a@forged", mark_before=None, mark_after=None)
    assert (beat.audit().gaps, beat.audit().extras) == (0, 1)


def test_a_mark_that_was_set_back_is_found(beat: VirtualOnebeat) -> None:
    store = memory(lived(beat))
    row = store._rows[store._ids["a"]]
    store._rows[row.id] = replace(row, settled_until=row.settled_until - HOUR)

    report = beat.audit()

    assert (report.right, report.set_back) == (False, 9)
    (finding,) = report.schedules[0].findings
    assert (finding.kind, finding.schedule) == ("set_back", "a")


def test_what_is_settled_while_an_audit_reads_is_no_false_alarm(
    beat: VirtualOnebeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat.schedules.put("a", interval(minutes=1), close, overlap="allow")
    beat.run_for(1.5 * MINUTE)  # so that the next tile begins within the audit's window
    for verb in ("owing", "tiles", "summaries", "runs", "trail", "provable_from"):
        real = getattr(beat.store, verb)

        asked = []

        def settling(*args: Any, real: Any = real, asked: list[Any] = asked) -> Any:
            asked.append(args)
            if len(asked) > 1:  # the nodes ask as well
                return real(*args)
            beat.run_for(MINUTE)
            answer = real(*args)
            beat.run_for(MINUTE)
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(beat.store, verb, settling)
            report = beat.audit(["a"])
        assert asked
        assert report.right, (verb, report.schedules[0].findings)


def test_an_audit_goes_on_through_purging(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", close, keep_runs=5, keep_days=1)
    beat.run_for(72 * HOUR)
    beat.store.purge(beat.store.now(), 1000)

    report = beat.audit()

    assert report.right, report.schedules[0].findings
    assert (report.expected, report.fired) == (72, 72)
    assert report.schedules[0].proof == "summary"


def test_what_is_owed_without_a_dispatcher_is_owed_and_no_gap(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", close)
    beat.run_for(HOUR + MINUTE)
    beat.at("2026-11-21T18:30:00")

    report = beat.audit()
    assert (report.owed, report.gaps) == (5, 0)


# --- doctor ---------------------------------------------------------------------------------------------


def told(beat: VirtualOnebeat, about: str) -> list[tuple[str, str]]:
    return [(each.level, each.what) for each in beat.doctor() if each.about == about]


def test_a_doctor_says_that_nobody_serves(beat: VirtualOnebeat) -> None:
    assert told(beat, "dispatchers")[0][0] == "warn"
    beat.run_for(seconds(1))
    assert told(beat, "dispatchers") == [("ok", "1 alive")]
    assert told(beat, "workers") == [("ok", "1 alive")]


def test_a_doctor_names_the_zone_and_where_it_comes_from(beat: VirtualOnebeat) -> None:
    assert "UTC, by default" in told(beat, "zone")[0][1]


def test_a_doctor_names_what_is_set_aside_parked_and_held(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", "0 * * * *", "shop.orders:nobody_has_it")
    beat.run_until("2026-11-21T13:01:00")
    beat.hold("maintenance")
    row, load = beat.store.owing(["a"])[0]
    beat.store.put([quarantine(row, load, beat._desk.author("bad bytes"))])

    assert told(beat, "parked")[0][0] == "bad"
    assert told(beat, "quarantine") == [
        ("bad", "1 schedules are set aside and do not fire: a (bad bytes); an edit brings one back")
    ]
    assert "maintenance" in told(beat, "hold")[0][1]
    assert "shop.orders:nobody_has_it" in told(beat, "targets")[0][1]


def test_a_doctor_knows_a_setting_that_is_none(beat: VirtualOnebeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBEAT_THREDS", "3")
    monkeypatch.setenv("ONEBEAT_RUN_ID", "a@20261121T120000Z")  # as within a command

    assert told(beat, "settings") == [
        ("warn", "ONEBEAT_THREDS is no setting of onebeat; did you mean 'ONEBEAT_THREADS'?")
    ]


def test_a_doctor_changes_nothing(beat: VirtualOnebeat) -> None:
    lived(beat)
    store = memory(beat)

    def picture() -> tuple[Any, ...]:
        runs: dict[str, Run] = dict(store._runs)
        events: dict[int, Event] = dict(store._events)
        return runs, events, dict(store._rows)

    before = picture()
    beat.doctor()
    beat.audit()
    beat.why("a", at(13))
    assert picture() == before


def test_a_doctor_warns_where_a_calendar_ends_soon_or_has_ended(beat: VirtualOnebeat) -> None:
    ends = announced_until("CN")
    assert ends is not None
    for name, calendar in (("a", workdays("CN")), ("b", holidays("CN")), ("law", holidays("DE"))):
        beat.schedules.put(name, cron("0 9 * * *") - calendar, close)
    midnight = datetime(ends.year, ends.month, ends.day, tzinfo=UTC)

    beat.at(midnight - timedelta(days=61))
    assert told(beat, "calendars") == []
    beat.at(midnight - timedelta(days=60))
    assert [level for level, _ in told(beat, "calendars")] == ["warn"]
    assert told(beat, "calendars")[0][1].startswith(f"the calendar of a, b ends {ends}: ")
    beat.at(midnight + timedelta(days=400))
    assert f"the calendar of a, b ended {ends}: " in told(beat, "calendars")[0][1]
    assert beat.schedules.show("a").calendar_ends == ends
    assert beat.schedules.show("law").calendar_ends is None


def test_a_doctor_compares_the_calendars_that_nodes_have(beat: VirtualOnebeat) -> None:
    book = Book(beat.store, beat.clock)
    version = calendar_version()
    beat.store.announce(book.node("a", settings={"the calendars of public holidays": "holidays 0.1"}))

    assert told(beat, "agreement") == [
        (
            "warn",
            f"the calendars of public holidays differs: holidays 0.1 on a; holidays {version} on this app",
        )
    ]


def test_a_doctor_names_what_live_nodes_and_this_app_do_not_agree_on(beat: VirtualOnebeat) -> None:
    beat.declare("digest", "0 9 * * *", "shop.orders:close")
    book = Book(beat.store, beat.clock)
    for name, zone in (("a", "UTC"), ("b", "Asia/Tokyo"), ("c", "Asia/Tokyo")):
        beat.store.announce(book.node(name, settings={"the zone of test": zone, "alike": "x"}))
    gone = {"the zone of test": "Europe/Paris"}
    beat.store.announce(book.node("gone", settings=gone, alive_until=book.now))

    assert told(beat, "agreement") == [
        ("warn", "the zone of test differs: Asia/Tokyo on b, c; UTC on a, this app")
    ]
