"""`onebeat import`: schedules from elsewhere, a plan first."""

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import click

from onebeat.cli.main import Commands
from onebeat.cli.planned import counted, gone, paragraph, reasons, refuse_pruning, told
from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import cut, plural, table, trigger_words
from onebeat.core.errors import InvalidInput, Refused
from onebeat.core.messages import ScheduleQuery
from onebeat.core.model import Definition, Noun
from onebeat.core.reconcile import Step, Verb
from onebeat.importers.crontab import TAG, read_crontab
from onebeat.importers.findings import Crontab, Note, Problem, Setting
from onebeat.importers.machine import machine_zone
from onebeat.importers.naming import names_for


class Importers(Commands):
    """The commands of the group, each imported when it is asked for: one may need a library of its own."""

    table: Mapping[str, tuple[str, str]] = {
        "crontab": ("importing:crontab", "Bring in the lines of a crontab."),
        "celery-beat": ("celery_beats:celery_beat", "Bring in the beat_schedule of a Celery app."),
        "redbeat": ("celery_beats:redbeat", "Bring in what redbeat keeps in Redis."),
        "django-celery-beat": ("celery_beats:django_celery_beat", "Bring in what django-celery-beat keeps."),
    }


@click.group("import", cls=Importers)
def imports() -> None:
    """Bring in schedules from elsewhere: the lines of a crontab, what a Celery beat sends."""


class Planned(Noun, frozen=True, kw_only=True):
    """What becomes of a line: the schedule that it is, what happens with it and why."""

    line: int
    schedule: str
    what: Verb
    why: str
    user: str | None
    definition: Definition


class Plan(Noun, frozen=True, kw_only=True):
    """What becomes of a crontab. ``gone`` are schedules of its owner that no line declares any more."""

    file: str
    form: str
    unsure: str | None
    zone: str
    zone_from: str
    owner: str
    applied: bool
    lines: tuple[Planned, ...]
    gone: tuple[Step, ...]
    settings: tuple[Setting, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    warnings: tuple[str, ...] = ()


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--apply", "does", is_flag=True, help="Do it; without this the plan is printed, and no more.")
@click.option(
    "--system/--user",
    "system",
    default=None,
    help="Lines name a user before the command, as in /etc/crontab; or they do not. Else it is found out.",
)
@click.option("--owner", default=TAG, show_default=True, metavar="OWNER", help="Whose declarations they are.")
@click.option("--prune", is_flag=True, help="Remove what the file declares no more.")
@click.option("--force", is_flag=True, help="Let the file win over what people changed.")
@because
@common
@given
def crontab(
    session: Session,
    file: BinaryIO,
    does: bool,
    system: bool | None,
    owner: str,
    prune: bool,
    force: bool,
    reason: str,
) -> None:
    """Bring in the lines of a crontab ('-': stdin): print the plan, and do it with --apply.

    The exit status is 1 if a line could not be imported; the others are.

    Example: onebeat import crontab /etc/cron.d/shop --zone Europe/Berlin --apply
    """
    zone = session.option("zone")
    here = (zone, "--zone or ONEBEAT_ZONE") if zone is not None else machine_zone()
    place = str(getattr(file, "name", "<stdin>"))
    read = read_crontab(file.read(), here[0], place=place, system=system)
    wanted = _named(session, read, owner)
    applied: Sequence[Step]
    warnings: tuple[str, ...] = ()
    if does:
        _refuse_unsure(session, read, place, owner, prune)
        done = session.beat.apply(prune=prune, force=force, reason=reason, definitions=wanted, owner=owner)
        applied, warnings = done.steps, done.warnings
    else:
        applied = session.beat.diff(prune=prune, force=force, definitions=wanted, owner=owner)
    steps = {step.name: step for step in applied}
    plan = Plan(
        file=place,
        form=read.form,
        unsure=read.unsure,
        zone=here[0],
        zone_from=here[1],
        owner=owner,
        applied=does,
        lines=tuple(
            Planned(
                line=entry.line,
                schedule=name,
                what=steps[name].verb,
                why=steps[name].why,
                user=entry.user,
                definition=entry.definition,
            )
            for name, entry in zip(wanted, read.entries, strict=True)
        ),
        gone=tuple(step for step in applied if step.name not in wanted),
        settings=read.settings,
        problems=read.problems,
        notes=read.notes,
        warnings=warnings,
    )
    told(session, plan, lambda: _words(session, plan))


def _named(session: Session, read: Crontab, owner: str) -> dict[str, Definition]:
    """Return the definitions of all entries by name, in the order of the lines."""
    store, rows, after = session.beat.store, [], ""
    while page := store.schedules(ScheduleQuery(owner=owner, deleted=True, after=after)):
        rows += page
        after = page[-1].name
    definitions = [entry.definition for entry in read.entries]
    names = names_for(
        definitions,
        rows,
        lambda name: bool(store.schedules(ScheduleQuery(names=(name,), deleted=True, limit=1))),
    )
    return dict(zip(names, definitions, strict=True))


def _refuse_unsure(session: Session, read: Crontab, place: str, owner: str, prune: bool) -> None:
    """Raise where applying might do what nobody meant."""
    if read.unsure is not None:
        raise InvalidInput(f"{place} may have a user column or not: {read.unsure}")
    if not prune:
        return
    if broken := [problem for problem in read.problems if problem.broken]:
        lines = ", ".join(str(problem.line) for problem in broken[:10])
        refuse_pruning(f"line {lines} of {place}")
    if not read.entries and session.beat.schedules.list(owner=owner, limit=1):
        raise Refused(
            f"{place} declares nothing, so --prune would remove every schedule of {owner}; if that is meant, "
            "use onebeat schedule delete"
        )


# --- in words ---------------------------------------------------------------------------------------------


def _words(session: Session, plan: Plan) -> list[str]:
    """Return the paragraphs of a plan."""
    head = f"{plan.file}: {plan.form}; times in {plan.zone} ({plan.zone_from}) unless CRON_TZ says otherwise."
    if plan.unsure is not None:
        head += f"\nUnsure: {plan.unsure}. --apply waits for it."
    rows = [
        (
            str(line.line),
            line.what.value,
            line.schedule,
            trigger_words(session, line.definition.trigger),
            line.definition.target.args[1],
        )
        for line in plan.lines
    ]
    said = [head, table(("line", "what", "schedule", "when", "command"), rows, "No line is a schedule.")]
    said += [*reasons(plan.lines), *gone(plan, "No line declares any more:")]
    if plan.settings:
        names = ", ".join(f"{setting.name} (line {setting.line})" for setting in plan.settings)
        said.append(f"Settings: {names}.")
    lines = [f"  line {problem.line}: {problem.why}\n    {cut(problem.text)}" for problem in plan.problems]
    said += paragraph("Not imported:", lines)
    said += paragraph("Notes:", [f"  {_where(note)}{note.text}" for note in plan.notes])
    return [*said, counted(plan, plan.lines, plural(len(plan.problems), "line"))]


def _where(note: Note) -> str:
    if not note.lines:
        return ""
    shown = ", ".join(str(line) for line in note.lines[:10])
    rest = f" and {len(note.lines) - 10} more" if len(note.lines) > 10 else ""
    return f"{'line' if len(note.lines) == 1 else 'lines'} {shown}{rest}: "
