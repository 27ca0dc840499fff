"""The front of the command line: which commands there are, what all of them take, and how they fail.

A command's module is imported when the command is asked for, so `onebeat --help` stays quick however much the
rest grows. An error is one message on stderr with its stable code, and the exit status that belongs to it.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import click

from onebeat._version import __version__
from onebeat.cli.session import Session, places
from onebeat.core.errors import OnebeatError

COMMANDS = {
    "serve": ("serving:serve", "Run a node."),
    "apply": ("declared:apply", "Bring the ledger to what the app, or a file, declares."),
    "diff": ("declared:diff", "Print what apply would do, and do nothing."),
    "export": ("declared:export", "Print definitions as one document."),
    "import": ("importing:imports", "Bring in schedules from elsewhere: a crontab, a Celery beat."),
    "schedule": ("schedule:schedule", "Look at schedules and change them."),
    "run": ("run:run", "Look at runs, end them, try them again."),
    "backfill": ("backfill:backfill", "Ask for runs of past occurrences."),
    "hold": ("firing:hold", "Stop all firing."),
    "release": ("firing:release", "Let firing go on."),
    "preview": ("asking:preview", "Print the next occurrences of a schedule, or of an expression."),
    "why": ("asking:why", "Say what became of one occurrence, and why."),
    "audit": ("asking:audit", "Prove the ledger: gaps, extras, lateness."),
    "inbox": ("inbox:inbox", "Look at what other programs asked for."),
    "node": ("nodes:node", "Look at the processes that serve."),
    "doctor": ("nodes:doctor", "Look for what is wrong."),
    "migrate": ("migrating:migrate", "Make the tables, or bring them up to date."),
    "demo": ("onebeat.demo.command:demo", "Run three nodes, break things, and count."),
}
"""Each command: where it is (in this room, unless the module is named whole), and what it does.

The words stand here so that `onebeat --help` imports none of them.
"""

INTERRUPTED = 130
UNEXPECTED = 1


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    table: Mapping[str, tuple[str, str]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table, which is the order of a person's needs."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        full = module if module.startswith("onebeat.") else f"onebeat.cli.{module}"
        found: click.Command = getattr(importlib.import_module(full), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for a word that is none, say which one was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from onebeat.core.errors import near_miss

            raise click.UsageError(
                f"{error.message.rstrip('.')}{near_miss(args[0], self.table)}", error.ctx
            ) from None


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="onebeat", message="%(prog)s %(version)s")
@places
def cli() -> None:
    """Schedule what runs and when; every occurrence is settled exactly once.

    Example: onebeat schedule add report --cron "0 9 * * MON-FRI" --call shop.reports:send
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its status."""
    session = Session()
    status = run(arguments, session)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    session.close()
    sys.exit(status)


def run(arguments: Sequence[str] | None, session: Session) -> int:
    """Run one command and return its exit status; whatever goes wrong has been said by then."""
    return _told(lambda: _called(arguments, session), session)


def _called(arguments: Sequence[str] | None, session: Session) -> int:
    answer: Any = cli.main(args=arguments, prog_name="onebeat", standalone_mode=False, obj=session)
    return answer if isinstance(answer, int) else 0


def _told(call: Callable[[], int], session: Session) -> int:
    """Run a command; say on stderr why it failed, in one message, and return the exit status."""
    try:
        return call()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("onebeat: interrupted", err=True)
        return INTERRUPTED
    except OnebeatError as error:
        return _failed(session, error.code, str(error), error.exit_status)
    except BrokenPipeError:  # whoever read our output has gone; that is no failure to speak of
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:  # noqa: BLE001 - a person gets a message whatever happens
        if os.environ.get("ONEBEAT_TRACEBACK"):
            traceback.print_exc()
        message = (
            f"{type(error).__name__}: {error}; this is not supposed to happen: with ONEBEAT_TRACEBACK=1 it "
            "shows where, please report it"
        )
        return _failed(session, "unexpected", message, UNEXPECTED)


def _failed(session: Session, code: str, message: str, status: int) -> int:
    if session.as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        click.echo(f"onebeat: {message} [{code}]", err=True)
    return status
