"""`python -m chaos.peers [NAME…] --minutes M --seed S --out FOLDER`, and `--calm` for no faults at all."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from bench.machine import described
from tests.servers.running import SERVERS

from chaos.peers.kinds import BY_NAME, KINDS, Kind
from chaos.peers.play import SCHEDULES, Played, plan, play
from chaos.peers.verdict import BOUND, judged

REST_BETWEEN_S = 3.0


def main(words: Sequence[str]) -> None:
    """Put each product that is named, or all, through one play; write a JSON of each."""
    parser = argparse.ArgumentParser(prog="python -m chaos peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_NAME)}; all by default")
    parser.add_argument("--minutes", type=float, default=4.0, help="how long each play lasts")
    parser.add_argument("--seed", type=int, default=1, help="what the faults are drawn from")
    parser.add_argument("--out", type=Path, required=True, help="where the evidence goes")
    parser.add_argument("--calm", action="store_true", help="no faults: the control")
    parser.add_argument("--again", action="store_true", help="only judge again what --out holds")
    given = parser.parse_args(words)
    unknown = set(given.names) - set(BY_NAME)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BY_NAME)}")
    kinds = [BY_NAME[name] for name in given.names] or KINDS
    if given.again:
        for path in sorted(path for kind in kinds for path in given.out.glob(f"{kind.name}-*/played.json")):
            _judge(path.parent)
        return
    SERVERS.own()
    try:
        for kind in kinds:
            _play(kind, given)
            time.sleep(REST_BETWEEN_S)
    finally:
        SERVERS.leave()


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


if __name__ == "__main__":
    main(sys.argv[1:])
