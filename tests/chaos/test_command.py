"""The words of ``python -m chaos run``: what cannot be meant is told before anything is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.__main__ import MINUTES, main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--minutes", "0"],
            "argument --minutes: '0' is not from 0.01 to 10080: a play has to be",
        ),
        (["--minutes", "0"], "the nearest is 0.01"),
        (["--minutes=-3"], "'-3' is not from 0.01 to 10080"),
        (["--minutes", "nan"], "'nan' is not from 0.01 to 10080"),
        (["--minutes", "inf"], "the nearest is 10080"),
        (["--minutes", "1e9"], "the nearest is 10080"),
        (["--minutes", "3m"], "'3m' is no number from 0.01 to 10080"),
        (["--store", "postgre"], "'postgre' is no kind of store; did you mean 'postgres'?"),
        (["--store", "etcd"], "there are: mariadb, postgres, redis, sqlite"),
        (["--size", "0"], "argument --size: '0' is not from 0.01 to 20: without a load nothing can go wrong"),
        (["--size=-1"], "'-1' is not from 0.01 to 20"),
        (["--size", "nan"], "'nan' is not from 0.01 to 20"),
        (["--nodes", "1"], "argument --nodes: '1' is not from 2 to 64: with one node nobody is left"),
        (["--nodes", "2.5"], "'2.5' is no whole number from 2 to 64"),
        (["--edits=-1"], "argument --edits: '-1' is not from 0 to 10000"),
        (["--edits", "nan"], "'nan' is not from 0 to 10000"),
        (["--engine", "celeri"], "'celeri' is no engine; did you mean 'celery'?"),
        (["--broker", "redis"], "--broker is of a fleet: say --engine celery"),
        (["--engine", "celery", "--broker", "sqs"], "'sqs' is no broker; there are: "),
        (
            ["--engine", "celery", "--store", "mariadb"],
            "a fleet is not played on mariadb",
        ),
        (["--engine", "celery", "--unshared"], "--unshared is not of a fleet"),
        (
            ["--engine", "celery", "--sabotage", "early"],
            "early is not of this engine; there are: ung",
        ),
        (["--engine", "celery", "--only", "node killed"], "no such fault on postgres: 'node killed'"),
        (["--only", "node kiled"], "no such fault on sqlite: 'node kiled'; did you mean 'node killed'?"),
    ],
)
def test_what_cannot_be_meant_is_told_and_nothing_is_begun(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence"

    with pytest.raises(SystemExit) as ended:
        main(["run", "--out", str(folder), *words])

    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert not folder.exists()


def test_the_shortest_and_the_longest_play_are_taken() -> None:
    assert (MINUTES("0.01"), MINUTES("10080")) == (0.01, 10080)
