"""What redbeat keeps in Redis, read and never written: entries, their last runs, and whether one still runs.

    redbeat::schedule    a sorted set of the keys of all entries: what is not in it, redbeat does not send
    redbeat:NAME         a hash: ``definition`` and ``meta``, JSON in which a ``__type__`` names an object
    redbeat::lock        held by the beat that runs

Needs no redbeat and no Celery. What redbeat means otherwise than onebeat is said in a note; an entry that
cannot be meant is a problem of itself alone.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Self
from urllib.parse import urlsplit

from onebeat.celery.entries import read_entries
from onebeat.celery.importing import Found
from onebeat.celery.whens import NOTE_PERIOD, When, crontab, every
from onebeat.core.errors import InvalidInput, OnebeatError, Refused, StoreError, StoreUnavailable, shown
from onebeat.core.triggers import rrule, zone
from onebeat.store.redis.address import SCHEMES, address_of
from onebeat.store.redis.server import Server

NOTE_NEVER = (
    "it has never run: redbeat would send it at once; here its first run is its next occurrence, and onebeat "
    "schedule run asks for one before"
)
NOTE_OFFSET = (
    "redbeat keeps the offset of a rule and not its zone, so it does not follow summer time, there and here; "
    "for one that does, write it anew with --zone"
)
"""Said of rules that do not count in UTC."""

_DEFINITION = ("task", "args", "kwargs", "options")
_CRONTAB = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
_FREQS = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_PARTS = {
    "interval": "INTERVAL",
    "count": "COUNT",
    "bysetpos": "BYSETPOS",
    "bymonth": "BYMONTH",
    "bymonthday": "BYMONTHDAY",
    "byyearday": "BYYEARDAY",
    "byweekno": "BYWEEKNO",
    "byhour": "BYHOUR",
    "byminute": "BYMINUTE",
    "bysecond": "BYSECOND",
}


class Redbeat:
    """A Redis in which redbeat keeps its schedule. Use it in a ``with``."""

    def __init__(self, url: str, prefix: str) -> None:
        if urlsplit(url).scheme not in SCHEMES:
            known = ", ".join(f"{each}://" for each in SCHEMES)
            raise InvalidInput(f"{shown(urlsplit(url).scheme)} begins no Redis URL; {known} do")
        address = address_of(url)
        hosts = ",".join(f"{host}:{port}" for host, port in address.hosts)
        self.place = f"redbeat in {hosts}/{address.db} under {prefix!r}"
        self._prefix = prefix
        self._server = Server(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def refuse_running(self) -> None:
        """Raise Refused while a beat holds the lock: both would send what comes due."""
        lock = f"{self._prefix}:lock"
        left = int(self._asked("PTTL", lock))
        if left == -2:
            return
        until = "" if left < 0 else f", for {left // 1000} s more"
        raise Refused(
            f"a redbeat holds {lock} in {self.place}{until}: it runs, and would send what onebeat sends. "
            f"Stop every beat in order (SIGTERM), which lets go of it; of one that was killed, delete {lock}"
        )

    def found(self, *, zone_name: str, guarded: bool) -> Found:
        """Return all entries; ``zone_name`` is the timezone of the Celery app. ``guarded``: its workers are.

        Raises InvalidInput where redbeat keeps nothing, StoreUnavailable where nothing answers.
        """
        key = f"{self._prefix}:schedule"
        kind = self._asked("TYPE", key)
        if kind != "zset":
            what = "no" if kind == "none" else f"a {kind} and no sorted set"
            raise InvalidInput(
                f"{self.place}: there is {what} {key}, in "
                "which redbeat keeps what it sends; look at the URL, the number of the database in it, and "
                "--prefix"
            )
        rows: dict[str, Mapping[str, Any] | OnebeatError] = {}
        ran: dict[str, datetime] = {}
        disabled = set()
        for member in self._asked("ZRANGE", key, "0", "-1"):
            entry = str(member).removeprefix(self._prefix)
            try:
                row, last = self._read(str(member), zone_name)
            except StoreUnavailable:
                raise
            except OnebeatError as error:
                rows[entry] = error
                continue
            if row.pop("enabled") is False:
                disabled.add(entry)
            if last is not None:
                ran[entry] = last
            rows[entry] = row
        return Found(read_entries(rows, zone=zone_name, guarded=guarded), ran, frozenset(disabled))

    def _read(self, key: str, zone_name: str) -> tuple[dict[str, Any], datetime | None]:
        """Return an entry as ``read_entries`` takes it, and when it ran last."""
        text, meta = self._asked("HMGET", key, "definition", "meta")
        if not text:
            raise InvalidInput(f"there is no definition in {key}, so redbeat would forget it")
        given = _mapping("definition", text)
        row = {name: given.get(name) for name in _DEFINITION}
        row["options"] = _options(row["options"])
        row["enabled"] = given.get("enabled", True)
        when = _when(given.get("schedule"), zone_name)
        last = _mapping("meta", meta).get("last_run_at") if meta else None
        row["schedule"] = when if last is not None else when._replace(notes=(*when.notes, NOTE_NEVER))
        return row, None if last is None else _instant(last)

    def _asked(self, *command: str) -> Any:
        try:
            return self._server.ask(*command)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.place}: {error}") from error
        except StoreError as error:
            what = f"{command[1]} is no hash of redbeat's" if "WRONGTYPE" in str(error) else str(error)
            raise InvalidInput(f"{self.place}: {what}") from error


# --- JSON, and what stands in it --------------------------------------------------------------------------


def _mapping(what: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"its {what} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"its {what} is {shown(found)}, and no mapping")
    return found


def _options(given: Any) -> Any:
    """Return options; an instant in them is one."""
    if not isinstance(given, dict):
        return given
    typed = {
        name: _instant(value)
        for name, value in given.items()
        if isinstance(value, dict) and value.get("__type__") == "datetime"
    }
    return given | typed


def _instant(given: Any) -> datetime:
    """Return an instant as redbeat writes it: its parts, and a zone or an offset in seconds."""
    with _meant("an instant", given):
        parts = dict(given)
        if parts.pop("__type__") != "datetime":
            raise ValueError("it is none")
        name = parts.pop("timezone", "UTC")
        where = zone(name) if isinstance(name, str) else timezone(timedelta(seconds=name))
        return datetime(**parts, tzinfo=where).astimezone(UTC)


def _when(given: Any, zone_name: str) -> When:
    kind = given.get("__type__") if isinstance(given, dict) else None
    fields = {name: value for name, value in given.items() if name != "__type__"} if kind else {}
    match kind:
        case "interval":
            with _meant("an interval", given):
                period = timedelta(seconds=fields["every"])
            if fields.get("relative") is True:
                return every(period, zone_name, relative=True)
            return every(period, zone_name)._replace(notes=(NOTE_PERIOD,))
        case "crontab":
            _refuse_others("a crontab", fields, _CRONTAB)
            given_fields = {name: fields.get(name, "*") for name in _CRONTAB}
            return crontab(**given_fields, zone_name=zone_name)
        case "rrule":
            return _rule(fields)
        case _:
            raise InvalidInput(
                f"its schedule is {shown(given)}, and what can be read is an interval, a crontab or an rrule "
                "of redbeat; a class of your own decides by itself when it is due, and onebeat has to know "
                "it beforehand"
            )


def _refuse_others(what: str, fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in fields:
        if name not in known:
            raise InvalidInput(f"{shown(name)} is nothing that {what} has; there are {', '.join(known)}")


@contextmanager
def _meant(what: str, given: Any) -> Iterator[None]:
    """Say of what cannot be understood what it should be."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise InvalidInput(f"{shown(given)} is no {what.partition(' ')[2]}: {error}") from error


