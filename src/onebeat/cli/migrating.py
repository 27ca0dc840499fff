"""`onebeat migrate`: the ledger's tables."""

import click

from onebeat.cli.session import Session, common, given
from onebeat.cli.words import document


@click.command()
@click.option("--sql", is_flag=True, help="Print what would be done, for an administrator; do nothing.")
@click.option("--finish", is_flag=True, help="Also what nodes of the version before could not bear.")
@common
@given
def migrate(session: Session, sql: bool, finish: bool) -> None:
    """Make the ledger's tables, or bring them up to date, in one transaction. Nodes may go on meanwhile.

    Example: onebeat migrate --sql
    """
    if sql:
        text = session.beat.migration(finish=finish)
        document(session, {"sql": text}, text.rstrip)
        return
    made = session.beat.migrate(finish=finish)
    document(session, {"made": made}, lambda: "\n".join(made) or "The tables are as they should be.")
