"""The fixture that users test their schedules with. The page that documents it runs as it stands."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from onebeat import (
    CurrentRun,
    InvalidInput,
    Onebeat,
    RunState,
    hours,
    http,
    interval,
    minutes,
    once,
    seconds,
    shell,
)
from onebeat.testing.virtual import VirtualOnebeat

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "test-your-schedules.md"
EXAMPLES = "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
HEAD = "from onebeat import *\n"
SHOP = """
from onebeat import Onebeat, interval

beat = Onebeat()

@beat.scheduled(interval(hours=6))
def restock(run):
    pass
"""

pytest_plugins = ["pytester"]


@pytest.mark.slow
def test_the_page_s_own_tests_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(**{"shop/__init__": "", "shop/beats": SHOP, "test_page": HEAD + EXAMPLES})
    pytester.syspathinsert()

    outcome = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--import-mode=prepend")

    outcome.assert_outcomes(passed=EXAMPLES.count("def test_"))


def test_an_instant_is_served_to_its_end(onebeat: VirtualOnebeat) -> None:
    @onebeat.scheduled(interval(minutes=1, anchor=onebeat.now))
    def minutely() -> None: ...

    ended = onebeat.run_until("2026-11-21T12:02:00Z")

    assert [run.occurrence_at for run in ended] == [
        datetime(2026, 11, 21, 12, minute, tzinfo=UTC) for minute in (1, 2)
    ]
    assert onebeat.run_for(seconds(0)) == []


def test_what_was_asked_for_runs_in_no_time(onebeat: VirtualOnebeat) -> None:
    told: list[str] = []

    @onebeat.scheduled("0 9 * * *")
    def report(run: CurrentRun) -> None:
        told.append(run.id)

    onebeat.run_for(seconds(0))
    onebeat.runs.request("report", key="again")
    ended = onebeat.run_for(seconds(0))

    assert told == [run.id for run in ended] == ["report!again"]


def test_a_run_that_nobody_can_run_is_parked_and_time_goes_on(onebeat: VirtualOnebeat) -> None:
    onebeat.declare("astray", interval(hours=1), "nowhere.to.be:found")

    ended = onebeat.run_for(hours(1.1))

    assert ended == []
    assert [run.state for run in onebeat.runs.list()] == ["parked"]


def test_a_late_attempt_waits_for_its_backoff_on_virtual_time(onebeat: VirtualOnebeat) -> None:
    began: list[datetime] = []

    @onebeat.scheduled(once(in_=minutes(1)), attempts=2, backoff=minutes(10))
    def flaky() -> None:
        began.append(onebeat.now)
        if len(began) == 1:
            raise ConnectionError

    (run,) = onebeat.run_for(hours(1))

    assert run.attempt == 2
    assert minutes(5) <= began[1] - began[0] <= minutes(10)


def test_handlers_of_events_are_called(onebeat: VirtualOnebeat) -> None:
    heard: list[str] = []

    @onebeat.on("run.failed")
    def hear(event: object) -> None:
        heard.append(event.run_id)  # type: ignore[attr-defined]  # an Event

    @onebeat.scheduled(interval(hours=1))
    def failing() -> None:
        raise ValueError

    (run,) = onebeat.run_for(hours(1.5))

    assert heard == [run.id]


def test_an_app_is_adopted_without_its_store(onebeat: VirtualOnebeat) -> None:
    app = Onebeat("sqlite:////nowhere/at/all.db")
    ran: list[int] = []

    @app.scheduled(interval(hours=1))
    def counted() -> None:
        ran.append(1)

    onebeat.adopt(app)
    ended = onebeat.run_for(hours(2.5))

    assert len(ran) == len(ended) == 2


def test_commands_and_requests_are_due_and_end_well_and_nothing_of_them_is_run(
    onebeat: VirtualOnebeat, tmp_path: Path
) -> None:
    onebeat.declare("backup", "0 2 * * *", shell(["touch", str(tmp_path / "done")]))
    onebeat.declare("hook", "0 3 * * *", http("http://10.0.0.1/hook"), attempts=3)

    ended = onebeat.run_for(hours(48))

    assert [(run.schedule, run.state, run.attempt) for run in ended] == [
        ("backup", RunState.SUCCEEDED, 1),
        ("hook", RunState.SUCCEEDED, 1),
    ] * 2
    assert list(tmp_path.iterdir()) == []


def test_time_does_not_run_backwards(onebeat: VirtualOnebeat) -> None:
    with pytest.raises(InvalidInput, match="has passed"):
        onebeat.run_until("2026-11-21T11:59Z")


@pytest.mark.onebeat(zone="Asia/Shanghai", now="2026-01-01T00:00")
def test_a_marker_chooses_zone_and_beginning(onebeat: VirtualOnebeat) -> None:
    assert onebeat.now == datetime(2025, 12, 31, 16, tzinfo=UTC)
    assert onebeat.zone == "Asia/Shanghai"
