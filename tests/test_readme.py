"""What the README and the quickstart tell a newcomer to type works, as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from tests.newcomer.serving import ran, serving, wait_for

from onebeat import RunState
from onebeat.demo import report
from onebeat.demo.verdict import Verdict

TOP = Path(__file__).resolve().parent.parent
README = TOP / "README.md"
CHINESE = TOP / "README.zh-CN.md"
QUICKSTART = TOP / "docs" / "tutorial" / "quickstart.md"
SCREENS = 2 * 60


APP = {"ONEBEAT_APP": "beats:beat"}
EXAMPLE_RUN = "greet@20261121T090002Z"
EXAMPLE_TIME = "2026-11-21T09:00:02Z"


def time_of(run: str) -> str:
    """The instant in a run's id, as a person types it."""
    stamp = datetime.strptime(run.partition("@")[2], "%Y%m%dT%H%M%SZ")
    return f"{stamp.isoformat()}Z"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(page: Path) -> list[list[str]]:
    """The onebeat commands of a page, in its order, as they are run here."""
    lines = [
        line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("onebeat ")
    ]
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    return [[sys.executable, "-m", "onebeat", *each] for each in words]


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, QUICKSTART], ids=["readme", "quickstart"])
def test_a_newcomer_can_type_what_stands_there(page: Path, tmp_path: Path) -> None:
    python, typed = blocks(page, "python"), commands(page)
    (tmp_path / "beats.py").write_text(python[0], encoding="utf-8")
    serve, rest = typed[0], typed[1:]
    assert serve[-1] == "serve"
    assert rest

    with serving(tmp_path, serve, **APP) as beat:
        real = EXAMPLE_RUN
        if page is QUICKSTART:
            ended = wait_for(beat, lambda: beat.runs.list(schedule="greet", states=[RunState.SUCCEEDED]))
            real = ended[0].id
        for command in rest:
            words = [word.replace(EXAMPLE_RUN, real).replace(EXAMPLE_TIME, time_of(real)) for word in command]
            done = ran(tmp_path, *words, **APP)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        for block in python[1:]:
            done = ran(tmp_path, sys.executable, "-c", block, **APP)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_the_quickstart_changes_is_on_record(tmp_path: Path) -> None:
    (tmp_path / "beats.py").write_text(blocks(QUICKSTART, "python")[0], encoding="utf-8")
    edit = next(command for command in commands(QUICKSTART) if command[3:5] == ["schedule", "edit"])

    with serving(tmp_path, commands(QUICKSTART)[0], **APP) as beat:
        assert ran(tmp_path, *edit, **APP).returncode == 0
        trail = beat.schedules.trail("greet")
    with serving(tmp_path, commands(QUICKSTART)[0], **APP) as beat:
        kept = beat.schedules.show("greet").schedule.definition.trigger

    assert [change.action for change in trail] == ["schedule.created", "schedule.edited"]
    assert trail[1].reason == "every two seconds is rude"
    assert kept.fields["expression"] == "*/5 * * * * *"  # the edit survives a start of the code that differs


def test_the_demo_in_the_readme_is_told_as_the_demo_tells_it() -> None:
    told = blocks(README, "text")[0]
    ones = Verdict(
        expected=1, owed=1, fired=1, skipped=Counter(paused=1), requested=1, effects=1, again_lost=1, late=[1]
    )
    labels = {line[2:28].rstrip() for line in report.table(ones, [], killed=1, frozen=1)}
    shown = told.partition("What 56 schedules")[2].partition("What `onebeat audit`")[0].splitlines()[2:-1]

    assert shown
    assert {line[2:28].rstrip() for line in shown} <= labels
    assert "Nothing was missed, and nothing doubled." in told


@pytest.mark.parametrize("page", [README, CHINESE], ids=["english", "chinese"])
def test_the_readme_fits_two_screens(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= SCREENS


# --- in Chinese: who changes one of the two changes the other -------------------------------------------


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_what_is_typed_and_printed_is_the_same_in_both_languages() -> None:
    every = r"\w*"  # a block of whatever language, or of none

    assert blocks(CHINESE, every) == blocks(README, every)


@pytest.mark.parametrize(
    "shape",
    [r"^#+ ", r"^\|", r"\]\((?!README)([^)]+)\)", r"`[^`]+`"],
    ids=["headings", "rows", "links", "code"],
)
def test_both_languages_have_the_same(shape: str) -> None:
    found = [Counter(re.findall(shape, prose(page), re.MULTILINE)) for page in (README, CHINESE)]

    assert found[0] == found[1]
    assert found[0]


def test_each_language_leads_to_the_other() -> None:
    assert "](README.zh-CN.md)" in prose(README)
    assert "](README.md)" in prose(CHINESE)


def test_each_word_of_the_glossary_has_one_in_chinese() -> None:
    terms = re.findall(r"^\*\*.+$", (TOP / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert len(terms) > 40
    assert [term for term in terms if not re.fullmatch(r"\*\*[^*]+\*\* · [\u4e00-\u9fff\u3001]+", term)] == []


@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "README.zh-CN.md", "docs/tutorial/quickstart.md"),
        *("examples/README.md", "examples/cluster/README.md"),
    ],
)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (TOP / page).read_text(encoding="utf-8"))

    assert [
        link for link in links if "://" not in link and not (TOP / page).parent.joinpath(link).exists()
    ] == []
