"""`onebeat inbox`: what programs in other languages asked for, and what they were answered."""

import click

from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, document, table
from onebeat.core.messages import Entry


@click.command()
@click.option("--waiting", is_flag=True, help="Only those that have no answer yet.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many of each."
)
@common
@given
def inbox(session: Session, waiting: bool, limit: int) -> None:
    """List what other programs asked for: what waits, and then the newest answers.

    Example: onebeat inbox --limit 10
    """
    store = session.beat.store
    entries = store.entries(limit, waiting=True)
    if not waiting:
        entries += store.entries(limit, waiting=False)
    cells = [_cells(session, entry) for entry in entries]
    head = ("entry", "key", "kind", "schedule", "by", "answer", "at", "why")
    document(session, {"entries": entries}, lambda: table(head, cells, "The inbox is empty."))


def _cells(session: Session, entry: Entry) -> tuple[str, ...]:
    answer = entry.answer
    words = (entry.id, entry.key, entry.kind, entry.name, entry.actor)
    if answer is None:
        return (*words, "waits", "", "")
    said = "accepted" if answer.accepted else "refused"
    return (*words, said, at(session, answer.answered_at), answer.why)
