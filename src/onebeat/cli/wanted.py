"""What can be said of a schedule on the command line: a when, a what, and every policy."""

import json
import shlex
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from onebeat.cli.session import DurationType, Session
from onebeat.core.codec import from_data
from onebeat.core.definition import BOUNDS, PolicyOptions
from onebeat.core.errors import InvalidInput, shown
from onebeat.core.model import CatchUp, Json, OnLost, Overlap, Policy, Target, TriggerSpec

Command = TypeVar("Command", bound=Callable[..., Any])

WORDS: dict[str, str] = {
    "catch_up": "Which of several owed occurrences fire.",
    "catch_up_max": "With all: how many fire at most; the last one stands for the rest.",
    "grace": "How late an occurrence may be and still fire.",
    "overlap": "What becomes of an occurrence while runs are unfinished.",
    "max_running": "How many unfinished runs there may be.",
    "queue_max": "How many runs may wait.",
    "start_within": "How long after it was due a run may still begin.",
    "timeout": "How long an attempt may last.",
    "attempts": "How often a run is tried.",
    "backoff": "The pause before the second attempt; doubled each time.",
    "backoff_max": "The longest pause between attempts.",
    "retry_on": "Try again only after an error of this type; repeatable.",
    "on_lost": "What becomes of a run whose node was lost after it had begun.",
    "spread": "A constant delay of this schedule within such a window.",
    "priority": "Which ready runs are claimed first: the higher.",
    "exclusive": "The group, of whose runs one at a time may be out; or none.",
    "alert_after": "An event when a run is unfinished so long after it was due.",
    "report_success": "Leave an event when a run succeeds.",
    "transactional": "Hand the body the transaction in which its run ends.",
    "keep_runs": "How many finished runs are kept.",
    "keep_days": "For how many days they are kept.",
}
"""One sentence for each field of a policy; docs/reference/policies.md has the rest."""

_CHOICES = {"catch_up": CatchUp, "overlap": Overlap, "on_lost": OnLost}


def when(command: Command) -> Command:
    """Add the ways to say when."""
    for option in reversed(
        (
            click.option("--cron", metavar="TEXT", help="A cron expression, e.g. '0 9 * * MON-FRI'."),
            click.option("--every", type=DurationType(), metavar="SPAN", help="A fixed period, e.g. 15m."),
            click.option("--anchor", metavar="TIME", help="With --every: an instant that it goes through."),
            click.option("--at", "once_at", metavar="TIME", help="Once, at an instant."),
            click.option(
                "--in", "once_in", type=DurationType(), metavar="SPAN", help="Once, so long from now."
            ),
            click.option(
                "--rrule", metavar="TEXT", help="A recurrence rule, e.g. 'FREQ=MONTHLY;BYDAY=-1FR'."
            ),
            click.option("--trigger", metavar="JSON", help="Any trigger, as its JSON."),
            click.option(
                "--gap",
                type=click.Choice(["shift", "skip"]),
                help="With --cron or --rrule: in a spring gap.",
            ),
            click.option(
                "--fold",
                type=click.Choice(["first", "second", "both"]),
                help="With --cron or --rrule: in an autumn fold.",
            ),
            click.option("--days", type=click.Choice(["any", "all"]), help="With --cron: of the day fields."),
        )
    ):
        command = option(command)
    return command


def what(command: Command) -> Command:
    """Add the ways to say what runs, and how to find it."""
    for option in reversed(
        (
            click.option("--call", "called", metavar="MODULE:NAME", help="The Python function to call."),
            click.option(
                "--process",
                metavar="MODULE:NAME",
                help="The Python function to call in another process.",
            ),
            click.option("--args", "args", metavar="JSON", help="Its arguments, a JSON list."),
            click.option("--kwargs", "kwargs", metavar="JSON", help="Its keyword arguments, a JSON object."),
            click.option(
                "--shell", metavar="COMMAND", help="A command: split into words as a shell does, run by none."
            ),
            click.option(
                "--env", multiple=True, metavar="NAME=VALUE", help="With --shell: a variable; repeatable."
            ),
            click.option("--cwd", metavar="PATH", help="With --shell: the folder to run it in."),
            click.option("--input", metavar="TEXT", help="With --shell: what it reads."),
            click.option("--http", metavar="URL", help="The URL to send a request to."),
            click.option("--method", metavar="METHOD", help="With --http: POST, or another one."),
            click.option("--body", metavar="TEXT", help="With --http: what to send."),
            click.option("--body-json", metavar="JSON", help="With --http: what to send, as JSON."),
            click.option(
                "--header", multiple=True, metavar="'NAME: VALUE'", help="With --http: a header; repeatable."
            ),
            click.option(
                "--ok", multiple=True, metavar="STATUS", help="With --http: a status of success; repeatable."
            ),
            click.option(
                "--retry-status",
                multiple=True,
                metavar="STATUS",
                help="With --http: a status to try again after; repeatable.",
            ),
            click.option("--redirects", type=int, metavar="N", help="With --http: how many to follow."),
            click.option("--celery", metavar="NAME", help="The Celery task to send, by its name."),
            click.option(
                "--options", metavar="JSON", help="With --celery: options of apply_async, a JSON object."
            ),
            click.option(
                "--unguarded", is_flag=True, default=None, help="With --celery: its workers have no guard."
            ),
            click.option("--queue", metavar="NAME", help="The queue that its runs wait in."),
            click.option("--title", metavar="TEXT", help="What it is called where people read."),
            click.option("--tag", "tags", multiple=True, metavar="TAG", help="Find it by this; repeatable."),
        )
    ):
        command = option(command)
    return command


