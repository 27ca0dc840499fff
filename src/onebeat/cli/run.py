"""`onebeat run`: list, show, logs, cancel, retry; the last two in bulk as well."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import click

from onebeat.app.runs import RETRIABLE, RunShown
from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, cut, document, flat, pairs, plural, progress, sure, table
from onebeat.core.codec import to_data
from onebeat.core.durations import span
from onebeat.core.errors import InvalidInput, OnebeatError
from onebeat.core.messages import LogLine
from onebeat.core.model import UNFINISHED, Event, Run

LOG_TAIL = 1000


class Chosen(NamedTuple):
    """Which runs a command is about."""

    schedule: str | None
    tag: str | None
    states: tuple[str, ...] | None
    since: datetime | None
    until: datetime | None

    @property
    def open(self) -> bool:
        """Whether nothing narrows it down."""
        return all(part is None for part in (self.schedule, self.tag, self.since, self.until))


def choosing(command: Any) -> Any:
    """Add the ways to say which runs."""
    for option in reversed(
        (
            click.option("--schedule", "of", metavar="NAME", help="Runs of this schedule."),
            click.option("--tag", metavar="TAG", help="Runs of schedules with this tag."),
            click.option(
                "--state", "states", multiple=True, metavar="STATE", help="In these states; repeatable."
            ),
            click.option("--since", metavar="TIME", help="Due at or after this instant."),
            click.option("--until", metavar="TIME", help="Due before this instant."),
        )
    ):
        command = option(command)
    return command


def _chosen(session: Session, of: str | None, tag: str | None, states: Any, since: Any, until: Any) -> Chosen:
    return Chosen(
        of,
        tag,
        tuple(flat(states)) or None,
        None if since is None else session.instant(since),
        None if until is None else session.instant(until),
    )


@click.group()
def run() -> None:
    """Look at runs, end them, try them again."""


@run.command("list")
@choosing
@click.option("--before", metavar="ID", help="Go on below this run.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many."
)
@common
@given
def list_(session: Session, /, before: str | None, limit: int, **which: Any) -> None:
    """List runs, the newest first.

    Example: onebeat run list --tag billing --state failed --since now-1d
    """
    chosen = _chosen(session, **which)
    runs = session.beat.runs.list(**chosen._asdict(), before=before, limit=limit)
    cells = [
        (
            each.id,
            each.state.value,
            at(session, each.due_at),
            str(each.attempt),
            each.holder or "",
            _last(each),
        )
        for each in runs
    ]
    head = ("run", "state", "due", "attempt", "node", "because")
    document(session, {"runs": runs}, lambda: table(head, cells, "There are no such runs."))


@run.command()
@click.argument("wanted", metavar="ID")
@common
@given
def show(session: Session, wanted: str) -> None:
    """Show one run: what it stands for, each attempt, how it ended, and the last it logged.

    Example: onebeat run show report@20261121T010000Z
    """
    shown = session.beat.runs.show(wanted)
    document(session, shown, lambda: _shown(session, shown))


@run.command()
@click.argument("wanted", metavar="ID")
@click.option(
    "--tail", type=click.IntRange(1), default=LOG_TAIL, show_default=True, help="The last so many lines."
)
@common
@given
def logs(session: Session, wanted: str, tail: int) -> None:
    """Print what a run's body logged, of all attempts.

    Example: onebeat run logs report@20261121T010000Z --tail 20
    """
    lines = session.beat.runs.logs(wanted)[-tail:]
    text = [f"{at(session, line.at)} {line.attempt} {line.level:<8} {line.text}" for line in lines]
    document(session, {"lines": lines}, lambda: "\n".join(text) or "It logged nothing.")


@run.command()
@click.argument("wanted", metavar="[ID]...", nargs=-1)
@choosing
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@common
@given
def cancel(session: Session, /, wanted: tuple[str, ...], yes: bool, reason: str, **which: Any) -> None:
    """End runs: at once where the body has not begun, else the body is told, and decides.

    Example: onebeat run cancel --tag billing --since now-1h --yes
    """
    runs = session.beat.runs
    if wanted:
        ended = [runs.cancel(each, reason=reason) for each in wanted]
        lines = [
            f"{each.id}: {'asked to stop' if each.cancel_requested else each.state.value}" for each in ended
        ]
        document(session, {"runs": ended}, lambda: "\n".join(lines))
        return
    chosen = _narrow(_chosen(session, **which), "cancel")
    states = chosen.states or tuple(state.value for state in UNFINISHED)
    found = list(runs.find(**chosen._replace(states=states)._asdict()))
    if found:
        sure(f"Cancel {plural(len(found), 'run')}?", yes)
    with progress(session, "cancelling", len(found)) as done:
        count = runs.cancel_all(found, reason=reason, progress=done)
    document(session, {"cancelled": count}, lambda: f"{plural(count, 'run')} cancelled, or asked to stop.")


@run.command()
@click.argument("wanted", metavar="[ID]...", nargs=-1)
@choosing
@click.option("--forced", is_flag=True, help="Queue them where overlap would refuse them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@because
@common
@given
def retry(
    session: Session, /, wanted: tuple[str, ...], forced: bool, yes: bool, reason: str, **which: Any
) -> None:
    """Ask for new runs that stand for what finished ones stood for.

    Example: onebeat run retry --tag billing --state failed --since now-1d --yes
    """
    runs = session.beat.runs
    if wanted:
        again = [runs.retry(each, forced=forced, reason=reason) for each in wanted]
        lines = [f"{each.id}: {each.state.value}" for each in again]
        document(session, {"runs": again}, lambda: "\n".join(lines))
        return
    chosen = _narrow(_chosen(session, **which), "retry")
    states = chosen.states or tuple(state.value for state in RETRIABLE)
    found = list(runs.find(**chosen._replace(states=states)._asdict()))
    if found:
        sure(f"Try {plural(len(found), 'run')} again?", yes)
    asked, refused = [], []
    with progress(session, "retrying", len(found)) as done:
        for each in found:
            try:
                asked.append(runs.retry(each.id, forced=forced, reason=reason))
            except OnebeatError as error:
                refused.append({"run": each.id, "code": error.code, "message": str(error)})
            done(1)
    text = [f"{plural(len(asked), 'run')} asked for."]
    text += [f"{each['run']}: {each['message']} [{each['code']}]" for each in refused]
    document(session, {"runs": asked, "refused": refused}, lambda: "\n".join(text))
    if refused:
        raise click.exceptions.Exit(5)


def _narrow(chosen: Chosen, verb: str) -> Chosen:
    if chosen.open:
        raise InvalidInput(f"say which runs to {verb}: their ids, or --schedule, --tag, --since, --until")
    return chosen


# --- how answers look -----------------------------------------------------------------------------------


def _last(each: Run) -> str:
    return cut((each.error or "").strip().rpartition("\n")[2] or each.reason, 50)


def _shown(session: Session, shown: RunShown) -> str:
    each = shown.run
    lasted = (
        None if each.started_at is None or each.finished_at is None else each.finished_at - each.started_at
    )
    fold = each.fold
    return pairs(
        [
            ("run", each.id),
            ("schedule", f"{each.schedule}, definition {each.number}"),
            ("state", each.state.value + (f" ({each.reason})" if each.reason else "")),
            ("waits", shown.waits),
            ("stands for", at(session, each.occurrence_at)),
            ("folds", "" if fold is None else f"{fold.count} from {at(session, fold.first_at)}"),
            ("due", at(session, each.due_at)),
            ("fired", at(session, each.created_at)),
            ("target", each.target),
            ("group", each.exclusive or ""),
            ("attempt", str(each.attempt)),
            ("node", each.holder or ""),
            ("claimed", at(session, each.claimed_at)),
            ("began", at(session, each.started_at)),
            ("ended", at(session, each.finished_at)),
            ("lasted", "" if lasted is None else span(lasted)),
            ("progress", "" if each.progress is None else f"{each.progress[0]} of {each.progress[1]}"),
            ("result", "" if each.result is None else str(to_data(each.result))),
            ("error", (each.error or "").strip()),
            ("events", "\n".join(_events(session, shown.events))),
            ("last lines", "\n".join(_lines(session, shown.lines))),
        ]
    )


def _lines(session: Session, lines: tuple[LogLine, ...]) -> Iterator[str]:
    for line in lines:
        yield f"{at(session, line.at)}  {line.level}  {line.text}"


def _events(session: Session, events: tuple[Event, ...]) -> Iterator[str]:
    for event in events:
        by = f" by {event.actor}" if event.actor else ""
        yield f"{at(session, event.at)}  {event.kind}{by}  {event.reason}".rstrip()
