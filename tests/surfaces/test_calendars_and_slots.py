"""Slots, windows and calendars through the front door: declared, previewed, fired, proven."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from tests.surfaces.stage import close

from onebeat import InvalidTrigger, cron, dates, holidays, interval, window, workdays
from onebeat.core import publicdays
from onebeat.core.errors import MissingExtra
from onebeat.core.reconcile import Verb
from onebeat.core.triggers import cron as spec_of
from onebeat.testing.virtual import VirtualOnebeat

DAY = timedelta(days=1)
BEGIN = datetime(2026, 9, 30, tzinfo=UTC)


@pytest.fixture
def beat(onebeat: VirtualOnebeat) -> VirtualOnebeat:
    onebeat.allow(close.__module__)
    onebeat.at(BEGIN)
    return onebeat


def test_a_declared_slot_is_that_of_its_name_and_applying_again_changes_nothing(
    beat: VirtualOnebeat,
) -> None:
    beat.declare("report", "H 9 * * *", close)
    beat.declare("digest", cron("H 9 * * *") & cron("* * * * MON-FRI"), close)
    previewed = beat.preview("report", 1)

    assert [step.verb for step in beat.apply().steps] == [Verb.CREATE, Verb.CREATE]
    assert beat.apply().changes == ()
    row = beat.schedules.show("report").schedule
    assert row.definition.trigger == spec_of("H 9 * * *", zone="UTC", slot="report")
    assert row.next_at == previewed[0] == beat.preview("report", 1)[0]
    assert beat.schedules.put("report", "H 9 * * *", close, if_exists="replace").changed is False


def test_an_edit_to_a_slot_has_the_name_of_its_schedule(beat: VirtualOnebeat) -> None:
    beat.schedules.put("report", "0 9 * * *", close)

    row = beat.schedules.edit("report", trigger="H 10 * * *").schedule
    assert row.definition.trigger.fields["slot"] == "report"
    assert row.next_at == beat.preview(cron("H 10 * * *", slot="report"), 1)[0]


def test_a_preview_of_a_bare_slot_says_what_it_hangs_on(beat: VirtualOnebeat) -> None:
    with pytest.raises(InvalidTrigger, match="hangs on the name of its schedule"):
        beat.preview("H 9 * * *")


def test_what_fired_under_slots_windows_and_calendars_is_proven(beat: VirtualOnebeat) -> None:
    working = workdays("CN", zone="Asia/Shanghai", less=["2026-10-09"])
    triggers = {
        "slot": cron("H */6 * * *"),
        "china": cron("0 9 * * *", zone="Asia/Shanghai") & working,
        "bavaria": cron("0 12 * * *") - holidays("DE", subdivision="BY", zone="Europe/Berlin"),
        "office": interval(hours=2).within(window("09:00", "17:00", days="MON-FRI", zone="Asia/Shanghai")),
        "night": cron("0 * * * *").outside(window("04:00", "22:00")),
        "dates": cron("0 9,15 * * *") & dates("2026-10-03", "2026-10-10"),
    }
    for name, trigger in triggers.items():
        beat.schedules.put(name, trigger, close, catch_up="all")
    beat.run_until(BEGIN + 14 * DAY)

    report = beat.audit()
    assert report.right, [each for each in report.schedules if not each.right]
    fired = {each.schedule: each.fired for each in report.schedules}
    assert fired["slot"] == 14 * 4
    # 30 September, then 8, 10 (made up), 12 and 13 October; 9 October is free by the company's own word.
    assert fired["china"] == 5
    assert fired["bavaria"] == 13  # 3 October
    assert fired["night"] == 14 * 6
    assert fired["dates"] == 4


def test_an_audit_without_the_library_checks_what_it_can_and_says_so(
    beat: VirtualOnebeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat.schedules.put("lisbon", cron("0 9 * * *") - holidays("PT"), close)
    beat.schedules.put("daily", "0 9 * * *", close)
    beat.run_until(BEGIN + 3 * DAY)

    def absent() -> ModuleType:
        raise MissingExtra("pip install 'onebeat[calendars]'")

    publicdays.public_days.cache_clear()
    monkeypatch.setattr(publicdays, "_library", absent)
    report = beat.audit()

    assert report.right
    assert {each.schedule: each.proof for each in report.schedules} == {"daily": "rows", "lisbon": "tiles"}
    assert (
        "onebeat[calendars]" in next(each for each in report.schedules if each.schedule == "lisbon").notes[0]
    )


def test_a_calendar_alone_is_refused_when_it_is_put(beat: VirtualOnebeat) -> None:
    with pytest.raises(InvalidTrigger, match=r"join it with what does: cron\('0 9 \* \* \*'\) & workdays"):
        beat.schedules.put("a", workdays("CN"), close)