def how(command: Command) -> Command:
    """Add an option for each field of a policy."""
    for name in reversed(PolicyOptions.__annotations__):
        command = _option(name)(command)
    return command


def _option(name: str) -> Callable[[Command], Command]:
    flag, words = f"--{name.replace('_', '-')}", WORDS[name]
    if name in _CHOICES:
        return click.option(flag, type=click.Choice([member.value for member in _CHOICES[name]]), help=words)
    if name in ("report_success", "transactional"):
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=words)
    if name == "retry_on":
        return click.option(flag, multiple=True, metavar="TYPE", help=words)
    if name == "exclusive":
        return click.option(flag, type=GroupType(), metavar="NAME", default=UNSET, help=words)
    default = {field.name: field.default for field in msgspec.structs.fields(Policy)}[name]
    if name in BOUNDS and isinstance(BOUNDS[name].least, timedelta):
        may_be_none = ", or none" if default is None else ""
        return click.option(
            flag, type=DurationType(), metavar="SPAN", default=UNSET, help=f"{words[:-1]}{may_be_none}."
        )
    return click.option(flag, type=int, metavar="N", help=words)


class GroupType(click.ParamType):  # type: ignore[type-arg]  # it is generic in new versions of click alone
    """The name of a group on the command line."""

    name = "group"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name; None for ``none``."""
        return None if value == "none" else value


class Unset:
    """Stands for an option that was not given, where None can be."""

    def __repr__(self) -> str:
        return "unset"


UNSET = Unset()


def trigger_of(session: Session, said: dict[str, Any]) -> TriggerSpec | None:
    """Take the words of ``when`` out of what was said; return the trigger, None where none was."""
    from onebeat.core.triggers import cron, interval, once, rrule

    names = ("cron", "every", "once_at", "once_in", "rrule", "trigger")
    words = {name: value for name in names if (value := said.pop(name)) is not None}
    shape = {name: value for name in ("gap", "fold", "days") if (value := said.pop(name)) is not None}
    anchor = said.pop("anchor")
    if len(words) > 1:
        raise InvalidInput("only one of --cron, --every, --at, --in, --rrule and --trigger can say when")
    if shape and not words.keys() & {"cron", "rrule"}:
        raise InvalidInput(f"--{', --'.join(shape)} go with --cron")
    if "days" in shape and "rrule" in words:
        raise InvalidInput("--days goes with --cron; a recurrence rule always asks for all of its parts")
    if anchor is not None and "every" not in words:
        raise InvalidInput("--anchor goes with --every")
    match next(iter(words.items()), None):
        case None:
            return None
        case ("cron", text):
            return cron(text, zone=session.option("zone"), **shape)
        case ("every", period):
            return interval(period, anchor=None if anchor is None else session.instant(anchor))
        case ("once_at", text):
            return once(session.instant(text))
        case ("once_in", delay):
            return once(in_=delay)
        case ("rrule", text):
            return _zoned(session, rrule(text, **shape))
        case (_, text):
            return from_data(read_json(text, "--trigger", dict), TriggerSpec)


def previewed(session: Session, what: str | None, rule: str | None, trigger: str | None) -> str | TriggerSpec:
    """Return what is to be shown: a name or a cron text as it is, a rule and JSON as a trigger."""
    from onebeat.core.triggers import rrule

    match [each for each in (what, rule, trigger) if each is not None]:
        case [text] if rule is not None:
            return _zoned(session, rrule(text))
        case [text] if trigger is not None:
            return from_data(read_json(text, "--trigger", dict), TriggerSpec)
        case [text]:
            return text
        case _:
            raise InvalidInput(
                "name a schedule, or say when by one of a cron expression, --rrule and --trigger"
            )


def _zoned(session: Session, spec: TriggerSpec) -> TriggerSpec:
    """Return a trigger in the zone that was named, if it names none."""
    from onebeat.core.triggers import with_zone

    name = session.option("zone")
    return spec if name is None else with_zone(spec, name)


OF_CALL = ("args", "kwargs")
OF_SHELL = ("env", "cwd", "input")
OF_CELERY = ("options", "unguarded")
OF_HTTP = ("method", "body", "body_json", "header", "ok", "retry_status", "redirects")


class Aim(NamedTuple):
    """What shall run, as far as it was said: a target, or the address of a function and its arguments."""

    target: Target | str | None
    args: list[Json] | None = None
    kwargs: dict[str, Json] | None = None

    def new(self) -> Target | None:
        """Return the target of a schedule that is not there yet; None where none was said."""
        from onebeat.core.targets import call, process

        given, kwargs = tuple(self.args or ()), self.kwargs or {}
        if isinstance(self.target, str):
            return call(self.target, *given, **kwargs)
        if self.target is not None and self.target.kind == "process":
            return process(self.target.address, *given, **kwargs)
        return self.target


def target_of(said: dict[str, Any]) -> Aim:
    """Take the words of ``what`` out of what was said."""
    ways = {"call": said.pop("called")} | {way: said.pop(way) for way in ("shell", "http", "celery")}
    words = {
        way: _words(said, names)
        for way, names in (("call", OF_CALL), ("shell", OF_SHELL), ("http", OF_HTTP), ("celery", OF_CELERY))
    }
    process = said.pop("process")
    chosen = [way for way, value in ways.items() if value is not None]
    if len(chosen) + (process is not None) > 1:
        raise InvalidInput("only one of --call, --process, --shell, --http and --celery can say what runs")
    if process is not None:
        chosen, ways["call"] = ["call"], process
    if chosen == ["celery"]:
        words = words | {"celery": words["call"] | words["celery"], "call": {}}
    for way, given in words.items():
        # Arguments alone are an edit's: they are those of the function that the schedule calls.
        if given and chosen != [way] and not (way == "call" and not chosen):
            with_ = "--call, --process or --celery" if way == "call" else f"--{way}"
            raise InvalidInput(f"--{next(iter(given)).replace('_', '-')} goes with {with_}")
    if ways["shell"] is not None:
        return Aim(_command(ways["shell"], words["shell"]))
    if ways["http"] is not None:
        return Aim(_request(ways["http"], words["http"]))
    if ways["celery"] is not None:
        return Aim(_task(ways["celery"], words["celery"]))
    args, kwargs = words["call"].get("args"), words["call"].get("kwargs")
    return Aim(
        ways["call"] if process is None else _in_process(process),
        None if args is None else read_json(args, "--args", list),
        None if kwargs is None else read_json(kwargs, "--kwargs", dict),
    )


def _in_process(address: str) -> Target:
    from onebeat.core.targets import process

    return process(address)


def _words(said: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    taken = {name: said.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None and value != ()}


def _command(text: str, words: dict[str, Any]) -> Target:
    from onebeat.core.targets import shell

    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"--shell {shown(text)} cannot be split into words: {error}") from None
    env = dict(_halves(pair, "=", "--env", "NAME=VALUE") for pair in words.pop("env", ()))
    return shell(argv, env=env or None, **words)


def _request(url: str, words: dict[str, Any]) -> Target:
    from onebeat.core.targets import http

    headers = dict(_halves(pair, ":", "--header", "'NAME: VALUE'") for pair in words.pop("header", ()))
    for option, name in (("ok", "ok"), ("retry_status", "retry_statuses")):
        if option in words:
            words[name] = [int(text) if text.isdecimal() else text for text in words.pop(option)]
    if (text := words.pop("body_json", None)) is not None:
        words["json"] = read_json(text, "--body-json")
    return http(url, headers=headers or None, **words)


def _task(name: str, words: dict[str, Any]) -> Target:
    from onebeat.core.targets import task_of

    args = read_json(words.get("args", "[]"), "--args", list)
    kwargs = read_json(words.get("kwargs", "{}"), "--kwargs", dict)
    options = read_json(words.get("options", "{}"), "--options", dict)
    return task_of(name, args, kwargs, options, guarded="unguarded" not in words)


def _halves(pair: str, sign: str, option: str, form: str) -> tuple[str, str]:
    name, found, value = pair.partition(sign)
    if not found:  # it is not shown: it may be a secret
        raise InvalidInput(f"{option} takes {form}, and what was given has no {sign!r}")
    return name.strip(), value.strip() if sign == ":" else value


def options_of(said: dict[str, Any]) -> dict[str, Any]:
    """Return what else was said, without what was not."""
    return {
        name: value
        for name, value in said.items()
        if value is not UNSET and value != () and (value is not None or _may_be_none(name))
    }


def _may_be_none(name: str) -> bool:
    return name == "exclusive" or (name in BOUNDS and isinstance(BOUNDS[name].least, timedelta))


def read_json(text: str, option: str, kind: type = object) -> Any:
    """Return a JSON value that a person typed, of one kind."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {shown(text)} is no JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = "a list such as '[1, \"two\"]'" if kind is list else "an object such as '{\"days\": 3}'"
        raise InvalidInput(f"{option} {shown(text)} is not {wanted}")
    return value
