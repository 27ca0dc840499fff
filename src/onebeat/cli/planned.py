"""How the plan of an import is said, whatever it was read from: why, what is gone, and how much is to do."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import click

from onebeat.cli.session import Session
from onebeat.cli.words import document, plural, warn
from onebeat.core.errors import Refused
from onebeat.core.reconcile import Step, Verb

UNREADABLE = 1
CHANGES = (Verb.CREATE, Verb.CHANGE, Verb.REMOVE)


class Planned(Protocol):
    """What becomes of one line, or one entry."""

    @property
    def schedule(self) -> str:
        """Return the name of the schedule that it is."""

    @property
    def what(self) -> Verb:
        """Return what happens with that schedule."""

    @property
    def why(self) -> str:
        """Return why."""


class Plan(Protocol):
    """A plan, as far as all are alike."""

    @property
    def applied(self) -> bool:
        """Return whether it was done."""

    @property
    def gone(self) -> tuple[Step, ...]:
        """Return what becomes of schedules that nothing declares any more."""

    @property
    def problems(self) -> Sequence[object]:
        """Return what could not be read."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a person should know beside the plan."""


def told(session: Session, plan: Plan, words: Callable[[], Iterable[str]]) -> None:
    """Print a plan, in words as paragraphs. Raises Exit with a status of its own where something is wrong."""
    if not session.as_json:
        warn(plan.warnings)
    document(session, plan, lambda: "\n\n".join(words()))
    if plan.problems:
        raise click.exceptions.Exit(UNREADABLE)


def refuse_pruning(what: str) -> None:
    """Raise Refused: what cannot be read may have stood for a schedule that pruning would remove."""
    raise Refused(
        f"--prune would remove what {what} stood for before it was broken; mend it, or apply without --prune"
    )


def reasons(planned: Iterable[Planned]) -> Iterator[str]:
    """Yield the paragraph of why, for what is more than new or as declared."""
    lines = [
        f"  {each.what.value} {each.schedule}: {each.why}"
        for each in planned
        if each.what is not Verb.CREATE and each.why != "as declared"
    ]
    yield from paragraph("Why:", lines)


def gone(plan: Plan, head: str) -> Iterator[str]:
    """Yield the paragraph of what nothing declares any more."""
    yield from paragraph(head, [f"  {step.verb.value} {step.name}: {step.why}" for step in plan.gone])


def paragraph(head: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield lines under a head; nothing where there are none."""
    if lines:
        yield "\n".join([head, *lines])


def counted(plan: Plan, planned: Iterable[Planned], unread: str, owed: str = "") -> str:
    """Return how much is to do, or was done."""
    verbs = [each.what for each in planned] + [step.verb for step in plan.gone]
    changes = sum(verb in CHANGES for verb in verbs)
    said = f"{plural(changes, 'schedule')} {'done' if plan.applied else 'to do'}, "
    said += f"{len(verbs) - changes:,} as they are{owed}"
    said += f", {unread} not imported." if plan.problems else "."
    if plan.applied or not changes:
        return said
    return f"{said} Nothing was done; --apply does it."
