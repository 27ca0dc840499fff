"""`onebeat serve`: a node."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from onebeat.cli.session import DurationType, Session, common, given
from onebeat.cli.words import flat
from onebeat.core.durations import span
from onebeat.core.errors import InvalidInput, shown
from onebeat.core.messages import Share

if TYPE_CHECKING:
    from onebeat.engine.service import Service

LEFT_BEHIND = 1


@click.command()
@click.option(
    "--roles",
    default=("dispatcher,worker",),
    multiple=True,
    envvar="ONEBEAT_ROLES",
    show_default=True,
    metavar="ROLE,…",
    help="dispatcher settles what is due, worker runs it (ONEBEAT_ROLES).",
)
@click.option(
    "--queues",
    default=("default",),
    multiple=True,
    envvar="ONEBEAT_QUEUES",
    show_default=True,
    metavar="NAME,…",
    help="The queues that its worker takes runs from (ONEBEAT_QUEUES).",
)
@click.option(
    "--threads",
    default=10,
    type=click.IntRange(1, 1000),
    envvar="ONEBEAT_THREADS",
    show_default=True,
    metavar="N",
    help="How many bodies run at once on threads (ONEBEAT_THREADS).",
)
@click.option(
    "--coroutines",
    default=1000,
    type=click.IntRange(1, 100_000),
    envvar="ONEBEAT_COROUTINES",
    show_default=True,
    metavar="N",
    help="How many coroutines run at once on one event loop (ONEBEAT_COROUTINES).",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1000),
    envvar="ONEBEAT_PROCESSES",
    metavar="N",
    help="How many bodies run at once in processes (ONEBEAT_PROCESSES). Default: a core each.",
)
@click.option(
    "--modules",
    multiple=True,
    metavar="PREFIX,…",
    help="Modules whose functions it may run, beside what the app declares (ONEBEAT_MODULES).",
)
@click.option(
    "--shell",
    is_flag=True,
    envvar="ONEBEAT_SHELL",
    help="Run commands, too: whatever program a schedule names (ONEBEAT_SHELL).",
)
@click.option(
    "--http-allow",
    multiple=True,
    envvar="ONEBEAT_HTTP_ALLOW",
    metavar="PLACE,…",
    help="Networks and hosts beside the internet that requests may go to (ONEBEAT_HTTP_ALLOW).",
)
@click.option(
    "--http-calls",
    default=1000,
    type=click.IntRange(1, 100_000),
    envvar="ONEBEAT_HTTP_CALLS",
    show_default=True,
    metavar="N",
    help="How many HTTP requests are on their way at once (ONEBEAT_HTTP_CALLS).",
)
@click.option(
    "--lease",
    default="30s",
    type=DurationType(),
    envvar="ONEBEAT_LEASE",
    show_default=True,
    metavar="SPAN",
    help="How long a silent node keeps its runs (ONEBEAT_LEASE).",
)
@click.option(
    "--grace",
    default="30s",
    type=DurationType(),
    envvar="ONEBEAT_GRACE",
    show_default=True,
    metavar="SPAN",
    help="How long runs may go on after SIGTERM (ONEBEAT_GRACE).",
)
@click.option(
    "--share", metavar="I/N", help="Serve these shards first, others a little later: 1/3, 2/3, 3/3."
)
@click.option(
    "--no-migrate", is_flag=True, help="Refuse a ledger whose tables are old, instead of migrating it."
)
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    show_default=True,
    help="What to say on stderr.",
)
@common
@given
def serve(
    session: Session,
    roles: tuple[str, ...],
    queues: tuple[str, ...],
    threads: int,
    coroutines: int,
    processes: int | None,
    modules: tuple[str, ...],
    shell: bool,
    http_allow: tuple[str, ...],
    http_calls: int,
    lease: timedelta,
    grace: timedelta,
    share: str | None,
    no_migrate: bool,
    log_level: str,
) -> None:
    """Run a node until SIGTERM: then it claims nothing new, finishes within the grace, releases the rest.

    Example: onebeat serve --app shop.beat:beat --threads 20
    """
    session.set(modules=",".join((*session.modules, *flat(modules))))
    with _logged_to_stderr_and_runs(log_level):
        beat = session.beat
        beat.allow(*session.modules, shell=shell, http=flat(http_allow))
        beat.migrates = not no_migrate
        orderly = beat.serve(
            flat(roles),
            queues=flat(queues),
            threads=threads,
            coroutines=coroutines,
            http_calls=http_calls,
            processes=processes,
            lease=lease,
            grace=grace,
            share=None if share is None else _share(share),
            ready=lambda service: _ready(session, service, lease),
        )
    if not orderly:
        raise click.exceptions.Exit(LEFT_BEHIND)


@contextmanager
def _logged_to_stderr_and_runs(level: str) -> Iterator[None]:
    """Have what bodies log kept with their runs, and marked with them where a line goes to stderr.

    Who calls the command from a program of their own gets their logging back as it was.
    """
    from onebeat.engine.current import RunLogFilter, RunLogHandler

    stderr = logging.StreamHandler()
    stderr.addFilter(RunLogFilter())
    stderr.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(onebeat_run)s%(message)s"))
    root, keeper = logging.getLogger(), RunLogHandler()
    before, level_before = [*root.handlers], root.level
    if not before:
        root.addHandler(stderr)
        root.setLevel(level.upper())
    if not any(isinstance(handler, RunLogHandler) for handler in before):  # a program may have its own
        root.addHandler(keeper)
    try:
        yield
    finally:
        root.removeHandler(stderr)
        root.removeHandler(keeper)
        root.setLevel(level_before)


def _ready(session: Session, service: "Service", lease: timedelta) -> None:
    facts = session.beat.store.facts()
    logging.getLogger("onebeat").info(
        "%s serves %s (%s); lease %s", service.holder, facts["place"], facts["durability"], span(lease)
    )


def _share(text: str) -> Share:
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 65_536:
        raise InvalidInput(f"--share {shown(text)} is no share; write 1/3 for the first of three")
    return Share(index=int(found[1]) - 1, of=int(found[2]))
