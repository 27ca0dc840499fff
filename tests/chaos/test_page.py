"""The page of results: whole, on its own, every kind of fault named, every number as the JSON has it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos.page import FINDINGS, page, show
from chaos.result import FaultKind, FaultSpan, Lane, Result, Said, Spread, read, write

KINDS = [f"kind {letter} & more" for letter in "abcdefghijklmnopqrstuvwxyz"]
VOID = {"meta", "br", "img", "hr", "link", "input"}


def a_result(**other: Any) -> Result:
    """A result with more kinds of faults than there are colours, and a name that HTML would misread."""
    counts = {"must": 95_461, "may": 12, "fired": 104_233, "bodies": 118_461, "edits_ok": 80_112}
    given = {
        "title": "Onebeat on <Store>",
        "store": "postgres",
        "server": "PostgreSQL 17.5",
        "right": True,
        "began_at": datetime(2026, 11, 22, 9, tzinfo=UTC),
        "seconds": 60.0,
        "minutes": 1.0,
        "seed": 7,
        "command": "python -m chaos run --store postgres --minutes 1 --seed 7",
        "settings": {"nodes": 2, "shared": True, "durability": "fsync=off: what was said may be lost"},
        "machine": {"cpu": "a processor", "versions": {"apsw": "3.54"}},
        "counts": counts | dict.fromkeys(FINDINGS, 0),
        "faults": {kind: FaultKind(count=place + 1, seconds=place + 0.5) for place, kind in enumerate(KINDS)},
        "fault_list": [
            FaultSpan(
                kind=kind, target=["node-0", "the server", "editor"][place % 3], from_s=place, until_s=None
            )
            for place, kind in enumerate(KINDS)
        ],
        "lateness_all": Spread.of([1.5] * 50 + [12_345.6] * 50),
        "lateness_calm": Spread.of([2.5] * 40),
        "began_each_second": [0, 5, 90] * 20,
        "lateness_max_ms_each_second": [0.0, 12.0, 40_000.0] * 20,
        "lanes": [
            Lane(node="node-0.1", from_s=0.5, until_s=20.0, began=[0, 3, 3] * 7),
            Lane(node="node-0.2", from_s=22.0, until_s=60.0, began=[2] * 38),
            Lane(node="node-1.1", from_s=0.0, until_s=60.0, began=[1] * 60),
        ],
        "audit": {"right": True, "expected": 104_233},
    }
    return msgspec.convert(msgspec.to_builtins(Result(**(given | other))), Result)


class Read(HTMLParser):
    """Reads a page strictly: what opens must close, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[str, str, str]] = []  # field, value, words
        self.words: list[str] = []
        self._cell: tuple[str, str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td" and given.get("data-field"):
            self._cell = (str(given["data-field"]), str(given["data-value"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> comes too early"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._cell is not None:
            self.cells.append((*self._cell, data))
            self._cell = None


def test_the_page_is_well_formed() -> None:
    shown = Read(page([a_result(), a_result(title="another")]))

    assert shown.open == []
    assert any("fsync=off" in words for words in shown.words)
    assert "Onebeat on <Store>" in shown.words


def test_the_page_needs_nothing_from_anywhere() -> None:
    text = page([a_result()])
    shown = Read(text)

    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert not re.findall(r"https?://|@import|url\((?!#)", text)


def test_every_kind_of_fault_is_named_in_the_picture_and_in_the_table() -> None:
    text = page([a_result()])
    shown = Read(text)

    for place, kind in enumerate(KINDS):
        assert f"{kind} ×{place + 1}" in shown.words
        assert kind in shown.words
    fills = {given["fill"] for tag, given in shown.tags if tag == "rect" and given.get("class") == "fault"}
    assert len(fills) == len(KINDS)
    drawn = {given["id"] for tag, given in shown.tags if tag == "pattern"}
    assert {fill.removeprefix("url(#").removesuffix(")") for fill in fills if fill} <= drawn


def test_no_two_kinds_look_the_same() -> None:
    patterns = re.findall(r'<pattern id="[^"]*"(.*?)</pattern>', page([a_result()]))

    assert len(patterns) == len(set(patterns)) == len(KINDS)


def field(result: Result, name: str) -> Any:
    """What the JSON has under a name that a cell gives."""
    if name.startswith("faults."):
        kind, _, part = name.removeprefix("faults.").rpartition(".")
        return getattr(result.faults[kind], part)
    if "." in name:
        spread, _, part = name.partition(".")
        return getattr(getattr(result, spread), part)
    return getattr(result, name) if hasattr(result, name) else result.counts[name]


def test_every_number_is_that_of_the_json(tmp_path: Path) -> None:
    counts = {name: number for number, name in enumerate(FINDINGS, 1)}
    result = a_result(right=False, counts=a_result().counts | counts, found={"missing": 1})
    write(result, tmp_path / "result.json")

    shown = Read(page([read(tmp_path / "result.json")]))

    assert {"missed", "doubled", "must", "fired", "lateness_all.p99", "lateness_calm.max"} <= {
        name for name, _, _ in shown.cells
    }
    for name, value, words in shown.cells:
        assert value == str(field(result, name)), name
        digits = float(re.sub(r"[^\d.]", "", words))
        seconds = name.startswith("lateness") and words.endswith(" s")
        assert digits * (1000 if seconds else 1) == pytest.approx(float(value), rel=0.01, abs=0.5), name


def test_a_run_with_a_finding_says_so_in_words() -> None:
    said = Said(kind="missing", schedule="herd-003", at_s=31.0, words="12:00:31 of herd-003: nothing ran")
    counts = a_result().counts | {"missed": 1}

    shown = Read(page([a_result(right=False, counts=counts, found={"missing": 1}, findings=[said])]))

    assert "✗ 1 finding" in shown.words
    assert said.words in shown.words
    assert "1 missed, 0 doubled" in shown.words


def test_a_fault_of_one_node_stands_behind_that_node_and_one_of_all_behind_all() -> None:
    spans = [
        FaultSpan(kind=KINDS[0], target="node-0", from_s=1, until_s=2),
        FaultSpan(kind=KINDS[1], target="the server", from_s=1, until_s=2),
        FaultSpan(kind=KINDS[2], target="editor", from_s=1, until_s=2),
    ]
    text = page([a_result(fault_list=spans)])

    behind = re.findall(r'<rect class="over"[^>]*><title>(kind \w)', text)
    assert sorted(behind) == ["kind a", "kind b", "kind b"]


def test_a_peer_stands_beside_ours_with_its_numbers_and_no_verdict(tmp_path: Path) -> None:
    peer = {
        "product": "Another scheduler ×2",
        "name": "another",
        "packages": "another 1.0",
        "settings": "as its documentation says",
        "minutes": 4.0,
        "seed": 1,
        "bound_s": 30.0,
        "machine": {},
        "counts": {"owed": 2700, "fired": 2650, "missed": 60, "doubled": 8, "phantom": 2, "exits": 3},
        "lateness_ms": {"p50": 12.0, "p90": 40.5, "p99": 900.0, "max": 7000.0},
        "faults": {"process killed": {"count": 4, "seconds": 4.0}},
        "fault_list": [{"kind": "process killed", "target": "beat-0", "from_s": 3.0, "until_s": 4.0}],
        "fired_each_second": [11] * 240,
    }
    (tmp_path / "peer.json").write_bytes(msgspec.json.encode(peer))
    write(a_result(), tmp_path / "ours.json")

    show([tmp_path / "ours.json", tmp_path / "peer.json"], tmp_path / "page.html")

    shown = Read((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Another scheduler ×2" in shown.words
    assert {("missed", "60", "60"), ("doubled", "8", "8"), ("exits", "3", "3")} <= set(shown.cells)
    assert [words for words in shown.words if words.startswith(("✓", "✗"))] == ["✓ sound"]  # ours alone
    assert "0 missed, 0 doubled" in shown.words  # the headline is about ours
