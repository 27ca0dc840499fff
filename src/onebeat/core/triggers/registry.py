"""The open set of triggers: which kinds there are, and how a spec becomes an evaluator.

Kinds of the house register with ``@kind``; kinds from outside are objects of class ``Kind`` under the entry
point group ``onebeat.triggers``, looked up only when an unknown name is met. This room may import model,
errors and messages, and nothing above them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import TypeVar

import msgspec

from onebeat.core.errors import InvalidTrigger, LimitExceeded, near_miss, shown
from onebeat.core.model import Json, TriggerSpec, as_json, utc
from onebeat.core.triggers.protocol import Trigger

GROUP = "onebeat.triggers"
"""The entry point group of kinds from outside. The name of an entry is the kind, its object a ``Kind``."""

BYTES_MAX = 65_536
"""The largest spec, as JSON."""

PARTS_MAX = 100
"""The most triggers that one spec may combine, at every level together."""

DEPTH_MAX = 16
"""How deep combinations may nest."""

Fields = dict[str, Json]
Build = Callable[[Fields], Trigger]
Ends = Callable[[Fields], date | None]
Naming = Callable[[Fields, str], Fields]
Words = Callable[[Fields, str], str]
Struct = TypeVar("Struct", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of trigger is understood.

    ``build`` makes the evaluator from the fields and raises InvalidTrigger for what cannot be meant.
    ``zoned``: the field ``zone`` names the zone to live in, and ``with_zone`` fills it in. ``anchor`` turns
    what is relative to the declaration into instants, given the cut. ``naming`` fills in what hangs on
    the name of the schedule. ``nested`` names the fields that hold
    other specs, one or a list: whatever is said of a whole spec is then said of them too. ``shape`` is what
    ``build`` has ``read_fields`` read: it is learnt here, by the one thread that imports (``learn_nouns``).
    ``ends`` answers the last day that its data is known for, where that is announced year by year.
    ``words`` says the fields as people would, given the language, ``en`` or ``zh``; without it they are shown
    as JSON.
    """

    build: Build
    shape: type[msgspec.Struct] | None = None
    zoned: bool = False
    anchor: Callable[[Fields, datetime], Fields] | None = None
    nested: tuple[str, ...] = ()
    words: Words | None = None
    ends: Ends | None = None
    naming: Naming | None = None

    def __post_init__(self) -> None:
        if self.shape is not None:
            msgspec.json.Decoder(self.shape)


_KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    *,
    shape: type[msgspec.Struct] | None = None,
    zoned: bool = False,
    anchor: Callable[[Fields, datetime], Fields] | None = None,
    nested: tuple[str, ...] = (),
    words: Words | None = None,
    ends: Ends | None = None,
    naming: Naming | None = None,
) -> Callable[[Build], Build]:
    """Register the decorated function as the builder of a kind."""

    def registered(build: Build) -> Build:
        _KINDS[name] = Kind(
            build=build,
            shape=shape,
            zoned=zoned,
            anchor=anchor,
            nested=nested,
            words=words,
            ends=ends,
            naming=naming,
        )
        return build

    return registered


def kind_of(name: str) -> Kind:
    """Return a kind by name. Raises InvalidTrigger, with the nearest name, when nobody provides it."""
    return _KINDS.get(name) or _from_outside(name)


def build(spec: TriggerSpec) -> Trigger:
    """Return the evaluator of a spec. Equal specs share one.

    Raises InvalidTrigger when the spec cannot be understood or never comes, LimitExceeded when it is too
    large.
    """
    return _built(_canonical(spec))


def anchored(spec: TriggerSpec, cut: datetime) -> TriggerSpec:
    """Return the spec with what is relative to its declaration made absolute: "in 30 minutes", "every hour".

    ``cut`` is the instant from which the definition is in force; fill in the zone first. A spec with nothing
    relative is unchanged, so that anchoring twice is harmless. A combination that holds no instant at all,
    past or to come, is refused here: parts that never meet, or one that is wholly excluded. So is a calendar
    or a window alone, which holds every microsecond of its days.

    Raises InvalidTrigger for those, and for what ``build`` refuses.
    """
    cut = utc(cut, "cut")
    build(spec)

    def resolved(each: TriggerSpec, of: Kind) -> Fields:
        return of.anchor(each.fields, cut) if of.anchor else each.fields

    found = _rewritten(spec, resolved)
    if getattr(build(found), "dense", False):
        raise InvalidTrigger(
            f"the {found.kind} {shown(_canonical(found).decode())} holds every microsecond of its days or "
            "hours, so it cannot say when to fire; join it with what does: cron('0 9 * * *') & workdays('CN')"
        )
    for _, each in _parts(found):
        trigger = build(each) if kind_of(each.kind).nested else None
        if trigger and trigger.after(cut) is None and trigger.before(cut) is None:
            raise InvalidTrigger(
                f"the {each.kind} {shown(_canonical(each).decode())} never comes, neither before nor after "
                f"{cut.isoformat()}: its parts leave no instant over; check their zones, days and anchors"
            )
    return found


def named(spec: TriggerSpec, name: str) -> TriggerSpec:
    """Return the spec with what hangs on a name filled in: the slots of ``H`` in cron.

    What has been filled in stays, so that naming twice is harmless.
    """
    _canonical(spec)  # refuses what is too large to be walked

    def settled(each: TriggerSpec, of: Kind) -> Fields:
        return of.naming(each.fields, name) if of.naming else each.fields

    return _rewritten(spec, settled)


