"""`onebeat hold` and `onebeat release`: all firing stops, and goes on."""

import click

from onebeat.cli.schedule import because
from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, document


@click.command()
@because
@common
@given
def hold(session: Session, reason: str) -> None:
    """Stop all firing, of every schedule. Runs go on; what is owed meets catch-up after the release.

    Example: onebeat hold --reason "the database moves"
    """
    before = session.beat.hold(reason)
    data = {"held": True, "before": before}
    if before is None:
        document(session, data, lambda: "All firing is held; `onebeat release` lets it go on.")
    else:
        said = f"It was held already, by {before.actor} since {at(session, before.since_at)}."
        document(session, data, lambda: said)


@click.command()
@common
@given
def release(session: Session) -> None:
    """Let firing go on after a hold.

    Example: onebeat release
    """
    before = session.beat.release()
    data = {"held": False, "before": before}
    if before is None:
        document(session, data, lambda: "Nothing was held.")
    else:
        document(session, data, lambda: f"Firing goes on; it was held since {at(session, before.since_at)}.")
