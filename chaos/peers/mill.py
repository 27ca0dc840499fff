"""`python -m chaos peers [NAME…] --out FOLDER`: evidence in folders, verdicts as JSON."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.machine import described
from tests.servers.running import SERVERS

from chaos.peers.kinds import BY_NAME, KINDS, Kind
from chaos.peers.play import SCHEDULES, Played, plan, play
from chaos.peers.verdict import BOUND, judged

REST_BETWEEN_S = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what a command line may say."""
    parser.add_argument(
        "kinds", nargs="*", type=_named, metavar="NAME", help=f"of {', '.join(BY_NAME)}; all by default"
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="how long each play lasts")
    parser.add_argument("--seed", type=int, default=1, help="what the faults are drawn from")
    parser.add_argument("--out", type=Path, required=True, help="where the evidence goes")
    parser.add_argument("--calm", action="store_true", help="no faults: the control")
    parser.add_argument("--again", action="store_true", help="only judge again what --out holds")


def put_through(given: argparse.Namespace) -> None:
    """Put each product that is named, or all, through one play; write a JSON of each."""
    kinds = given.kinds or KINDS
    if given.again:
        for folder in [given.out / f"{kind.name}-{way}" for kind in kinds for way in ("faults", "calm")]:
            if (folder / "played.json").exists():
                _judge(folder)
        return
    SERVERS.own()
    try:
        for kind in kinds:
            _play(kind, given)
            time.sleep(REST_BETWEEN_S)
    finally:
        SERVERS.leave()


def _named(name: str) -> Kind:
    if name not in BY_NAME:
        raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


class _Kept(msgspec.Struct):
    """A play as it is kept beside its evidence: all that it takes to judge it again."""

    name: str
    minutes: float
    seed: int | None
    machine: dict[str, object]
    played: Played


def _play(kind: Kind, given: argparse.Namespace) -> None:
    folder = given.out / f"{kind.name}-{'calm' if given.calm else 'faults'}"
    folder.mkdir(parents=True)
    seconds = given.minutes * 60
    slots = [] if given.calm else plan(given.seed, seconds)
    print(f"{folder.name}: {seconds:.0f} s, {len(slots)} slots", file=sys.stderr, flush=True)

    def say(line: str) -> None:
        print(f"  {time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    machine = described(folder)
    played = play(kind, folder.resolve(), seconds, slots, say)
    kept = _Kept(
        kind.name, given.minutes, None if given.calm else given.seed, machine, played._replace(lines=[])
    )
    (folder / "played.json").write_bytes(msgspec.json.encode(kept))
    _judge(folder)


def _judge(folder: Path) -> None:
    kept = msgspec.json.decode((folder / "played.json").read_bytes(), type=_Kept)
    kind = BY_NAME[kept.name]
    played = kept.played._replace(lines=(folder / "effects").read_text().splitlines())
    result = {
        "product": kind.title,
        "name": kind.name,
        "packages": kind.packages,
        "settings": kind.settings,
        "minutes": kept.minutes,
        "seed": kept.seed,
        "began_at": datetime.fromtimestamp(played.begin, UTC).isoformat(timespec="seconds"),
        "bound_s": BOUND.total_seconds(),
        "machine": kept.machine,
        **judged(played, SCHEDULES, anchored=kind.anchored),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    folder.with_name(f"{folder.name}.json").write_text(_in_lines(text) + "\n", encoding="utf-8")
    print(f"{folder.name} {result['counts']}", file=sys.stderr)
    print(f"  {result['lateness_ms']} silence {result['longest_silence_s']}", file=sys.stderr, flush=True)


def _in_lines(text: str) -> str:
    """Put each list of numbers on one line: a file that is kept should be short, and show what changed."""
    return re.sub(r"\[[-\d.,\sa-z]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