def with_zone(spec: TriggerSpec, zone: str) -> TriggerSpec:
    """Return the spec with ``zone`` in every part that lives in a zone and names none."""
    _canonical(spec)  # refuses what is too large to be walked

    def settled(each: TriggerSpec, of: Kind) -> Fields:
        return {**each.fields, "zone": zone} if of.zoned and each.fields.get("zone") is None else each.fields

    return _rewritten(spec, settled)


def calendar_ends(spec: TriggerSpec) -> date | None:
    """Return the last day that every calendar in a spec is announced for; None where none ends.

    What a calendar says of later days is computed: no make-up days, and no days off in exchange for them.
    """
    found = [of.ends(each.fields) for _, each in _parts(spec) if (of := kind_of(each.kind)).ends is not None]
    return min((day for day in found if day is not None), default=None)


def read_fields(of_kind: str, fields: Fields, shape: type[Struct]) -> Struct:
    """Return the fields of a spec as a struct; raise InvalidTrigger for one unknown, missing or mistyped."""
    known = _known(shape)
    for name in fields:
        if name not in known:
            near = near_miss(str(name)[:40], known)
            raise InvalidTrigger(
                f"trigger kind {of_kind!r} has no field {shown(name, 40)}; it has {', '.join(known)}{near}"
            )
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise InvalidTrigger(f"trigger kind {of_kind!r} cannot be read: {error}") from error


@cache
def _known(shape: type[Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(shape))


def nested_spec(value: Json) -> TriggerSpec:
    """Return a spec that is nested in the fields of another. Raises InvalidTrigger if it is none."""
    try:
        return msgspec.convert(value, TriggerSpec)
    except msgspec.ValidationError as error:
        raise InvalidTrigger(f"{shown(value, 40)} is no trigger: {error}") from error


def _canonical(spec: TriggerSpec) -> bytes:
    """Return the one JSON text of a spec, or raise LimitExceeded."""
    try:
        text = msgspec.json.encode(spec, order="deterministic")
    except RecursionError:
        raise LimitExceeded("the trigger nests too deep to be read; make it flat") from None
    except (TypeError, ValueError, UnicodeError) as error:
        raise InvalidTrigger(f"trigger {shown(spec.kind, 40)} is not plain JSON: {error}") from error
    if len(text) > BYTES_MAX:
        raise LimitExceeded(
            f"the trigger {shown(spec.kind, 40)} takes {len(text):,} bytes of JSON; at most {BYTES_MAX:,} "
            "are allowed; several schedules are kinder to whoever has to read it"
        )
    return text


@lru_cache(maxsize=4096)
def _built(text: bytes) -> Trigger:
    spec = msgspec.json.decode(text, type=TriggerSpec)
    for number, (depth, _) in enumerate(_parts(spec), 1):
        if number > PARTS_MAX or depth > DEPTH_MAX:
            raise LimitExceeded(
                f"the trigger {shown(spec.kind, 40)} combines more than {PARTS_MAX} parts, or nests deeper "
                f"than {DEPTH_MAX}; several schedules are kinder to whoever has to read it"
            )
    return kind_of(spec.kind).build(spec.fields)


def _parts(spec: TriggerSpec) -> Iterator[tuple[int, TriggerSpec]]:
    """Yield a spec and everything nested in it, each with its depth, outermost first."""
    rest = [(1, spec)]
    while rest:
        depth, each = rest.pop()
        yield depth, each
        for name in kind_of(each.kind).nested:
            inner = each.fields.get(name)
            rest += [
                (depth + 1, nested_spec(part)) for part in (inner if isinstance(inner, list) else [inner])
            ]


def _rewritten(
    spec: TriggerSpec, change: Callable[[TriggerSpec, Kind], Fields], depth: int = 1
) -> TriggerSpec:
    """Return a spec with its fields, and those of everything nested in it, changed."""
    if depth > DEPTH_MAX:
        raise LimitExceeded(f"the trigger nests deeper than {DEPTH_MAX}; make it flat")
    of = kind_of(spec.kind)
    fields = dict(change(spec, of))

    def inner(value: Json) -> Json:
        return as_json(_rewritten(nested_spec(value), change, depth + 1))

    for name in of.nested:
        if name in fields:
            held = fields[name]
            fields[name] = [inner(part) for part in held] if isinstance(held, list) else inner(held)
    return spec if fields == spec.fields else TriggerSpec(kind=spec.kind, fields=fields)


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InvalidTrigger(
            f"trigger kind {entry.name!r} is provided by {entry.value}, which cannot be loaded: {error}; "
            "install it anew, or uninstall it"
        ) from error


def _from_outside(name: str) -> Kind:
    found: EntryPoints = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            plugin = _loaded(entry)
            if not isinstance(plugin, Kind):
                raise InvalidTrigger(
                    f"trigger kind {name!r} is provided by {entry.value}, which is no trigger Kind"
                )
            return _KINDS.setdefault(name, plugin)
    known = sorted({*_KINDS, *found.names})
    raise InvalidTrigger(
        f"{shown(name, 40)} is no kind of trigger; there are {', '.join(known)}{near_miss(name[:40], known)}"
    )
