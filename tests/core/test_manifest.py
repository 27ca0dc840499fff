"""Manifests: what is written reads back the very same, and each mistake is told with its line and key."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from onebeat.core.codec import FORMAT, to_data, to_text
from onebeat.core.definition import BOUNDS, define
from onebeat.core.errors import InvalidInput
from onebeat.core.exporting import written
from onebeat.core.foreign import FOREIGN
from onebeat.core.manifest import DURATIONS, KEYS, MAY_BE_NONE, POLICY, Manifest, read_manifest
from onebeat.core.model import CatchUp, Definition, OnLost, Overlap, Policy, Target, TriggerSpec
from onebeat.core.targets import call, celery_task, http, process, shell
from onebeat.core.tomltext import Unsayable, line_of, table
from onebeat.core.triggers import (
    calendar_interval,
    cron,
    dates,
    holidays,
    interval,
    named,
    on_request,
    once,
    rrule,
    window,
    workdays,
)
from onebeat.testing.virtual import VirtualOnebeat

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def read(text: str, **more: Any) -> Manifest:
    return read_manifest(text, "shop.toml", **more)


def one(text: str, **more: Any) -> Definition:
    """The definition of a manifest that says this of a schedule."""
    (definition,) = read(f"[schedules.a]\n{text}\n", **more).definitions.values()
    return definition


def complaint(text: str) -> str:
    with pytest.raises(InvalidInput) as told:
        read(text)
    return str(told.value)


# --- what is drawn --------------------------------------------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
instants = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
zones = st.sampled_from([None, "UTC", "Asia/Shanghai", "America/New_York"])
crons = st.builds(
    cron,
    st.sampled_from(["0 9 * * MON-FRI", "*/5 * * * * *", "@daily", "30 2 1 * *"]),
    zone=zones,
    days=st.sampled_from(["any", "all"]),
    gap=st.sampled_from([None, "shift", "skip"]),
    fold=st.sampled_from([None, "first", "second", "both"]),
)
periods = st.timedeltas(timedelta(milliseconds=1), timedelta(days=36_525))
intervals = st.builds(interval, periods, anchor=st.none() | instants)
others = st.sampled_from(
    [
        calendar_interval(months=1, at="09:00", start="2026-01-31", zone="Asia/Tokyo"),
        calendar_interval(weeks=2, at="09:00:30", month_end="skip"),
        workdays("CN", also=["2026-12-27"], less=["2026-12-24"], zone="Asia/Shanghai"),
        holidays("DE", subdivision="BY"),
        dates("2026-12-24", "2026-12-31", zone="Europe/Berlin"),
        window("22:00", "06:00", days="MON-FRI"),
        cron("H H(0-5) * * *", zone="UTC"),
        rrule("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9", start=datetime(2026, 11, 22, 9), zone="Asia/Tokyo"),
        rrule("FREQ=DAILY;COUNT=3", start=NOON, fold="second"),
        rrule("DTSTART:20261122T090000\nRRULE:FREQ=DAILY\nEXDATE:20261123T090000"),
    ]
)
leaves = (
    others | crons | intervals | st.builds(once, instants) | st.builds(lambda span: once(in_=span), periods)
)
triggers = st.just(on_request()) | st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda a, b: a | b, inner, inner)
        | st.builds(lambda a, b: a - b, inner, inner)
        | st.builds(lambda a, at: a.between(start_at=at), inner, instants)
    ),
    max_leaves=3,
)
targets = st.one_of(
    st.builds(
        lambda way, args, kwargs: way("shop.mail:digest", *args, **kwargs),
        st.sampled_from([call, process]),
        st.lists(plain, max_size=3),
        st.dictionaries(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), plain, max_size=2
        ).filter(lambda kwargs: "function" not in kwargs),
    ),
    st.builds(
        shell,
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=3).map(
            lambda words: ["/bin/echo", *words]
        ),
        env=st.none() | st.just({"A": "b c", "B": "env:HOME"}),
        cwd=st.none() | st.just("/tmp"),
        input=st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
    ),
    st.builds(
        http,
        st.sampled_from(["https://example.org", "http://example.org:81/a?b=%20c", "env:HOOK"]),
        json=plain,
        method=st.sampled_from(["POST", "PUT"]),
        headers=st.none() | st.just({"X-Two": "Bearer env:TOKEN"}),
        ok=st.none() | st.just([200, "3xx"]),
        redirects=st.integers(0, 10),
    ),
    st.builds(
        celery_task,
        st.sampled_from(["shop.tasks.digest", "邮件 digest"]),
        args=st.lists(plain, max_size=2),
        kwargs=st.none()
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), plain, max_size=2),
        queue=st.sampled_from(["mail", "celery"]),
        priority=st.integers(0, 255),
        expires=st.floats(0, 1e6),
        headers=st.just({"x-two": None, "three": 3}),
    ),
    st.builds(
        lambda args, kwargs: Target(kind="fleet", address="some:thing else", args=tuple(args), kwargs=kwargs),
        st.lists(plain, max_size=2),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), plain, max_size=2),
    ),
)


def _policies() -> st.SearchStrategy[dict[str, Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "catch_up": st.sampled_from([CatchUp.ALL, CatchUp.LATEST, CatchUp.EARLIEST]),
        "overlap": st.sampled_from(Overlap),
        "on_lost": st.sampled_from(OnLost),
        "retry_on": st.lists(st.sampled_from(["TimeoutError", "OSError"]), unique=True),
        "report_success": st.booleans(),
        "exclusive": st.sampled_from([None, "invoices", "shop.mail-7"]),
    }
    for name, bounds in BOUNDS.items():
        if name in ("backoff", "backoff_max"):
            continue
        if isinstance(bounds.least, timedelta):
            fields[name] = st.timedeltas(bounds.least, bounds.most)
        else:
            fields[name] = st.integers(bounds.least, bounds.most)
        if name in MAY_BE_NONE:
            fields[name] |= st.none()
    return st.fixed_dictionaries({}, optional=fields)


definitions = st.builds(
    define,
    triggers,
    targets,
    st.tuples(
        _policies(),
        st.fixed_dictionaries(
            {},
            optional={
                "title": st.text(max_size=20).filter(str.isprintable),
                "tags": st.lists(st.sampled_from(["billing", "邮件", "a.b"]), unique=True),
                "queue": st.sampled_from(["default", "mail"]),
            },
        ),
    ).map(lambda both: both[0] | both[1]),
)
names = st.sampled_from(["a", "daily-report", "shop.mail_7"])


@given(st.dictionaries(names, definitions, min_size=1))
def test_a_manifest_that_was_written_reads_back_the_very_same(found: dict[str, Definition]) -> None:
    text = written(found, owner="shop", revision=7)
    again = read(text, zone="Europe/Berlin")

    assert again.definitions == found
    for name, each in found.items():  # 1 is not true, and not 1.0
        assert to_text(again.definitions[name].target) == to_text(each.target)
        assert to_text(again.definitions[name].trigger) == to_text(each.trigger)
    assert (again.owner, again.revision, again.notes) == ("shop", 7, ())


@given(st.dictionaries(names, definitions, min_size=1))
def test_a_ledger_that_was_exported_differs_in_nothing_from_its_export(found: dict[str, Definition]) -> None:
    with VirtualOnebeat() as beat:
        placed = {name: each for name, each in found.items() if _comes(each.trigger)}
        beat.schedules.put_all(placed)
        kept = beat.schedules.definitions()
        again = read(written(kept)).definitions

        assert {
            name: replace(each, trigger=named(each.trigger, name)) for name, each in again.items()
        } == kept
        assert [
            step.name for step in beat.diff(definitions=again) if step.conflicts or step.verb != "keep"
        ] == []


def _comes(trigger: TriggerSpec) -> bool:
    """Whether a ledger takes it: it refuses combinations that hold no instant at all."""
    from onebeat.core.triggers import anchored

    try:
        anchored(trigger, NOON)
    except InvalidInput:
        return False
    return True


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=4))
def test_values_that_are_written_are_read_by_everybodys_reader(values: dict[str, Any]) -> None:
    try:
        text = table(("a b", "c"), values)
    except Unsayable:
        assert "null" in json.dumps(values)
        return

    assert repr(tomllib.loads(text)) == repr({"a b": {"c": values}})
    assert text.count("\n") == len(values) + 1


def test_an_export_is_what_a_person_would_have_written() -> None:
    report = define(
        cron("0 9 * * MON-FRI", zone="Asia/Shanghai"),
        call("shop.reports:send", 17, force=True),
        {
            "title": "日报",
            "tags": ["billing"],
            "grace": 600,
            "backoff": 0.5,
            "timeout": None,
            "queue": "mail",
        },
    )
    poll = define(interval(minutes=90, anchor=NOON), shell(["pg_dump", "shop"]), {})

    assert written({"report": report, "shop.poll": poll}, owner="shop", revision=3).splitlines()[1:] == [
        "format = 1",
        'owner = "shop"',
        "revision = 3",
        'zone = "Asia/Shanghai"',
        "",
        "[schedules.report]",
        'title = "日报"',
        'cron = "0 9 * * MON-FRI"',
        'call = "shop.reports:send"',
        "args = [17]",
        "kwargs = { force = true }",
        'queue = "mail"',
        'tags = ["billing"]',
        'grace = "10m"',
        "backoff = 0.5",
        "",
        '[schedules."shop.poll"]',
        'every = "1h30m"',
        "anchor = 2026-11-21T12:00:00Z",
        'shell = ["pg_dump", "shop"]',
    ]


def test_a_slot_that_hangs_on_the_name_is_not_written_beside_it() -> None:
    with VirtualOnebeat() as beat:
        beat.declare("hashed", cron("H H(0-5) * * *", zone="UTC") | interval(days=1), "a:b")
        beat.declare("plain", cron("H 9 * * *", zone="UTC"), "a:b")
        beat.apply()
        kept = beat.schedules.definitions()
        text = written(kept, owner="test")

        assert 'cron = "H 9 * * *"' in text
        steps = beat.diff(definitions=read(text).definitions)
        assert {step.verb for step in steps} <= {"keep", "stamp"}  # nothing to change of what is there
        moved = written({"other": kept["plain"]})
        assert read(moved).definitions == {"other": kept["plain"]}  # it keeps the slot that it had


def test_a_recurrence_rule_is_written_short_where_it_can_be() -> None:
    rule = define(rrule("FREQ=DAILY", start=datetime(2026, 11, 22, 9), zone="UTC"), "a:b", {})
    less = define(rrule("DTSTART:20261122T090000\nRRULE:FREQ=DAILY\nEXDATE:20261123T090000"), "a:b", {})

    assert 'rrule = "FREQ=DAILY"\nstart = "2026-11-22T09:00:00"\n' in written({"a": rule})
    assert "trigger = {" in written({"a": less})


def test_what_toml_cannot_say_stands_as_json() -> None:
    definition = define("@daily", call("shop.mail:digest", None), {}, zone="UTC")

    text = written({"a": definition})
    assert 'target = "{' in text
    assert 'cron = "@daily"' in text  # the rest stays short
    assert read(text).definitions == {"a": definition}


def test_a_definition_that_nobody_here_understands_is_written_as_it_is() -> None:
    odd = Definition(
        trigger=TriggerSpec(kind="lunar", fields={"zone": "Mars/Base"}),
        target=Target(kind="python", address="a:b"),
    )

    assert tomllib.loads(written({"a": odd}))["schedules"]["a"].keys() == {"trigger", "zone", "target"}


# --- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ('cron = "0 9 * * *"', cron("0 9 * * *", zone="Asia/Shanghai")),
        ('cron = "0 9 * * *"\nzone = "UTC"\ngap = "skip"', cron("0 9 * * *", zone="UTC", gap="skip")),
        ('cron = "0 9 * * *"\nzone = "none"', cron("0 9 * * *")),
        ('every = "15m"', interval(minutes=15)),
        ("every = 0.25", interval(seconds=0.25)),
        ('every = "1d"\nanchor = 2026-11-21T20:00:00', interval(days=1, anchor=NOON)),
        ("once = 2026-11-21T12:00:00Z", once(NOON)),
        ('once = "2026-11-21T20:00"', once(NOON)),
        ('rrule = "FREQ=DAILY;BYHOUR=9"', rrule("FREQ=DAILY;BYHOUR=9", zone="Asia/Shanghai")),
        (
            'rrule = "FREQ=WEEKLY"\nstart = 2026-11-22T09:00:00\ngap = "skip"',
            rrule("FREQ=WEEKLY", start=datetime(2026, 11, 22, 9), gap="skip", zone="Asia/Shanghai"),
        ),
        ("on_request = true", on_request()),
        ('trigger = { kind = "once", fields = { in_s = 5 } }', once(in_=timedelta(seconds=5))),
        ('trigger = { kind = "once", fields = { at = 2026-11-21T12:00:00Z } }', once(NOON)),
        ("""trigger = '{"kind": "once", "fields": {"in_s": 5}}'""", once(in_=timedelta(seconds=5))),
        (
            'trigger = { kind = "calendar_interval", fields = { days = 2, at = 09:00:00, '
            "start = 2026-01-31 } }",
            calendar_interval(days=2, at="09:00:00", start="2026-01-31", zone="Asia/Shanghai"),
        ),
        (
            'trigger = { kind = "cron", fields = { expression = "@daily" } }',
            cron("@daily", zone="Asia/Shanghai"),
        ),
    ],
)
def test_a_when_is_said_in_one_of_these_ways(text: str, trigger: TriggerSpec) -> None:
    assert one(f'{text}\ncall = "a:b"', zone="Asia/Shanghai").trigger == trigger


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('call = "a:b"', call("a:b")),
        ('call = "a:b"\nargs = [1, [2]]\nkwargs = { c = { d = "e" } }', call("a:b", 1, [2], c={"d": "e"})),
        ('process = "a:b"\nargs = [1]', process("a:b", 1)),
        (
            'shell = ["pg_dump"]\nenv = { A = "b" }\ncwd = "/srv"\ninput = "x"',
            shell(["pg_dump"], env={"A": "b"}, cwd="/srv", input="x"),
        ),
        (
            'http = "https://example.org/hook"\nmethod = "PUT"\njson = [1]\nok = [204]',
            http("https://example.org/hook", method="PUT", json=[1], ok=[204]),
        ),
        (
            'target = { kind = "fleet", address = "x", args = [1] }',
            Target(kind="fleet", address="x", args=(1,)),
        ),
        (
            """target = '{"kind": "fleet", "address": "x", "args": [null]}'""",
            Target(kind="fleet", address="x", args=(None,)),
        ),
        (
            'target = { kind = "fleet", address = "x", queue = "q" }',
            Target(kind="fleet", address="x", queue="q"),
        ),
    ],
)
def test_what_runs_is_said_in_one_of_these_ways(text: str, target: Target) -> None:
    assert one(f'every = "1h"\n{text}').target == target


def test_every_policy_is_said_by_its_name_in_the_docs() -> None:
    said = {
        "catch_up": '"all"',
        "overlap": '"queue_one"',
        "on_lost": '"fail"',
        "retry_on": '["TimeoutError"]',
        "report_success": "true",
        "transactional": "true",
        "exclusive": '"invoices"',
    }
    for name in POLICY:
        text = said.get(name, '"10m"' if name in DURATIONS else "7")
        policy = one(f'every = "1h"\ncall = "a:b"\n{name} = {text}').policy
        assert getattr(policy, name) != POLICY[name].default, name


def test_defaults_hold_where_a_schedule_says_nothing() -> None:
    manifest = read(
        """
        [defaults]
        grace = "10m"
        tags = "mail"
        queue = "slow"
        [schedules.a]
        every = "1h"
        call = "a:b"
        [schedules.b]
        every = "1h"
        call = "a:b"
        grace = "none"
        tags = []
        queue = "default"
        """
    )
    a, b = manifest.definitions["a"], manifest.definitions["b"]

    assert (a.policy.grace, a.tags, a.target.queue) == (timedelta(minutes=10), ("mail",), "slow")
    assert (b.policy, b.tags, b.target.queue) == (Policy(), (), "default")


def test_a_zone_is_the_schedules_else_the_files_else_the_apps_else_utc_and_then_it_is_said() -> None:
    daily = '[schedules.a]\ncron = "@daily"\ncall = "a:b"\n'

    for text, zone, expected in (
        (f'zone = "Asia/Tokyo"\n{daily}zone = "Europe/Paris"', "Asia/Dubai", "Europe/Paris"),
        (f'zone = "Asia/Tokyo"\n{daily}', "Asia/Dubai", "Asia/Tokyo"),
        (daily, "Asia/Dubai", "Asia/Dubai"),
        (daily, None, "UTC"),
    ):
        manifest = read(text, zone=zone)
        assert manifest.definitions["a"].trigger.fields["zone"] == expected
        assert len(manifest.notes) == (expected == "UTC")
    assert read('[schedules.a]\nevery = "1h"\ncall = "a:b"').notes == ()


def test_an_export_in_json_goes_on_being_read() -> None:
    definition = define("@daily", call("a:b", None), {"grace": 5}, zone="UTC")
    text = json.dumps({"format": FORMAT, "schedules": {"a": to_data(definition)}})

    assert read(text).definitions == {"a": definition}
    assert read(f"\ufeff {text}").definitions == {"a": definition}


# --- foreign words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("max_instances = 3", "max_running", 3),
        ("misfire_grace_time = 30", "grace", timedelta(seconds=30)),
        ("coalesce = true", "catch_up", CatchUp.LATEST),
        ("coalesce = false", "catch_up", CatchUp.ALL),
        ('concurrencyPolicy = "Allow"', "overlap", Overlap.ALLOW),
        ('concurrencyPolicy = "Forbid"', "overlap", Overlap.SKIP),
        ('concurrencyPolicy = "Replace"', "overlap", Overlap.CANCEL_RUNNING),
        ("startingDeadlineSeconds = 200", "grace", timedelta(seconds=200)),
    ],
)
def test_a_foreign_word_is_read_and_told_in_ours(text: str, name: str, value: object) -> None:
    manifest = read(f'[schedules.a]\nevery = "1h"\ncall = "a:b"\n{text}')

    assert getattr(manifest.definitions["a"].policy, name) == value
    (note,) = manifest.notes
    assert note.startswith(f"schedules.a: {text.partition(' ')[0]} is ")
    assert note.endswith(f"write {name}")


def test_in_code_a_foreign_word_is_an_error_that_says_ours() -> None:
    for word, of in FOREIGN.items():
        with pytest.raises(InvalidInput, match=f"{of.whose}'s word for {of.ours} .*; write {of.ours}"):
            define("@daily", "a:b", {word: 1})


# --- mistakes -------------------------------------------------------------------------------------------

A = '[schedules.a]\nevery = "1h"\ncall = "a:b"\n'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("format = 2", 1, "format: it has format 2, and this onebeat reads 1"),
        ('owner = "The Shop"', 1, "owner: "),
        ('revision = "7"', 1, "revision: '7' is not a whole number"),
        ("revision = -1", 1, "revision: -1 is less than 0"),
        ('zone = "Asia/Shangai"', 1, "zone: "),
        ("[schedule.a]", 1, "schedule: there is no such key; did you mean 'schedules'?"),
        ("schedules = 7", 1, "schedules: 7 is not a table"),
        ('[defaults]\ntitle = "x"', 2, "defaults.title: there is no such key"),
        ("[defaults]\ngrace = true", 2, "defaults.grace: True is no duration"),
        ('# one\n\n[schedules."Two words"]', 3, "schedules.Two words: "),
        ("[schedules]\na = 1", 2, "schedules.a: 1 is not a table"),
        (f"{A}grase = 1", 4, "schedules.a.grase: there is no such key; did you mean 'grace'?"),
        (f'{A}grace = "soon"', 4, "schedules.a.grace: 'soon' is no duration; write 90s, 10m"),
        (f"{A}attempts = 0", 4, "schedules.a.attempts: attempts=0 is not from 1 to 1000"),
        (f'{A}attempts = "3"', 4, "schedules.a.attempts: attempts='3' is no whole number"),
        (f'{A}overlap = "skp"', 4, "schedules.a.overlap: overlap='skp' is none of"),
        (f"{A}title = 7", 4, "schedules.a.title: 7 is not a text"),
        (f'{A}title = "a\\nb"', 4, "schedules.a.title: title="),
        (f"{A}tags = [7]", 4, "schedules.a.tags: 7 is not a text"),
        (f'{A}catch_up = "skip"', 4, "schedules.a.catch_up: catch_up='skip' fires"),
        (f"{A}max_running = 1\nmax_instances = 1", 5, "schedules.a.max_instances: it says max_running"),
        (f"{A}coalesce = 1", 4, "schedules.a.coalesce: coalesce=1 is neither true nor false"),
        (f'{A}concurrencyPolicy = "forbid"', 4, "schedules.a.concurrencyPolicy: "),
        ('[schedules.a]\ncall = "a:b"', 1, "schedules.a: nothing says when; write one of cron, every"),
        ('[schedules.a]\nevery = "1h"', 1, "schedules.a: nothing says what runs; write one of call"),
        (f'{A}cron = "@daily"', 2, "schedules.a.every: cron and every both say when"),
        (f'{A}shell = ["x"]', 4, "schedules.a.shell: call and shell both say what runs"),
        (f'{A}gap = "skip"', 4, "schedules.a.gap: it goes with cron or rrule, which is not there"),
        (f'{A}env = {{ A = "b" }}', 4, "schedules.a.env: it goes with shell"),
        (
            '[schedules.a]\nevery = "1h"\nshell = ["x"]\nargs = [1]',
            4,
            "schedules.a.args: it goes with call or process",
        ),
        (
            '[schedules.a]\ncall = "a:b"\ncron = "0 9 * *"',
            3,
            "schedules.a.cron: cron expression '0 9 * *' has 4",
        ),
        (
            '[schedules.a]\ncall = "a:b"\nonce = 2026-11-21',
            3,
            "schedules.a.once: datetime.date(2026, 11, 21) is",
        ),
        (
            '[schedules.a]\ncall = "a:b"\non_request = false',
            3,
            "schedules.a.on_request: write on_request = true",
        ),
        ('[schedules.a]\ncall = "a:b"\ntrigger = "{"', 3, "schedules.a.trigger: '{' is neither a table nor"),
        ('[schedules.a]\ncall = "a:b"\ntrigger = { kind = "lunar" }', 3, "'lunar' is no kind of trigger"),
        ('[schedules.a]\nevery = "1h"\ncall = "reports"', 3, "schedules.a.call: 'reports' names no Python"),
        (f"{A}args = 7", 4, "schedules.a.args: args=7 is not a list"),
        (f"{A}args = [\n  1,\n  2026-11-21,\n]", 4, "schedules.a.args: 2026-11-21 is a date of TOML"),
        (
            '[schedules.a]\nevery = "1h"\nhttp = "https://x"\nmethod = "GIT"',
            4,
            "schedules.a.method: method='GIT'",
        ),
        ('[schedules.shop.daily]\nevery = "1h"', 1, 'is quoted: [schedules."shop.daily"]'),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(text: str, line: int, said: str) -> None:
    told = complaint(text)

    assert told.startswith(f"shop.toml:{line}: "), told
    assert said in told
    assert "\n" not in told


def test_all_mistakes_are_told_at_once_by_line_and_ten_at_most() -> None:
    told = complaint(f'zon = "UTC"\n{A}grase = 1\n\n[schedules.b]\nevery = "soon"\ncall = "a:b"')
    assert [line.split(":")[1] for line in told.splitlines()] == ["1", "5", "8"]
    told = complaint('[schedules.a]\ncall = "a"\ncron = "soon"\noverlap = "skp"')
    assert [line.split(":")[1] for line in told.splitlines()] == ["2", "3", "4"]

    many = "".join(f'[schedules.a{number}]\nevery = "soon"\ncall = "a:b"\n' for number in range(25))
    assert len(complaint(many).splitlines()) == 11
    assert complaint(many).endswith("… and 15 more mistakes")


def test_what_is_no_toml_is_told_with_its_line() -> None:
    assert "it is no TOML: " in complaint("[schedules.a\n")
    assert "(at line 2" in complaint('[schedules.a]\nevery = "1h\n')
    assert complaint("[]").endswith("it has no object 'schedules'")


def test_a_secret_in_a_header_is_not_shown() -> None:
    told = complaint('[schedules.a]\nevery = "1h"\nhttp = "https://x"\nheaders = { A = "pässword" }')

    assert "pässword" not in told


@given(
    st.lists(
        st.sampled_from(['x = """\n[a]\nb = 1\n"""', "# b = 2", "", "y = [\n 1,\n]", "c.d = 1"]), unique=True
    )
)
def test_the_line_of_a_key_is_found_whatever_stands_around_it(before: list[str]) -> None:
    text = "\n".join([*before, "[a]", "b = [", "  1,", "]", "e = 1"])
    begins = len("\n".join([*before, ""]).split("\n")) if before else 1

    assert line_of(text, ("a",)) == begins
    assert line_of(text, ("a", "b", 0)) == begins + 1
    assert line_of(text, ("a", "e")) == begins + 4
    assert line_of(text, ("a", "f")) is None


# --- the page -------------------------------------------------------------------------------------------


def test_the_page_of_manifests_has_every_key_and_every_foreign_word() -> None:
    page = (DOCS / "reference" / "manifest.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")}

    assert set(KEYS) - set(POLICY) | FOREIGN.keys() <= rows
    assert rows <= {*KEYS, *FOREIGN, "format", "owner", "revision", "defaults", "schedules"}
