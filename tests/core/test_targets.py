"""A command and a request are data that can be meant, or are refused with what, why and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from onebeat import call, celery_task, http, minutes, process, shell
from onebeat.core.acts import Wish, edited
from onebeat.core.codec import from_text, to_text
from onebeat.core.definition import define
from onebeat.core.errors import InvalidInput
from onebeat.core.model import Target
from onebeat.core.targets import checked_target, url_of

URL = "https://example.org/hook?x=1"


# --- commands -------------------------------------------------------------------------------------------


def test_a_command_is_its_program_and_its_words_and_nothing_that_was_not_said() -> None:
    target = shell(("pg_dump", "--file", "a b.sql"))

    assert target == Target(kind="shell", address="pg_dump", args=("--file", "a b.sql"))
    assert target.key == "shell:pg_dump"


def test_what_a_command_is_given_survives_the_ledger() -> None:
    target = shell(["/bin/cat"], env={"PGPASSWORD": "env:PGPASSWORD"}, cwd="/srv", input="一\n")

    assert target.kwargs == {"env": {"PGPASSWORD": "env:PGPASSWORD"}, "cwd": "/srv", "input": "一\n"}
    assert from_text(to_text(target), Target) == target


@pytest.mark.parametrize(
    ("argv", "given", "said"),
    [
        ("pg_dump --file x", {}, "no shell reads it"),
        ([], {}, "no command"),
        (["bin/dump"], {}, "absolute path"),
        (["dump", 3], {}, "no word of a command"),
        (["dump", "a\0b"], {}, "NUL"),
        ([""], {}, "1 to 500"),
        ([7], {}, "address"),
        (["dump"], {"env": {"A-B": "x"}}, "name of a variable"),
        (["dump"], {"env": {"A": 1}}, "no text"),
        (["dump"], {"env": {"A": "env:"}}, "names no variable"),
        (["dump"], {"env": {"ONEBEAT_RUN_ID": "x"}}, "given by onebeat"),
        (["dump"], {"env": ["A=1"]}, "no mapping"),
        (["dump"], {"cwd": "srv"}, "absolute path"),
        (["dump"], {"input": {"a": 1}}, "no text"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(argv: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        shell(argv, **given)


def test_a_near_miss_in_a_stored_command_is_named() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'cwd'"):
        checked_target(Target(kind="shell", address="dump", kwargs={"cw": "/srv"}))


# --- requests -------------------------------------------------------------------------------------------


def test_the_address_of_a_request_is_the_service_alone() -> None:
    # A million one-offs that call a million paths of one service are one target to a node, not a million.
    target = http("https://Example.org:8443/orders/17?x=1")

    assert (target.key, target.args) == ("http:https://example.org:8443", ("/orders/17?x=1",))
    assert url_of(target) == "https://example.org:8443/orders/17?x=1"
    assert http("http://[::1]") == Target(kind="http", address="http://[::1]")


def test_only_what_was_said_of_a_request_is_stored() -> None:
    assert http(URL).kwargs == {}
    assert http(URL, json=None).kwargs == {"json": None}
    assert http(URL, method="PUT", ok=200, retry_statuses=("5xx", 429), redirects=3).kwargs == {
        "method": "PUT",
        "ok": [200],
        "retry_statuses": ["5xx", 429],
        "redirects": 3,
    }


def test_references_stand_for_a_url_and_for_secrets_in_headers() -> None:
    target = http("env:CHAT_HOOK", headers={"Authorization": "Bearer env:TOKEN"})

    assert target.key == "http:env:CHAT_HOOK"
    assert from_text(to_text(target), Target) == target


@pytest.mark.parametrize(
    ("url", "given", "said"),
    [
        ("example.org/hook", {}, "http:// or https://"),
        ("ftp://example.org/hook", {}, "http:// or https://"),
        ("https:///hook", {}, "no host"),
        ("https://exa mple.org/", {}, "no host"),
        ("https://example.org:99999/", {}, "no host"),
        ("https://example.org\\@other.org/", {}, "no URL"),
        ("https://user:secret@example.org/", {}, "a user and a password"),
        (URL + "#top", {}, "fragment"),
        ("https://example.org/a b", {}, "%20"),
        ("https://example.org/" + "x" * 9000, {}, "characters"),
        ("env:", {}, "names no variable"),
        ("env:A-B", {}, "names no variable"),
        (7, {}, "no URL"),
        (URL, {"method": "post"}, "did you mean 'POST'"),
        (URL, {"method": "TRACE"}, "none of"),
        (URL, {"json": 1, "body": "x"}, "one body"),
        (URL, {"body": {"a": 1}}, "json="),
        (URL, {"json": {1, 2}}, "not JSON"),
        (URL, {"headers": {"X Y": "1"}}, "name of a header"),
        (URL, {"headers": {"X": "1\r\nY: 2"}}, "printable ASCII"),
        (URL, {"headers": {"Host": "other.org"}}, "set by onebeat"),
        (URL, {"headers": {"Idempotency-Key": "1"}}, "set by onebeat"),
        (URL, {"headers": {"Authorization": "Bearer env:A-B"}}, "names no variable"),
        (URL, {"headers": ["X: 1"]}, "no mapping"),
        (URL, {"ok": [42]}, "no status"),
        (URL, {"ok": "6xx"}, "no status"),
        (URL, {"ok": []}, "no answer"),
        (URL, {"ok": 2.5}, "no list"),
        (URL, {"retry_statuses": [True]}, "no status"),
        (URL, {"redirects": 11}, "0 to 10"),
        (URL, {"redirects": True}, "0 to 10"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(url: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        http(url, **given)


@pytest.mark.parametrize(
    "stored",
    [
        Target(kind="http", address="https://example.org/path"),
        Target(kind="http", address="https://EXAMPLE.org"),
        Target(kind="http", address="https://example.org", args=("/a", "/b")),
        Target(kind="http", address="https://example.org", args=("//evil@x", 7)),
        Target(kind="http", address="https://example.org", args=("path",)),
        Target(kind="http", address="env:URL", args=("/path",)),
        Target(kind="http", address="https://example.org", kwargs={"header": {}}),
    ],
)
def test_a_stored_request_that_cannot_be_meant_is_refused(stored: Target) -> None:
    with pytest.raises(InvalidInput):
        checked_target(stored)


def test_a_secret_that_was_written_in_the_open_is_not_shown_in_the_error() -> None:
    for wrong in ({"headers": {"Authorization": "s3cret\n"}}, {"headers": {"A": "s3cret"}, "json": {1}}):
        with pytest.raises(InvalidInput) as error:
            http(URL, **wrong)  # type: ignore[arg-type]  # a person without a type checker
        assert "s3cret" not in str(error.value)


def test_a_function_that_moves_to_another_way_of_running_keeps_its_arguments() -> None:
    before = define("0 9 * * *", call("shop.orders:close", 17, fast=True), {})

    def after(target: object) -> Target:
        return edited(before, Wish(None, target, None, None, {}, None)).target  # type: ignore[arg-type]  # any

    assert after(process("shop.orders:close")) == process("shop.orders:close", 17, fast=True)
    assert after(process("shop.orders:close", 18)) == process("shop.orders:close", 18)
    assert after(process("shop.orders:open")) == process("shop.orders:open")
    assert after("shop.orders:open") == call("shop.orders:open", 17, fast=True)


def test_a_function_in_the_place_of_a_command_is_not_called_with_its_words() -> None:
    before = define("0 9 * * *", shell(["pg_dump", "--file", "shop.sql"]), {})

    assert edited(before, Wish(None, "shop.orders:close", None, None, {}, None)).target == call(
        "shop.orders:close"
    )


# --- Celery tasks ---------------------------------------------------------------------------------------


def test_a_celery_task_is_its_name_its_arguments_and_nothing_that_was_not_said() -> None:
    target = celery_task("shop.digest", args=(1, "two"))

    assert target == Target(kind="celery", address="shop.digest", args=(1, "two"))
    assert target.key == "celery:shop.digest"


def test_what_a_celery_task_is_given_survives_the_ledger() -> None:
    target = celery_task(
        "shop.digest",
        kwargs={"to": ["a", "b"]},
        queue="mail",
        priority=5,
        headers={"x-tenant": "a", "n": 1, "none": None},
        expires=minutes(2),
        serializer="json",
        time_limit=30,
        guarded=False,
    )

    assert target.kwargs == {
        "kwargs": {"to": ["a", "b"]},
        "options": {
            "queue": "mail",
            "priority": 5,
            "headers": {"x-tenant": "a", "n": 1, "none": None},
            "expires": 120.0,
            "serializer": "json",
            "time_limit": 30,
        },
        "guarded": False,
    }
    assert from_text(to_text(target), Target) == target


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"que": "mail"}, "no option of a Celery task.*queue"),
        ({"countdown": 5}, "the schedule says when"),
        ({"eta": "2026-11-21T09:00:00Z"}, "the schedule says when"),
        ({"task_id": "a"}, "the run's id is the task's id"),
        ({"link": {"task": "b"}}, "a callback is code"),
        ({"retry": True}, "sent again by onebeat"),
        ({"connection": None}, "object of one process"),
        ({"serializer": "pickle"}, "no pickle"),
        ({"priority": 256}, "0 to 255"),
        ({"priority": True}, "0 to 255"),
        ({"expires": -1}, "when a run is due"),
        ({"expires": "2026-11-21T09:00:00Z"}, "when a run is due"),
        ({"expires": float("inf")}, "JSON|when a run is due"),
        ({"headers": {"onebeat_run": "a"}}, "given by onebeat"),
        ({"headers": {"Onebeat_Run": "a"}}, "given by onebeat"),
        ({"headers": {"a": [1]}}, "a text, a number"),
        ({"headers": ["a"]}, "no mapping"),
        ({"queue": ""}, "no name"),
        ({"queue": "邮" * 86}, "no name"),
        ({"time_limit": 0}, "above 0"),
        ({"ignore_result": 1}, "no yes or no"),
        ({"delivery_mode": 3}, "transient"),
        ({"compression": "a b"}, "gzip"),
        ({"args": "17"}, "no list of arguments"),
        ({"kwargs": [1]}, "no mapping"),
        ({"guarded": "no"}, "no yes or no"),
    ],
)
def test_a_celery_task_that_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        celery_task("shop.digest", **given)


def test_a_celery_target_from_elsewhere_is_held_to_the_same() -> None:
    with pytest.raises(InvalidInput, match="option"):
        checked_target(Target(kind="celery", address="shop.digest", kwargs={"option": {}}))


def test_a_task_without_the_guard_needs_a_schedule_that_lets_runs_overlap() -> None:
    target = celery_task("shop.digest", guarded=False)

    with pytest.raises(InvalidInput, match="overlap='allow'"):
        define("0 9 * * *", target, {})
    assert define("0 9 * * *", target, {"overlap": "allow"}).target == target


def test_an_edit_of_its_keyword_arguments_leaves_a_task_its_options() -> None:
    before = define("0 9 * * *", celery_task("shop.digest", kwargs={"to": "a"}, queue="mail"), {})

    after = edited(before, Wish(None, None, None, {"to": "b"}, {}, "UTC"))
    bare = edited(after, Wish(None, None, (), {}, {}, "UTC"))

    assert after.target == celery_task("shop.digest", kwargs={"to": "b"}, queue="mail")
    assert bare.target == celery_task("shop.digest", queue="mail")
