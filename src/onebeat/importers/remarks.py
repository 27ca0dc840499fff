"""What is worth saying about a command that comes from a crontab: what is different here, or better. Pure."""

import re
from collections.abc import Iterator

PERCENT = (
    "cron ends the command at the first % and hands it the rest as input, and so it is here; where a "
    "percent sign was meant, as in a date, write \\%"
)
_HINTS = (
    (
        re.compile(r"(^|[\s;&|(/])(flock|setlock|lckdo|run-one)\s"),
        "a lock file holds on one machine only, and runs may be on several; onebeat schedule edit NAME "
        "--overlap skip holds on all of them",
    ),
    (
        re.compile(r"(^|[;&(]\s*)(/bin/)?sleep\s|\bRANDOM\b|\brand\(|\bjot\s+-r\b"),
        "it waits before it begins; onebeat schedule edit NAME --spread 10m does so without a run that "
        "sleeps",
    ),
    (
        re.compile(r"/run/systemd/system"),
        "it does nothing where systemd runs: a timer of systemd does it there",
    ),
    (
        re.compile(r"/anacron\b"),
        "it does nothing where anacron is installed: anacron does it there",
    ),
    (
        re.compile(r">\s*/dev/null(\s*2>\s*(&1|/dev/null))?[\s;)}]*$"),
        "its output is thrown away; a run keeps it, within bounds, where >/dev/null is left out",
    ),
    (
        re.compile(r"\bsudo\s"),
        "sudo asks nobody here; the user of the node needs the right to it without a password",
    ),
    (
        re.compile(r"(^|[^&>])&\s*$"),
        "it goes to the background, so the run ends at once and does not know how it went; take the & away",
    ),
)


def hints(command: str) -> Iterator[str]:
    """Yield what to say about a command."""
    return (text for pattern, text in _HINTS if pattern.search(command))


SWITCHED_OFF = (
    "a node runs commands only where it was started with onebeat serve --shell; until then, runs wait"
)
OVERLAPS = (
    "as with cron, a command is started again while it still runs (overlap=allow); onebeat schedule edit "
    "NAME --overlap skip lets it end first"
)
NOTHING_MADE_UP = (
    "as with cron, nothing is made up for: what is more than a minute late is skipped (catch_up=skip, "
    "grace=1m), a run that finds no node for 10 minutes expires, and one whose node is lost is not begun "
    "again (on_lost=fail)"
)
NO_HOME = (
    "no HOME is set: cron begins in the home of the user, and here a command begins where its node does; "
    "put a line HOME=/… at the top"
)
ONE_NODE = (
    "cron runs these on every machine that has the file, and here each occurrence runs on one node; leave "
    "what looks after a machine itself, such as its logs and packages, to that machine's cron"
)
RUNS_AS = (
    "cron runs these as {0}, and here they run as the user of the node; onebeat schedule edit NAME --queue "
    "{1} keeps them to nodes that serve that queue, started as {0}"
)
NO_LOG_PREFIX = "the '-' before the time keeps cron from logging; here every run is on record"
CARRIAGE_RETURNS = (
    "the lines end as on Windows, which cron takes for a part of the command; here it is left out"
)
BYTE_ORDER = "the file begins with a byte order mark, at which cron would stumble; here it is left out"
NO_NEWLINE = "the last line does not end, for which cron refuses it; here it counts"
TWICE = "the same line stands there more than once, and cron runs each; so does onebeat"
