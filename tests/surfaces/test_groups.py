"""Groups as people say them, and what they are told of a run that waits for one."""

from __future__ import annotations

import pytest
from tests.surfaces.stage import HOUR, Town, close
from tests.surfaces.test_cli import CLOSE, Terminal

from onebeat import call, interval
from onebeat.core.definition import define
from onebeat.core.errors import InvalidInput
from onebeat.core.exporting import written
from onebeat.core.manifest import read_manifest
from onebeat.core.messages import Claim, Release
from onebeat.engine.dispatcher import Dispatcher

HOURLY = ("--every", "1h", "--anchor", "2026-11-21T00:00")


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def terminal(town: Town, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(town.app(), capsys)


def add(terminal: Terminal, name: str, *words: str) -> None:
    assert terminal("schedule", "add", name, *HOURLY, "--call", CLOSE, *words) == 0, terminal.complained


def claimed(town: Town) -> list[str]:
    targets = tuple(town.store.targets())
    wish = Claim(holder="n", queues=("default",), targets=targets, limit=10, until=town.clock.now() + HOUR)
    return [each.run.id for each in town.store.claim(wish)]


def test_a_group_is_given_on_the_command_line_and_taken_away_with_none(terminal: Terminal) -> None:
    add(terminal, "a", "--exclusive", "invoices")
    shown = terminal.read("schedule", "show", "a")["schedule"]
    assert shown["definition"]["policy"] == {"exclusive": "invoices"}

    terminal.read("schedule", "edit", "a", "--title", "A")
    shown = terminal.read("schedule", "show", "a")["schedule"]
    assert shown["definition"]["policy"] == {"exclusive": "invoices"}

    edited = terminal.read("schedule", "edit", "a", "--exclusive", "none")["schedule"]
    assert edited["definition"]["policy"] == {}


@pytest.mark.parametrize("name", ["Invoices", "", "a b", "a!b", "-a", "x" * 51, "none", 7, ["a"]])
def test_what_is_no_name_of_a_group_is_refused_and_says_what_is(name: object) -> None:
    with pytest.raises(InvalidInput, match="is no name of a group: 1 to 50 of a-z"):
        define("0 9 * * *", call(close), {"exclusive": name})


def test_a_manifest_says_a_group_and_says_it_again_when_it_is_written() -> None:
    definition = define(interval(hours=1), call(close), {"exclusive": "shop.invoices-1"})

    text = written({"a": definition}, owner="shop", revision=1)

    assert 'exclusive = "shop.invoices-1"' in text
    assert read_manifest(text, "shop.toml").definitions == {"a": definition}


def test_run_show_and_why_say_what_a_run_of_a_group_waits_for(terminal: Terminal, town: Town) -> None:
    for name in "abc":
        add(terminal, name, "--exclusive", "invoices")
    town.clock.advance(HOUR)
    Dispatcher(town.store, town.clock, holder="d").step()
    first, second, third = (f"{name}@20261121T130000Z" for name in "abc")

    assert claimed(town) == [first]
    has = f"waits for the group invoices, which {first} has"
    shown = terminal.read("run", "show", third)
    assert (shown["waits"], shown["run"]["exclusive"]) == (has, "invoices")
    assert terminal("run", "show", second) == 0
    assert has in terminal.said
    assert terminal("why", "b", "--at", "2026-11-21T13:00") == 0
    assert f"The run is ready. It {has}." in terminal.said
    assert terminal.read("run", "show", first)["waits"] == ""

    assert terminal("run", "cancel", second) == 0
    run = town.store.run(first)
    assert run is not None
    town.store.advance([Release(run_id=first, token=run.token)])
    turn = f"waits for its turn in the group invoices, after {first}"
    assert terminal.read("run", "show", third)["waits"] == turn
    assert terminal("why", "a", "--at", "2026-11-21T13:00") == 0
    assert "waits" not in terminal.said
