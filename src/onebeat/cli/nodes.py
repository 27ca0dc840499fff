"""`onebeat node` and `onebeat doctor`: who serves, and whether all is well."""

import socket

import click

from onebeat.cli.session import Session, common, given
from onebeat.cli.words import at, document, table

UNWELL = 1
UNREADY = 1


@click.group()
def node() -> None:
    """Look at the processes that serve the ledger."""


@node.command("list")
@click.option("--all", "gone", is_flag=True, help="Those that are gone too.")
@common
@given
def list_(session: Session, gone: bool) -> None:
    """List nodes, the most recently seen first.

    Example: onebeat node list
    """
    nodes = session.beat.nodes.list(alive=not gone)
    now = session.now()
    cells = [
        (
            each.id,
            "alive" if each.alive_until > now else "gone",
            ", ".join(each.roles),
            ", ".join(each.queues),
            str(len(each.targets)),
            each.version,
            at(session, each.seen_at),
        )
        for each in nodes
    ]
    head = ("node", "state", "roles", "queues", "targets", "version", "seen")
    document(
        session, {"nodes": nodes}, lambda: table(head, cells, "No node is alive: `onebeat serve` starts one.")
    )


@node.command()
@click.option("--host", metavar="NAME", help="The host's name; by default this one's, as its nodes say it.")
@common
@given
def ready(session: Session, host: str | None) -> None:
    """Ask the ledger whether a node on this host serves: announced, alive, and not about to end.

    The exit status is 0 if one does, 1 if none does. Where the ledger does not answer it is 6, as always, and
    that says nothing about the node.

    Example: onebeat node ready
    """
    host = host or socket.gethostname()
    serving = [
        each for each in session.beat.nodes.list(alive=True) if each.host == host and not each.stopping
    ]
    names = ", ".join(each.id for each in serving)
    words = f"{names} serves." if len(serving) == 1 else f"{names} serve."
    answer = {"ready": bool(serving), "host": host, "nodes": serving}
    document(session, answer, lambda: words if serving else f"No node on {host} serves.")
    if not serving:
        raise click.exceptions.Exit(UNREADY)


@click.command()
@common
@given
def doctor(session: Session) -> None:
    """Look for what is wrong: the store and its durability, clocks, zones, nodes, targets, settings.

    The exit status is 0 unless something is bad.

    Example: onebeat doctor
    """
    complaints = session.beat.doctor()
    cells = [(each.level.upper(), each.about, each.what) for each in complaints]
    width = max(len(about) for _, about, _ in cells)
    lines = [f"{level:<4}  {about:<{width}}  {what}" for level, about, what in cells]
    well = all(each.level != "bad" for each in complaints)
    document(session, {"well": well, "checks": complaints}, lambda: "\n".join(lines))
    if not well:
        raise click.exceptions.Exit(UNWELL)
