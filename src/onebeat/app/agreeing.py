"""What the nodes of one ledger should agree on: said by each as it announces itself, and compared.

A name says for whom it must be the same, so that only equals are compared: one owner's nodes have one zone,
and those of one revision declare the same; whoever serves a queue has its lease. Nothing of it is about the
guarantee: nodes that differ settle each occurrence once all the same.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from onebeat.app.declaring import Declarations
from onebeat.core.codec import to_text
from onebeat.core.messages import Share
from onebeat.core.ports import Outlet
from onebeat.core.publicdays import calendar_version
from onebeat.core.triggers.walltime import tz_version

DIGITS = 8


def declared(declarations: Declarations, zone: str) -> dict[str, str]:
    """Return what an app says of what it declares; nothing if it declares nothing."""
    owner, wanted = declarations.owner, declarations.wanted
    if not wanted:
        return {}
    digest = hashlib.sha256()
    for name in sorted(wanted):
        digest.update(f"{name} {to_text(wanted[name])}\n".encode())
    return {
        f"the zone of {owner}": zone,
        f"what {owner} declares at revision {declarations.revision}": (
            f"{len(wanted)} schedules ({digest.hexdigest()[:DIGITS]})"
        ),
    }


def served(
    *,
    roles: Sequence[str],
    queues: Sequence[str],
    lease: timedelta,
    share: Share | None,
    durability: str,
    outlets: Iterable[Outlet] = (),
) -> dict[str, str]:
    """Return what a node says of how it serves, and of what its URL and its server say of keeping."""
    said = {"the durability": durability}
    for outlet in outlets:
        said |= {f"the broker of {outlet.kind} runs in queue {queue}": outlet.place for queue in queues}
    if "worker" in roles:
        said |= {f"the lease in queue {queue}": f"{lease.total_seconds():g} s" for queue in queues}
    if "dispatcher" in roles:
        said |= calendars()
    if "dispatcher" in roles and share is not None:
        said["the number of shares"] = str(share.of)
    return said


def calendars() -> dict[str, str]:
    """Return what a process says of the calendars of public holidays; nothing where there are none."""
    version = calendar_version()
    return {} if version is None else {"the calendars of public holidays": f"holidays {version}"}


def data() -> str:
    """Return in words what this process knows of zones and calendars: what the triggers' answers rest on."""
    return ", ".join([f"tzdata {tz_version()}", *calendars().values()])


def differences(said: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    """Yield a sentence for each setting in which those who say it differ. Each is named, with its value."""
    values: dict[str, dict[str, list[str]]] = {}
    for who, settings in said:
        for name, value in settings.items():
            values.setdefault(name, {}).setdefault(value, []).append(who)
    for name, by_value in sorted(values.items()):
        if len(by_value) > 1:
            shown = "; ".join(
                f"{value} on {', '.join(sorted(who))}" for value, who in sorted(by_value.items())
            )
            yield f"{name} differs: {shown}"
