"""`onebeat schedule`: list, show, add, edit, pause, resume, delete, run, skip-next."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import click

from onebeat.app.choosing import PATTERN, Acted, Chosen
from onebeat.app.desk import Written
from onebeat.app.schedules import Shown
from onebeat.cli.session import Session, common, given
from onebeat.cli.wanted import how, options_of, target_of, trigger_of, what, when
from onebeat.cli.words import (
    at,
    cron_texts,
    document,
    pairs,
    plural,
    progress,
    sure,
    table,
    trigger_words,
    warn,
)
from onebeat.core.codec import to_data
from onebeat.core.errors import InvalidInput
from onebeat.core.model import Json, Schedule, TriggerSpec

because = click.option("--reason", default="", metavar="TEXT", help="Why; the trail keeps it.")
expected = click.option(
    "--expected-version", type=int, metavar="N", help="Only if the schedule is at this version."
)
name = click.argument("name")
CHOICE_SHOWN = 20
REFUSED = 5

Command = TypeVar("Command", bound=Callable[..., Any])


def choosing(*flags: str) -> Callable[[Command], Command]:
    """Add the ways to choose schedules: names and patterns, a tag, an owner; all of them hold."""

    def added(command: Command) -> Command:
        for option in (
            click.option("--owner", metavar="OWNER", help="Those that this owner declares."),
            click.option(*flags, "tagged", metavar="TAG", help="Those that carry this tag."),
            click.argument("names", nargs=-1, metavar="[NAME]..."),
        ):
            command = option(command)
        return command

    return added


@click.group()
def schedule() -> None:
    """Look at schedules and change them; what a command does is in force when it returns."""


@schedule.command("list")
@click.option("--tag", metavar="TAG", help="Only those that carry this tag.")
@click.option("--owner", metavar="OWNER", help="Only those that this owner declares.")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@click.option("--after", default="", metavar="NAME", help="Go on after this name.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most so many."
)
@common
@given
def list_(
    session: Session, /, tag: str | None, owner: str | None, deleted: bool, after: str, limit: int
) -> None:
    """List schedules by name.

    Example: onebeat schedule list --tag billing
    """
    rows = session.beat.schedules.list(tag=tag, owner=owner, deleted=deleted, after=after, limit=limit)
    cells = [
        (
            row.name,
            trigger_words(session, row.definition.trigger),
            at(session, row.next_at),
            state(row),
            row.owner,
        )
        for row in rows
    ]
    head = ("name", "when", "next due", "state", "owner")
    document(session, {"schedules": rows}, lambda: table(head, cells, "There are no schedules."))


@schedule.command()
@name
@common
@given
def show(session: Session, name: str) -> None:
    """Show one schedule: its definition, what comes, what came of it, and what is amiss.

    Example: onebeat schedule show report
    """
    shown = session.beat.schedules.show(name)
    document(session, shown, lambda: _shown(session, shown))


@schedule.command()
@name
@when
@what
@how
@click.option(
    "--if-exists",
    type=click.Choice(["error", "replace", "ignore"]),
    default="error",
    show_default=True,
    help="Where the name is taken.",
)
@click.option("--paused", is_flag=True, help="Begin paused.")
@click.option("--run-now", is_flag=True, help="Ask for one run at once, beside the schedule.")
@because
@common
@given
def add(
    session: Session, /, name: str, if_exists: Any, paused: bool, run_now: bool, reason: str, **said: Any
) -> None:
    """Add a schedule.

    Example: onebeat schedule add report --cron "0 9 * * *" --call shop.reports:send --grace 10m
    """
    trigger = trigger_of(session, said)
    target = target_of(said).new()
    if trigger is None or target is None:
        missing = (
            "--cron, --every, --at, --in or --trigger"
            if trigger is None
            else "--call, --process, --shell, --http or --celery"
        )
        raise InvalidInput(f"{name} needs {missing}; see onebeat schedule add --help")
    written = session.beat.schedules.put(
        name,
        trigger,
        target,
        if_exists=if_exists,
        paused=paused,
        run_now=run_now,
        reason=reason,
        **_options(said),
    )
    _written(session, written, "added" if written.changed else "left as it is")
    _zone_taken(session, trigger, [written])


@schedule.command()
@choosing("--tagged")
@when
@what
@how
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def edit(
    session: Session,
    /,
    names: tuple[str, ...],
    tagged: str | None,
    owner: str | None,
    yes: bool,
    reason: str,
    expected_version: int | None,
    **said: Any,
) -> None:
    """Change schedules; what is not mentioned stays. Due until now follows the old, later the new.

    Example: onebeat schedule edit report --cron "30 8 * * *" --grace none
    """
    trigger = trigger_of(session, said)
    aim = target_of(said)
    changes: dict[str, Any] = {
        "trigger": trigger,
        "target": aim.target,
        "args": aim.args,
        "kwargs": aim.kwargs,
    }
    changes |= _options(said)
    written = _acted(
        session,
        _Choice(names, tagged, owner, yes, reason, expected_version),
        partial(session.beat.schedules.edit, **changes),
        partial(Chosen.edit, **changes),
        "edit",
        "edited",
    )
    _zone_taken(session, trigger, written)


def _zone_taken(session: Session, trigger: TriggerSpec | None, written: Sequence[Written]) -> None:
    """Say that a wall time was read in UTC where nobody named a zone, on the command line or in an app."""
    what = {"cron": "cron text", "rrule": "recurrence rule"}.get("" if trigger is None else trigger.kind)
    if trigger is None or what is None or trigger.fields.get("zone") is not None:
        return
    for each in written:
        if each.changed and session.option("app") is None:
            name, zone = each.schedule.name, session.beat.zone
            warn([f"{name}: its {what} is read in {zone}, for no zone was named; --zone does"])
            return


def _options(said: dict[str, Any]) -> Any:
    return options_of(said)


@schedule.command()
@choosing("--tag", "--tagged")
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def pause(session: Session, /, **chosen: Any) -> None:
    """Pause schedules: what comes due is skipped, recorded as paused; runs that there are go on.

    Example: onebeat schedule pause report --reason "the mail server moves"
    """
    one, many = session.beat.schedules.pause, Chosen.pause
    _acted(session, _Choice(**chosen), one, many, "pause", "paused")


@schedule.command()
@choosing("--tag", "--tagged")
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def resume(session: Session, /, **chosen: Any) -> None:
    """Resume paused schedules: what came due meanwhile stays skipped.

    Example: onebeat schedule resume report
    """
    one, many = session.beat.schedules.resume, Chosen.resume
    _acted(session, _Choice(**chosen), one, many, "resume", "resumed")


@schedule.command()
@choosing("--tag", "--tagged")
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def delete(session: Session, /, **chosen: Any) -> None:
    """Delete schedules: waiting runs are cancelled, others go on, history stays as long as it is kept.

    Example: onebeat schedule delete report --yes
    """
    choice = _Choice(**chosen)
    if not choice.wide and choice.names:
        sure(f"Delete {', '.join(choice.names)}?", choice.yes)
    _acted(session, choice, session.beat.schedules.delete, Chosen.delete, "delete", "deleted")


@schedule.command("skip-next")
@choosing("--tag", "--tagged")
@click.option("--undo", is_flag=True, help="Take the latest mark back: that occurrence fires.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@expected
@common
@given
def skip_next(session: Session, /, undo: bool, **chosen: Any) -> None:
    """Skip the next occurrence that is not skipped yet, when it comes; or, with --undo, let it fire.

    Example: onebeat schedule skip-next report --reason "a holiday"
    """
    schedules, choice = session.beat.schedules, _Choice(**chosen)
    if undo:
        _acted(session, choice, schedules.unskip, Chosen.unskip, "unmark", "unmarked", _skips)
    else:
        _acted(session, choice, schedules.skip_next, Chosen.skip_next, "mark", "marked", _skips)


@schedule.command("run")
@name
@click.option("--at", "standing", metavar="TIME", help="The occurrence that the run stands for.")
@click.option("--key", metavar="KEY", help="Asked for again under the same key, it is the same run.")
@click.option("--forced", is_flag=True, help="Queue it where overlap would refuse it.")
@because
@common
@given
def run_(
    session: Session,
    name: str,
    standing: str | None,
    key: str | None,
    forced: bool,
    reason: str,
) -> None:
    """Ask for a run now. Settles nothing; no occurrence is lost for it.

    Example: onebeat schedule run report --reason "the boss asks"
    """
    instant = None if standing is None else session.instant(standing)
    run = session.beat.runs.request(name, key=key, at=instant, forced=forced, reason=reason)
    document(session, {"runs": [run]}, lambda: f"{run.id}: {run.state.value}")


# --- how answers look -----------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """Which schedules a command is about, and how sure somebody is of it."""

    names: tuple[str, ...]
    tagged: str | None
    owner: str | None
    yes: bool
    reason: str
    expected_version: int | None

    @property
    def wide(self) -> bool:
        """Whether it may be about more than was typed out: then it is shown first."""
        return bool(self.tagged or self.owner or any(PATTERN & set(name) for name in self.names))


def _acted(
    session: Session,
    choice: _Choice,
    one: Callable[..., Written],
    many: Callable[..., Acted],
    verb: str,
    past: str,
    said: Callable[[Session, Written], str] = lambda session, written: "",
) -> Sequence[Written]:
    """Act on what was chosen: on one name as it is, on more than was typed out after a question."""
    names, reason, version = choice.names, choice.reason, choice.expected_version
    if len(names) == 1 and not choice.wide:
        written = one(names[0], reason=reason, expected_version=version)
        _written(session, written, _became(session, written, past, said))
        return [written]
    if version is not None:
        raise InvalidInput("--expected-version goes with one name")
    chosen = session.beat.schedules.where(*names, tag=choice.tagged, owner=choice.owner)
    if choice.wide and chosen.rows:
        _show_choice(session, chosen)
        sure(f"{verb.capitalize()} {plural(len(chosen), 'schedule')}?", choice.yes)
    with progress(session, past, len(chosen) or None) as done:
        acted = many(chosen, reason=reason, progress=done)
    if not session.as_json:
        for each in acted.written:
            warn(each.warnings)
    lines = [f"{each.schedule.name}: {_became(session, each, past, said)}" for each in acted.written]
    lines += [f"{each.name}: {each.message} [{each.code}]" for each in acted.refused]
    document(session, acted, lambda: "\n".join(lines) or "There are no such schedules.")
    if acted.refused:
        raise click.exceptions.Exit(REFUSED)
    return acted.written


def _became(session: Session, written: Written, past: str, said: Callable[[Session, Written], str]) -> str:
    return f"{past if written.changed else 'already so'}{said(session, written)}"


def _skips(session: Session, written: Written) -> str:
    skips = ", ".join(at(session, instant) for instant in written.schedule.skips)
    return f"; will skip {skips}" if skips else "; will skip none"


def _show_choice(session: Session, chosen: Chosen) -> None:
    """Say on stderr what a command is about to be done to."""
    if session.as_json:
        return
    rows = chosen.rows[:CHOICE_SHOWN]
    cells = [
        (row.name, trigger_words(session, row.definition.trigger), state(row), row.owner) for row in rows
    ]
    click.echo(table(("name", "when", "state", "owner"), cells, ""), err=True)
    if len(chosen) > len(rows):
        click.echo(f"… and {len(chosen) - len(rows):,} more", err=True)


def _written(session: Session, written: Written, word: str) -> None:
    row = written.schedule
    said = f"{row.name}: {word}"
    if row.next_at is not None:
        said += f"; next due {at(session, row.next_at)}"
    if not session.as_json:
        warn(written.warnings)
    document(session, written, lambda: said)


def state(row: Schedule) -> str:
    """Return in a word how a schedule is."""
    if row.deleted:
        return "deleted"
    if row.quarantined is not None:
        return "quarantined"
    if row.paused is not None:
        return "paused"
    if row.definition.trigger.kind == "on_request":
        return "on request"
    return "active" if row.next_at is not None else "ended"


def _shown(session: Session, shown: Shown) -> str:
    row = shown.schedule
    definition = row.definition
    target = definition.target
    policy: dict[str, Json] = to_data(definition.policy)
    comes = [at(session, instant) for instant in shown.upcoming]
    runs = [f"{run.id}  {run.state.value}" for run in shown.last_runs]
    return pairs(
        [
            ("name", row.name),
            ("title", definition.title),
            ("state", state(row)),
            ("reason", row.quarantined or row.paused or ""),
            ("when", trigger_words(session, definition.trigger)),
            ("cron", "\n".join(cron_texts(definition.trigger))),
            ("calendar ends", "" if shown.calendar_ends is None else shown.calendar_ends.isoformat()),
            ("target", target.key),
            ("arguments", _arguments(list(target.args), target.kwargs)),
            ("queue", target.queue),
            ("policy", ", ".join(f"{key}={value}" for key, value in policy.items()) or "the defaults"),
            ("tags", ", ".join(definition.tags)),
            ("owner", f"{row.owner} at revision {row.revision}" if row.owner else ""),
            ("version", f"{row.version}, definition {row.number}, incarnation {row.incarnation}"),
            ("settled until", at(session, row.settled_until)),
            ("next due", at(session, row.next_at)),
            ("comes at", "\n".join(comes)),
            ("skips", "\n".join(at(session, skip) for skip in row.skips)),
            ("unfinished", f"{shown.load.live} live, {shown.load.waiting} waiting"),
            ("last runs", "\n".join(runs)),
            ("amiss", "\n".join(shown.warnings)),
        ]
    )


def _arguments(args: list[Json], kwargs: dict[str, Json]) -> str:
    said = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return ", ".join(said)