# --- rules ------------------------------------------------------------------------------------------------


def _rule(fields: Mapping[str, Any]) -> When:
    """Return what a rule of dateutil means: it counts on a clock with one offset for ever."""
    known = ("freq", *_PARTS, "wkst", "byweekday", "byeaster", "dtstart", "dtstart_tz", "until", "until_tz")
    _refuse_others("a rule", fields, known)
    if fields.get("byeaster") is not None:
        raise InvalidInput(
            "byeaster is no part of RFC 5545; put the days as dates: onebeat schedule edit --trigger"
        )
    with _meant("a rule", fields):
        parts = [f"FREQ={_freq(fields['freq'])}"]
        for name, part in _PARTS.items():
            if fields.get(name) is not None:
                parts.append(f"{part}={_numbers(fields[name])}")
        if fields.get("byweekday") is not None:
            parts.append(f"BYDAY={','.join(map(_weekday, _listed(fields['byweekday'])))}")
        if fields.get("wkst") is not None:
            parts.append(f"WKST={_weekday(fields['wkst'])}")
        if fields.get("until") is not None:
            parts.append(f"UNTIL={datetime.fromtimestamp(fields['until'], UTC):%Y%m%dT%H%M%SZ}")
        start, offset = datetime.fromtimestamp(fields["dtstart"], UTC), float(fields.get("dtstart_tz") or 0)
    notes = (NOTE_OFFSET,) if offset else ()
    return When(rrule(";".join(parts), start=start, zone=_zone_of(offset)), notes)


def _freq(given: Any) -> str:
    return given.upper() if isinstance(given, str) else dict(enumerate(_FREQS))[given]


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _numbers(given: Any) -> str:
    return ",".join(str(int(each)) for each in _listed(given))


def _weekday(given: Any) -> str:
    if isinstance(given, dict):
        number, nth = given["wkday"], given.get("n") or ""
        return f"{nth}{_weekday(number)}"
    return dict(enumerate(_WEEKDAYS))[given]


def _zone_of(minutes: float) -> str:
    """Return the zone whose clock has this offset for ever."""
    hours, rest = divmod(minutes, 60)
    if rest or not -12 <= hours <= 14:
        raise InvalidInput(
            f"its rule counts on a clock {minutes:+g} minutes from UTC, and which zone is meant is not said; "
            "write it anew: onebeat schedule add --rrule … --zone Asia/Kolkata"
        )
    return "UTC" if not hours else f"Etc/GMT{-hours:+g}"  # by POSIX: what is east has a minus
