"""What an entry of `beat_schedule` becomes, beside what Celery itself makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import crontab, schedule
from hypothesis import given
from hypothesis import strategies as st

from onebeat.celery.entries import Entries, names_of, read_entries
from onebeat.celery.whens import NOTE_INTERVAL, NOTE_NOWFUN, NOTE_TEXT, trigger_of
from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import NAME, CatchUp, Definition, Overlap, TriggerSpec
from onebeat.core.triggers import build, cron, interval, workdays

BEGIN = datetime(2026, 2, 26, 22, 47, 30, tzinfo=UTC)


def one(zone: str = "UTC", **entry: Any) -> Entries:
    return read_entries({"report": {"task": "shop.report", **entry}}, zone=zone)


def definition(zone: str = "UTC", **entry: Any) -> Definition:
    found = one(zone, **entry)
    assert not found.problems, found.problems
    return found.definitions["report"]


def problem(**entry: Any) -> str:
    (found,) = one(**entry).problems
    return found.why


def first(spec: TriggerSpec, n: int, after: datetime = BEGIN) -> Iterator[datetime]:
    at: datetime | None = after
    for _ in range(n):
        assert at is not None
        at = build(spec).after(at)
        if at is None:
            return
        yield at


def as_celery_has_it(of: crontab, days: int) -> Iterator[datetime]:
    """All instants of a crontab by the five sets that Celery makes of it, which must all hold."""
    for day in range(days):
        at = BEGIN.replace(hour=0, minute=0, second=0) + timedelta(days=day)
        if (
            at.day in of.day_of_month
            and at.month in of.month_of_year
            and at.isoweekday() % 7 in of.day_of_week
        ):
            for hour, minute in product(sorted(of.hour), sorted(of.minute)):
                if (found := at.replace(hour=hour, minute=minute)) > BEGIN:
                    yield found


# --- schedules --------------------------------------------------------------------------------------------


def numbers(low: int, high: int) -> st.SearchStrategy[Any]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{ends[0]}-{ends[1]}")
    step = st.integers(1, high + 5)
    term = st.one_of(
        number.map(str),
        span,
        st.tuples(span, step).map(lambda both: f"{both[0]}/{both[1]}"),
        step.map(lambda each: f"*/{each}"),
        st.just("*"),
    )
    return st.one_of(
        st.just("*"),
        number,
        st.sets(number, min_size=1, max_size=4),
        st.lists(number, min_size=1, max_size=3),
        st.lists(term, min_size=1, max_size=3).map(",".join),
    )


@given(
    minute=numbers(0, 59),
    hour=numbers(0, 23),
    day_of_week=st.one_of(
        numbers(0, 6), st.sampled_from(["mon-fri", "sat,sun", "Friday", "fri-mon", "sun-tue/2"])
    ),
    day_of_month=numbers(1, 28),
    month_of_year=st.one_of(numbers(1, 12), st.sampled_from(["jan-mar", "feb,March"])),
)
def test_a_crontab_comes_when_celery_s_own_sets_say_so(**fields: Any) -> None:
    celery_s = crontab(**fields)
    expected = []
    for found in as_celery_has_it(celery_s, 800):
        expected.append(found)
        if len(expected) == 30:
            break

    spec = trigger_of(celery_s, "UTC").trigger

    assert list(first(spec, len(expected))) == expected


def test_the_days_of_a_crontab_must_satisfy_both_fields_as_celery_has_it() -> None:
    friday_13 = definition(schedule=crontab(0, 0, day_of_week="fri", day_of_month="13")).trigger

    assert friday_13.fields == {"expression": "0 0 13 * 5", "zone": "UTC", "days": "all"}
    assert [at.date().isoformat() for at in first(friday_13, 2)] == ["2026-03-13", "2026-11-13"]


def test_a_field_that_names_every_value_is_no_limit() -> None:
    # Written out as 0-6 it would be a second day field, which adds days.
    assert definition(schedule=crontab(0, 0, "0-6", "13")).trigger.fields["expression"] == "0 0 13 * *"


def test_a_crontab_is_written_as_people_wrote_it() -> None:
    spec = definition(schedule=crontab("*/15", "9-17", "mon-fri")).trigger

    assert spec.fields == {"expression": "*/15 9-17 * * 1-5", "zone": "UTC"}


def test_a_crontab_lives_in_the_zone_of_its_app() -> None:
    spec = definition("Asia/Shanghai", schedule=crontab(0, 9)).trigger

    assert next(first(spec, 1)) == datetime(2026, 2, 27, 1, tzinfo=UTC)


def test_a_nowfun_names_the_zone_of_its_crontab_and_nothing_else() -> None:
    found = one(schedule=crontab(0, 9, nowfun=lambda: datetime.now(ZoneInfo("Europe/Berlin"))))

    assert found.definitions["report"].trigger.fields["zone"] == "Europe/Berlin"
    assert [note.text for note in found.notes] == [NOTE_NOWFUN]
    assert "no IANA name" in problem(schedule=crontab(0, 9, nowfun=lambda: datetime(2026, 1, 1)))


@pytest.mark.parametrize(
    "given", [30, 30.0, timedelta(seconds=30), schedule(30.0), schedule(timedelta(seconds=30))]
)
def test_a_period_is_an_interval_that_begins_with_its_declaration(given: Any) -> None:
    found = one(schedule=given)

    assert found.definitions["report"].trigger == interval(seconds=30)
    assert [note.text for note in found.notes] == [NOTE_INTERVAL]


def test_a_relative_period_comes_at_full_hours_and_days_of_the_zone() -> None:
    hourly = definition("Asia/Kolkata", schedule=3600, relative=True).trigger
    daily = definition("Asia/Kolkata", schedule=schedule(timedelta(days=1), relative=True)).trigger

    assert next(first(hourly, 1)) == datetime(
        2026, 2, 26, 23, 30, tzinfo=UTC
    )  # half past: five and a half hours
    assert next(first(daily, 1)) == datetime(2026, 2, 27, 18, 30, tzinfo=UTC)


class Sun:
    """A solar schedule as Celery pickles it: making a real one needs a library that onebeat does without."""

    def __init__(self, event: str, lat: float, lon: float) -> None:
        self.event, self.lat, self.lon = event, lat, lon


Sun.__module__, Sun.__qualname__ = "celery.schedules", "solar"


def test_a_solar_schedule_is_a_solar_trigger() -> None:
    spec = definition(schedule=Sun("sunset", -37.81, 144.96)).trigger

    assert spec == TriggerSpec(
        kind="solar", fields={"event": "sunset", "latitude": -37.81, "longitude": 144.96}
    )
    assert "no event of the sun" in problem(schedule=Sun("teatime", 0, 0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 * * *", "2026-02-27T00:00"),
        ("@daily", "2026-02-27T00:00"),
        ("30 9 * * mon-fri", "2026-02-27T09:30"),
        ("0 0 * * 7", "2026-03-01T00:00"),
        ("0 0 1 jan *", "2027-01-01T00:00"),
    ],
)
def test_a_cron_text_is_read_as_everywhere_in_onebeat(text: str, expected: str) -> None:
    found = definition(schedule=text).trigger

    assert found == cron(text, zone="UTC")
    assert next(first(found, 1)).isoformat()[:16] == expected


def test_a_cron_text_with_both_day_fields_is_said_to_mean_either() -> None:
    found = one(schedule="0 0 13 * fri")

    assert [note.text for note in found.notes] == [NOTE_TEXT]
    assert next(first(found.definitions["report"].trigger, 1)).isoformat()[:10] == "2026-02-27"


def test_a_trigger_of_ours_is_a_schedule_too() -> None:
    spec = cron("0 9 * * *") & workdays("CN")

    assert definition("Asia/Shanghai", schedule=spec).trigger.kind == "intersection"


class Own(crontab):
    """A class that decides by itself when it is due."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "missing"),
        (True, "builtins.bool"),
        (-1, "periods are"),
        (0, "periods are"),
        (Own(), "Own"),
        ("@reboot", "names no instant"),
        ("61 * * * *", "minute"),
        (crontab(0, 0, day_of_month=30, month_of_year=2), "never comes"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(given: Any, said: str) -> None:
    assert said in problem(schedule=given)


@pytest.mark.parametrize("text", ["", "8/2", "xyz", "1-", "-1", "*/0", "60", "1,,2"])
def test_a_field_that_celery_would_not_take_is_not_taken(text: str) -> None:
    from onebeat.celery.whens import crontab as of_fields

    with pytest.raises(InvalidTrigger):
        of_fields(text, "*", "*", "*", "*", "UTC")


# --- what is sent -----------------------------------------------------------------------------------------


def test_an_entry_is_a_celery_task_with_celery_s_own_policies() -> None:
    found = definition(
        schedule=60,
        args=(1, "two"),
        kwargs={"dry": True},
        options={"queue": "mail", "expires": 30, "priority": 3},
    )

    assert (found.target.kind, found.target.address, found.target.args) == (
        "celery",
        "shop.report",
        (1, "two"),
    )
    assert found.target.kwargs["kwargs"] == {"dry": True}
    assert found.target.kwargs["options"] == {"queue": "mail", "expires": 30, "priority": 3}
    assert (found.policy.catch_up, found.policy.overlap) == (CatchUp.LATEST, Overlap.ALLOW)


def test_the_starting_deadline_is_the_grace_of_crontabs_and_of_nothing_else() -> None:
    found = read_entries(
        {"a": {"task": "t", "schedule": crontab()}, "b": {"task": "t", "schedule": 30}},
        zone="UTC",
        deadline=90,
    ).definitions

    assert found["a"].policy.grace == timedelta(seconds=90)
    assert found["b"].policy.grace is None


def test_a_fleet_without_the_guard_is_told_so() -> None:
    found = read_entries({"a": {"task": "t", "schedule": 30}}, zone="UTC", guarded=False)

    assert found.definitions["a"].target.kwargs["guarded"] is False


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"options": {"countdown": 10}}, "countdown"),
        ({"options": {"eta": "2026-01-01"}}, "eta"),
        ({"options": {"task_id": "same-for-all"}}, "task_id"),
        ({"options": {"link": "x"}}, "link"),
        ({"options": {"serializer": "pickle"}}, "pickle"),
        ({"options": {"expires": datetime(2027, 1, 1)}}, "end a schedule"),
        ({"args": [object()]}, "JSON"),
        ({"args": "abc"}, "no list"),
        ({"kwargs": {"now": BeatLazyFunc(str)}}, "BeatLazyFunc"),
        ({"task": ""}, "registered"),
        ({"task": "celery.chain"}, "composition"),
        ({"tsak": "x"}, "did you mean 'task'"),
    ],
)
def test_what_a_run_cannot_be_is_refused_with_the_reason(entry: dict[str, Any], said: str) -> None:
    assert said in problem(**{"schedule": 30, **entry})


