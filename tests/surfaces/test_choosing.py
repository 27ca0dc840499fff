"""Many schedules, chosen together: acted upon in few transactions, with an answer for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from tests.surfaces.stage import Meddled, Town, at, close

from onebeat import InvalidInput, NotFound, Onebeat, call, interval, minutes
from onebeat.app.choosing import Acted, Chosen
from onebeat.core.definition import define
from onebeat.core.ports import Store

HOURLY = interval(hours=1)


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def app(town: Town) -> Onebeat:
    app = town.app()
    for name in ("bill-a", "bill-b", "mail", "other"):
        app.schedules.put(name, HOURLY, close, tags=["billing"] if name.startswith("bill") else ["x"])
    app.apply(owner="shop", definitions={"owned": define(HOURLY, call(close), {"tags": ["billing"]})})
    return app


def names(chosen: Chosen) -> list[str]:
    return [row.name for row in chosen]


def became(acted: Acted) -> dict[str, bool]:
    return {each.schedule.name: each.changed for each in acted.written}


# --- choosing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "more", "expected"),
    [
        (("mail", "bill-b", "mail"), {}, ["bill-b", "mail"]),
        (("bill-*",), {}, ["bill-a", "bill-b"]),
        (("bill-?", "mail"), {}, ["bill-a", "bill-b", "mail"]),
        (("[bo]*",), {}, ["bill-a", "bill-b", "other", "owned"]),
        (("*",), {}, ["bill-a", "bill-b", "mail", "other", "owned"]),
        (("nobody-*",), {}, []),
        ((), {"tag": "billing"}, ["bill-a", "bill-b", "owned"]),
        ((), {"owner": "shop"}, ["owned"]),
        ((), {"tag": "billing", "owner": "shop"}, ["owned"]),
        (("bill-*",), {"tag": "x"}, []),
        (("mail",), {"tag": "x"}, ["mail"]),
        (("mail",), {"tag": "billing"}, []),
    ],
)
def test_every_condition_holds_for_what_is_chosen(
    app: Onebeat, words: tuple[str, ...], more: dict[str, str], expected: list[str]
) -> None:
    chosen = app.schedules.where(*words, **more)

    assert names(chosen) == expected
    assert len(chosen) == len(expected)


def test_choosing_says_which(app: Onebeat) -> None:
    with pytest.raises(InvalidInput, match="say which schedules"):
        app.schedules.where()
    with pytest.raises(NotFound, match="did you mean 'mail'"):
        app.schedules.where("bill-*", "mial")


def test_a_schedule_that_was_deleted_is_not_chosen(app: Onebeat) -> None:
    app.schedules.delete("bill-a")

    assert names(app.schedules.where("bill-*")) == ["bill-b"]
    with pytest.raises(NotFound, match="was deleted"):
        app.schedules.where("bill-a")


# --- acting ---------------------------------------------------------------------------------------------


def test_each_act_is_that_of_one_schedule(app: Onebeat) -> None:
    chosen = app.schedules.where("bill-*", "mail")

    assert became(chosen.pause("lunch")) == {"bill-a": True, "bill-b": True, "mail": True}
    assert {row.paused for row in app.schedules.where("*")} == {"lunch", None}
    assert became(chosen.pause("lunch")) == {"bill-a": False, "bill-b": False, "mail": False}
    app.schedules.resume("mail")
    assert became(chosen.resume()) == {"bill-a": True, "bill-b": True, "mail": False}
    assert [each.schedule.skips for each in chosen.skip_next("a holiday").written] == [(at(13),)] * 3
    assert [each.schedule.skips for each in chosen.unskip().written] == [()] * 3
    edited = chosen.edit(grace=minutes(10), trigger="@daily", reason="less of it")
    assert {each.schedule.definition.policy.grace for each in edited.written} == {minutes(10)}
    assert {change.reason for change in app.schedules.trail("mail")} >= {"lunch", "a holiday", "less of it"}
    assert became(chosen.delete("no more")) == {"bill-a": True, "bill-b": True, "mail": True}
    assert names(app.schedules.where("*")) == ["other", "owned"]


def test_a_thousand_take_a_few_transactions(town: Town) -> None:
    app = town.app()
    app.schedules.put_all({f"s{n:04}": define(HOURLY, call(close, n), {"tags": ["x"]}) for n in range(1203)})
    store = Meddled(town.store, "put", lambda: None)
    done: list[int] = []

    acted = town.app(store=cast(Store, store)).schedules.where(tag="x").pause("all", progress=done.append)

    assert len(acted.written) == 1203
    assert done == [500, 500, 203]
    assert store.calls.count("put") == 3


def test_one_that_is_refused_does_not_hinder_the_others(app: Onebeat) -> None:
    app.schedules.pause("bill-b")
    chosen = app.schedules.where("bill-*", "mail")
    app.schedules.delete("mail")

    acted = chosen.skip_next()

    assert became(acted) == {"bill-a": True}
    assert [(each.name, each.code) for each in acted.refused] == [
        ("bill-b", "refused"),
        ("mail", "not_found"),
    ]
    assert "it is paused" in acted.refused[0].message or "is paused" in acted.refused[0].message


def test_what_could_be_meant_of_none_is_refused_before_anything_is_written(app: Onebeat) -> None:
    chosen = app.schedules.where(tag="billing")
    for wrong in ({"grase": 5}, {"attempts": "3"}, {"trigger": "0 9 * *"}, {}):
        with pytest.raises(InvalidInput):
            chosen.edit(**cast(Any, wrong))
    assert {row.version for row in app.schedules.where(tag="billing")} == {1}


def test_what_cannot_be_meant_of_one_is_refused_for_it_alone(app: Onebeat) -> None:
    app.schedules.edit("bill-b", grace=30)

    acted = app.schedules.where("bill-*").edit(catch_up="skip")

    assert became(acted) == {"bill-b": True}
    assert [(each.name, each.code) for each in acted.refused] == [("bill-a", "invalid_input")]


def test_what_the_ledger_cannot_do_is_refused_for_each(app: Onebeat) -> None:
    acted = app.schedules.where("bill-*").edit(transactional=True)

    assert acted.written == ()
    assert {each.message.partition(",")[0] for each in acted.refused} == {
        "transactional=True needs a ledger in a SQL database"
    }


def test_deleting_says_whose_declaration_brings_it_back(app: Onebeat) -> None:
    acted = app.schedules.where(tag="billing").delete()

    assert [(each.schedule.name, bool(each.warnings)) for each in acted.written] == [
        ("bill-a", False),
        ("bill-b", False),
        ("owned", True),
    ]


@pytest.mark.parametrize("act", [Chosen.pause, lambda chosen: chosen.edit(timeout=90)])
def test_one_that_somebody_changed_meanwhile_is_decided_again(
    town: Town, app: Onebeat, act: Callable[[Chosen], Acted]
) -> None:
    meddling = town.meddled("put", lambda: app.schedules.edit("bill-a", title="Rechnungen") and None)

    acted = act(meddling.schedules.where("bill-*"))

    assert became(acted) == {"bill-a": True, "bill-b": True}
    row = app.schedules.show("bill-a").schedule
    assert row.definition.title == "Rechnungen"
    assert row.version == 3


def test_one_that_comes_to_fit_after_the_choice_is_left_alone(app: Onebeat) -> None:
    chosen = app.schedules.where(tag="billing")
    app.schedules.edit("mail", tags=["billing"])

    chosen.pause()

    assert app.schedules.show("mail").schedule.paused is None