def test_what_only_repeats_a_send_is_left_out_and_said() -> None:
    found = one(
        schedule=crontab(), options={"retry": True, "retry_policy": {"max_retries": 3}, "queue": None}
    )

    assert "options" not in found.definitions["report"].target.kwargs
    assert "retry_policy" in found.notes[0].text


# --- many -------------------------------------------------------------------------------------------------


class Trap:
    """What raises when it is looked at."""

    def keys(self) -> Any:
        raise RuntimeError("boom")


def test_a_bad_entry_stops_none_of_its_neighbours() -> None:
    good = {"task": "t", "schedule": 30}
    found = read_entries(
        {"a": good, "bad": {"task": "t"}, "b": good, "worse": 17, "trap": Trap(), "c": good}, zone="UTC"
    )

    assert sorted(found.definitions) == ["a", "b", "c"]
    assert [each.entry for each in found.problems] == ["bad", "worse", "trap"]
    assert "RuntimeError: boom" in found.problems[-1].why


def test_an_entry_object_and_what_add_periodic_task_gave_are_entries() -> None:
    app = Celery("shop", set_as_current=False)

    @app.task(name="shop.report")
    def report(number: int) -> None: ...

    app.add_periodic_task(crontab(0, 9), report.s(7), expires=30)
    app.finalize()
    app.conf.beat_schedule["whole"] = ScheduleEntry(name="whole", task="t", schedule=schedule(5), app=app)

    found = read_entries(app.conf.beat_schedule, zone="UTC")

    assert not found.problems
    assert found.definitions["shop.report-7"].title == "shop.report(7)"
    assert found.definitions["shop.report-7"].target.args == (7,)
    assert found.definitions["whole"].trigger == interval(seconds=5)


def test_both_settings_are_read_and_where_they_differ_neither_wins() -> None:
    shared, daily = {"task": "t", "schedule": crontab(0, 0)}, {"task": "t", "schedule": "0 0 * * *"}
    found = read_entries(
        {"a": shared, "b": shared, "x": shared},
        redbeat={"a": dict(shared), "c": daily, "x": daily},
        zone="UTC",
    )

    assert sorted(found.definitions) == ["a", "b", "c"]
    assert [each.entry for each in found.problems] == ["x"]


def test_an_entry_that_is_not_enabled_is_left_out_and_said() -> None:
    found = one(schedule=30, enabled=False)

    assert not found.entries
    assert not found.problems
    assert found.notes[0].entries == ("report",)


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("send-report", "send-report"),
        ("celery.backend_cleanup", "celery.backend_cleanup"),
        ("Send the Report!", "send-the-report"),
        ("proj.tasks.add(1, 2)", "proj.tasks.add-1-2"),
        ("__private__", "private"),
        ("每日报告", "entry-"),
        ("!", "entry-"),
        ("x" * 150, "x" * 91 + "-"),
    ],
)
def test_an_entry_s_name_becomes_one_of_ours(entry: str, name: str) -> None:
    found = names_of([entry])[entry]

    assert found.startswith(name)
    assert NAME.fullmatch(found)


def test_names_that_would_be_one_are_told_apart_in_whatever_order_they_come() -> None:
    entries = ["Send Report", "send report", "send-report", "other"]

    found = names_of(entries)

    assert found["send-report"] == "send-report"
    assert found["other"] == "other"
    assert len(set(found.values())) == 4
    assert names_of(reversed(entries)) == found
    assert names_of([*entries, "SEND REPORT"]).items() >= found.items()


@given(st.lists(st.text(max_size=30), unique=True, max_size=6))
def test_every_entry_has_a_name_of_its_own(entries: list[str]) -> None:
    found = names_of(entries)

    assert len(set(found.values())) == len(entries)
    assert all(NAME.fullmatch(name) for name in found.values())


def test_the_title_keeps_what_the_name_cannot() -> None:
    found = read_entries({"每日 报告": {"task": "t", "schedule": 30}}, zone="UTC")

    assert found.entries[0].definition.title == "每日 报告"
