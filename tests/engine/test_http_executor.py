"""Requests go where they may, are told by their answers, and cost what they are allowed to cost."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.engine.service import Service

from onebeat import http
from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.messages import Report, Retry
from onebeat.core.model import Json, Outcome, Target
from onebeat.core.targets import outside_name
from onebeat.engine.attempt import ended
from onebeat.engine.executors import http as module
from onebeat.engine.executors.addresses import Allowed
from onebeat.engine.executors.exchange import BODY_BYTES_MAX
from onebeat.engine.executors.http import HttpExecutor
from onebeat.testing.conformance_executor import ExecutorSuite, Watched, claimed

NODE = {"TOKEN": "t0k-s3cret", "HOOK": "http://127.0.0.1:1/s3cret", "ODD": "two\nlines"}
KIB, MIB = 1024, 1024 * 1024


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    service = Service()
    yield service
    service.let_go()
    service.close()


@pytest.fixture
def service(running: Service) -> Service:
    running.asked.clear()
    running.cut_off.clear()
    running.hold()
    running.sent = 0
    return running


@pytest.fixture
def watched() -> Iterator[Watched]:
    executor = HttpExecutor(slots=4, allow=["127.0.0.1"], environ=NODE)
    yield Watched(executor)
    executor.close()


class TestHttp(ExecutorSuite):
    good_result: ClassVar[Json] = {"status": 200, "body": "all is well"}

    @pytest.fixture(autouse=True)
    def _service(self, service: Service) -> None:
        self.service = service

    def executor(self) -> HttpExecutor:
        return HttpExecutor(slots=4, allow=["127.0.0.0/8"])

    def let_go(self) -> None:
        self.service.let_go()

    def good(self) -> Target:
        return http(self.service.url)

    def bad(self) -> Target:
        return http(self.service.url + "/large/500")

    def large(self) -> Target:
        return http(self.service.url + "/large/200")

    def hangs(self) -> Target:
        return http(self.service.url + "/hang")

    def refused(self) -> Target:
        return http("http://10.0.0.1/")


def asked(watched: Watched, service: Service, target: Target, **policy: Any) -> tuple[Report, Any]:
    """Send one request, and return its report and what arrived."""
    watched.start(target, **policy)
    report = watched.only()
    return report, service.asked[-1] if service.asked else None


# --- whether it may run ---------------------------------------------------------------------------------


def test_without_the_library_nothing_is_resolved_and_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "onebeat.engine.executors.exchange")
    monkeypatch.setitem(sys.modules, "httpcore2", None)

    with pytest.raises(TargetNotFound, match=r"pip install 'onebeat\[http\]'"):
        HttpExecutor().resolve(http("https://example.org/"))


# --- what is sent ---------------------------------------------------------------------------------------


def test_a_request_says_which_run_it_is_and_the_same_key_in_every_attempt(
    watched: Watched, service: Service
) -> None:
    run = watched.start(http(service.url + "/echo/一?x=%20&y=[1]"), token=7).run
    watched.only()
    (sent,) = service.asked

    assert run.occurrence_at is not None
    assert (sent["method"], sent["path"]) == ("POST", "/echo/%E4%B8%80?x=%20&y=[1]")
    assert sent["body"] == ""
    told = {
        name: value for name, value in sent["headers"].items() if name not in ("User-Agent", "Connection")
    }
    assert told == {
        "Host": f"127.0.0.1:{service.port}",
        "Content-Length": "0",
        "Idempotency-Key": outside_name(run.id),
        "Onebeat-Run-Id": run.id,
        "Onebeat-Schedule": "a",
        "Onebeat-Occurrence": run.occurrence_at.isoformat().replace("+00:00", "Z"),
        "Onebeat-Attempt": "1",
        "Onebeat-Token": "7",
    }


@pytest.mark.parametrize(
    ("given", "method", "body", "content_type"),
    [
        ({"json": {"a": ["一"]}}, "POST", '{"a": ["一"]}', "application/json"),
        ({"json": None, "method": "PUT"}, "PUT", "null", "application/json"),
        ({"body": "a=1", "headers": {"content-type": "text/csv"}}, "POST", "a=1", "text/csv"),
        ({"body": "一"}, "POST", "一", "text/plain; charset=utf-8"),
        ({"method": "GET"}, "GET", "", None),
    ],
)
def test_what_was_said_is_sent(
    watched: Watched, service: Service, given: Any, method: str, body: str, content_type: str | None
) -> None:
    _, sent = asked(watched, service, http(service.url + "/echo", **given))

    headers = {name.lower(): value for name, value in sent["headers"].items()}
    assert (sent["method"], sent["body"], headers.get("content-type")) == (method, body, content_type)


def test_a_secret_reaches_the_service_and_is_said_nowhere_else(watched: Watched, service: Service) -> None:
    target = http(service.url + "/status/401", headers={"Authorization": "Bearer env:TOKEN"})

    report, sent = asked(watched, service, target)

    assert sent["headers"]["Authorization"] == "Bearer t0k-s3cret"
    assert "s3cret" not in f"{report}"


def test_an_answer_that_repeats_a_secret_does_not_bring_it_into_the_ledger(
    watched: Watched, service: Service
) -> None:
    target = http(service.url + "/echo", headers={"Authorization": "Bearer env:TOKEN"})

    report, _ = asked(watched, service, target)

    assert report.outcome is Outcome.SUCCEEDED
    assert "s3cret" not in report.result["body"]
    assert json.loads(report.result["body"])["headers"]["Authorization"] == "Bearer env:TOKEN"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (http("http://127.0.0.1/", headers={"A": "env:NOTHING"}), "no variable NOTHING"),
        (http("http://127.0.0.1/", headers={"A": "env:ODD"}), "header A would get"),
        (http("env:NOTHING"), "no variable NOTHING"),
        (http("env:TOKEN"), "is no URL"),
    ],
)
def test_what_a_node_cannot_fill_in_fails_for_good_and_shows_nothing(
    watched: Watched, service: Service, target: Target, said: str
) -> None:
    report, sent = asked(watched, service, target, attempts=3)

    assert report.outcome is Outcome.FAILED
    assert said in (report.error or "")
    assert "s3cret" not in (report.error or "")
    assert "lines" not in (report.error or "")
    assert sent is None


def test_a_url_that_is_a_secret_is_called_and_not_shown(watched: Watched) -> None:
    watched.executor.resolve(http("env:HOOK"))
    watched.start(http("env:HOOK"))

    report = watched.only()
    assert report.error_type == "ConnectError"
    assert (report.error or "").startswith("POST env:HOOK: ConnectError")
    assert "s3cret" not in (report.error or "")


# --- how it ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "given", "policy", "outcome", "error_type", "again"),
    [
        (204, {}, {}, Outcome.SUCCEEDED, "", False),
        (404, {"ok": [200, "4xx"]}, {}, Outcome.SUCCEEDED, "", False),
        (200, {"ok": 201}, {}, Outcome.FAILED, "HTTP 200", False),
        (404, {}, {}, Outcome.FAILED, "HTTP 404", False),
        (503, {}, {}, Outcome.FAILED, "HTTP 5xx", True),
        (429, {}, {}, Outcome.FAILED, "HTTP 429", True),
        (302, {}, {}, Outcome.FAILED, "HTTP 302", False),
        (503, {"retry_statuses": [409]}, {}, Outcome.FAILED, "HTTP 503", False),
        (409, {"retry_statuses": [409]}, {}, Outcome.FAILED, "HTTP 409", True),
        (500, {"retry_statuses": []}, {}, Outcome.FAILED, "HTTP 500", False),
        (404, {}, {"retry_on": ["HTTP 4xx"]}, Outcome.FAILED, "HTTP 4xx", True),
        (503, {}, {"retry_on": ["ConnectError"]}, Outcome.FAILED, "HTTP 503", False),
    ],
)
def test_the_status_says_how_it_ended_and_whether_to_try_again(
    watched: Watched,
    service: Service,
    status: int,
    given: Any,
    policy: Any,
    outcome: Outcome,
    error_type: str,
    again: bool,
) -> None:
    run = watched.start(http(f"{service.url}/status/{status}", **given), attempts=3, **policy)
    report = watched.only()
    assert run.run.started_at is not None
    finish = ended(run.definition.policy, run.run, report, at=run.run.started_at, actor="node")

    assert (report.outcome, report.error_type, report.result["status"]) == (outcome, error_type, status)
    assert isinstance(finish.verdict, Retry) is again
    if outcome is Outcome.FAILED and not again:
        assert finish.verdict.reason == f"{error_type} is not in retry_on"


@pytest.mark.parametrize("path", ["/mute", "/heads"])
def test_an_answer_that_is_none_is_told_and_tried_again(
    watched: Watched, service: Service, path: str
) -> None:
    run = watched.start(http(service.url + path), attempts=2)
    report = watched.only()
    assert run.run.started_at is not None

    assert (report.outcome, report.error_type) == (Outcome.FAILED, "RemoteProtocolError")
    finish = ended(run.definition.policy, run.run, report, at=run.run.started_at, actor="node")
    assert isinstance(finish.verdict, Retry)


def test_nobody_there_is_told_with_the_cause(watched: Watched) -> None:
    watched.start(http("http://127.0.0.1:1/hook"))

    report = watched.only()
    assert report.error_type == "ConnectError"
    assert "Connect call failed" in (report.error or "")


def test_a_body_is_kept_as_far_as_the_limit_and_the_rest_is_not_read(
    watched: Watched, service: Service
) -> None:
    report, _ = asked(watched, service, http(service.url + "/flood"))

    assert report.outcome is Outcome.SUCCEEDED
    assert report.result == {"status": 200, "body": "x" * BODY_BYTES_MAX, "truncated": True}
    assert service.cut_off.wait(10)
    assert service.sent < 16 * MIB


# --- slow, and told to stop -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_a_service_without_an_end_costs_its_timeout_and_no_more(
    watched: Watched, service: Service, path: str
) -> None:
    run = watched.start(http(service.url + path), timeout=5)
    assert run.run.started_at is not None
    watched.executor.overrun(run.run.started_at + timedelta(seconds=5))

    watched.wait(lambda: watched.executor.free() == 4)
    assert watched.executor.reports() == []


def test_a_call_without_a_timeout_has_one(
    watched: Watched, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_MAX", timedelta(milliseconds=50))

    report, _ = asked(watched, service, http(service.url + "/drip"))

    assert (report.outcome, report.error_type) == (Outcome.TIMED_OUT, "Timeout")
    assert service.cut_off.wait(10)


# --- where it may go ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "carrier"),
        ("168.63.129.16", "cloud"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("198.18.0.1", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "private"),
        ("ff02::1", "multicast"),
        ("::ffff:10.1.2.3", "private"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("::10.1.2.3", "private"),
        ("64:ff9b::a01:203", "private"),
        ("64:ff9b:1::1", "reserved"),
        ("2002:a01:203::1", "private"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "reserved"),
        ("4000::1", "reserved"),
    ],
)
def test_an_address_that_is_not_of_the_internet_is_refused_however_it_is_written(
    address: str, what: str
) -> None:
    refusal = Allowed().refusal("service.example", address)

    assert refusal is not None
    assert refusal.startswith(address)
    assert what in refusal
    assert Allowed(["0.0.0.0/0", "::/0"]).refusal("service.example", address) is None


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e", "2002:5db8:d70e::1"]
)
def test_the_internet_is_open(address: str) -> None:
    assert Allowed().refusal("service.example", address) is None


def test_a_network_or_a_host_is_allowed_and_nothing_beside_it() -> None:
    allowed = Allowed(["10.0.0.0/8", "::1", "Internal.example"])

    assert allowed.refusal("a", "10.9.9.9") is None
    assert allowed.refusal("a", "::ffff:10.9.9.9") is None
    assert allowed.refusal("a", "::1") is None
    assert allowed.refusal("internal.EXAMPLE.", "192.168.0.1") is None
    assert allowed.refusal("a.internal.example", "192.168.0.1") is not None
    assert allowed.refusal("a", "11.0.0.1") is None
    assert allowed.refusal("a", "127.0.0.1") is not None


@pytest.mark.parametrize(
    "item", ["10.0.0.0/33", "http://localhost", "10.1", "", "a b", "*.example", "1.2.3.400"]
)
def test_what_names_no_place_cannot_be_allowed(item: str) -> None:
    with pytest.raises(InvalidInput, match="no network"):
        Allowed([item])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "sub.localhost", "[::1]", "[::ffff:10.0.0.1]"])
def test_a_service_that_no_look_up_could_open_is_not_resolved(host: str) -> None:
    with pytest.raises(TargetNotFound, match="ONEBEAT_HTTP_ALLOW"):
        HttpExecutor().resolve(http(f"http://{host}/"))

    HttpExecutor(allow=["127.0.0.0/8", "::1", "10.0.0.0/8", "localhost"]).resolve(http("http://127.0.0.1/"))


class Names:
    """Stands in for DNS: what each look-up of a name answers, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *args: Any, **more: Any) -> Any:
        self.asked.append(host)
        if host not in self.answers:
            return self._real(host, port, *args, **more)
        if not (answers := self.answers[host]):
            raise socket.gaierror(-2, "Name or service not known")
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_a_name_that_leads_inside_is_refused_after_the_look_up_and_for_good(names: Names) -> None:
    watched = Watched(HttpExecutor())
    names.answers["hook.example"] = [["10.0.0.7", "169.254.169.254"]]
    watched.executor.resolve(http("http://hook.example/"))
    run = watched.start(http("http://hook.example/"), attempts=3)

    report = watched.only()
    watched.executor.close()
    assert report.error_type == "AddressRefused"
    assert "10.0.0.7 is private, 169.254.169.254 is link-local" in (report.error or "")
    assert run.run.started_at is not None
    finish = ended(run.definition.policy, run.run, report, at=run.run.started_at, actor="node")
    assert not isinstance(finish.verdict, Retry)


def test_the_connection_is_made_to_the_address_that_was_judged(
    watched: Watched, service: Service, names: Names
) -> None:
    # A second look-up would answer with an address inside: whoever rebinds a name counts on it.
    names.answers["hook.example"] = [["10.0.0.7", "127.0.0.1"], ["10.0.0.7"]]

    report, sent = asked(watched, service, http(f"http://hook.example:{service.port}/echo"))

    assert report.outcome is Outcome.SUCCEEDED
    assert sent["headers"]["Host"] == f"hook.example:{service.port}"
    assert names.asked.count("hook.example") == 1


def test_a_name_that_nobody_knows_is_tried_again(watched: Watched, names: Names) -> None:
    names.answers["hook.example"] = []
    watched.start(http("http://hook.example/"))

    report = watched.only()
    assert report.error_type == "ConnectError"
    assert "hook.example cannot be looked up" in (report.error or "")


CERTIFICATE = Path(__file__).with_name("hook.pem")
"""Of hook.example, signed by itself, until 2100; made for these tests alone."""


@pytest.mark.parametrize(
    ("host", "outcome"), [("hook.example", Outcome.SUCCEEDED), ("other.example", Outcome.FAILED)]
)
def test_tls_checks_the_name_though_the_connection_is_made_to_an_address(
    watched: Watched, names: Names, monkeypatch: pytest.MonkeyPatch, host: str, outcome: Outcome
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    names.answers[host] = [["127.0.0.1"]]
    secure = Service(CERTIFICATE)
    watched.start(http(f"https://{host}:{secure.port}/echo", json=1))

    report = watched.only()
    secure.close()
    assert report.outcome is outcome
    if outcome is Outcome.FAILED:
        assert report.error_type == "ConnectError"
        assert "other.example" in (report.error or "")
        assert "not valid for" in (report.error or "")


def test_a_certificate_that_nobody_vouches_for_is_refused(watched: Watched, names: Names) -> None:
    names.answers["hook.example"] = [["127.0.0.1"]]
    secure = Service(CERTIFICATE)
    watched.start(http(f"https://hook.example:{secure.port}/echo"))

    report = watched.only()
    secure.close()
    assert report.error_type == "ConnectError"
    assert "certificate" in (report.error or "").lower()
    assert secure.asked == []


# --- redirects ------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed_unless_wanted(watched: Watched, service: Service) -> None:
    report, _ = asked(watched, service, http(f"{service.url}/to/302//ok"))

    assert report.error_type == "HTTP 302"
    assert "a redirect that was not followed" in (report.error or "")


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "[1]"), (308, "POST", "[1]")],
)
def test_a_redirect_that_is_followed_goes_on_as_its_status_says(
    watched: Watched, service: Service, status: int, method: str, body: str
) -> None:
    target = http(f"{service.url}/to/{status}//echo", json=[1], redirects=1, headers={"A": "1"})

    report, sent = asked(watched, service, target)

    assert report.outcome is Outcome.SUCCEEDED
    assert (sent["method"], sent["body"], sent["headers"]["A"]) == (method, body, "1")
    assert ("Content-Type" in sent["headers"]) == (body != "")


def test_redirects_are_counted(watched: Watched, service: Service) -> None:
    report, _ = asked(watched, service, http(f"{service.url}/to/307//to/307//ok", redirects=1))

    assert report.error_type == "HTTP 307"
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    "place",
    ["http://10.0.0.1/", "http://[::ffff:169.254.169.254]/", "http://inside.example/", "//127.0.0.2/"],
)
def test_a_redirect_to_a_private_address_is_refused(
    watched: Watched, service: Service, names: Names, place: str
) -> None:
    names.answers["inside.example"] = [["192.168.0.1"]]

    report, _ = asked(watched, service, http(f"{service.url}/to/302/{place}", redirects=5))

    assert (report.outcome, report.error_type) == (Outcome.FAILED, "AddressRefused")
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "place", ["ftp://example.org/", "file:///etc/passwd", "http://u:p@127.0.0.1/", "http://[x"]
)
def test_a_redirect_to_what_is_no_service_is_not_followed(
    watched: Watched, service: Service, place: str
) -> None:
    report, _ = asked(watched, service, http(f"{service.url}/to/302/{place}", redirects=5))

    assert report.error_type == "HTTP 302"


def test_another_service_gets_no_header_that_was_given(
    watched: Watched, service: Service, names: Names
) -> None:
    names.answers["other.example"] = [["127.0.0.1"]]
    place = f"http://other.example:{service.port}/echo"
    target = http(
        f"{service.url}/to/307/{place}", json=[1], redirects=1, headers={"Authorization": "Bearer env:TOKEN"}
    )

    _, sent = asked(watched, service, target)

    assert sent["headers"]["Host"] == f"other.example:{service.port}"
    assert "Authorization" not in sent["headers"]
    assert (sent["body"], sent["headers"]["Content-Type"]) == ("[1]", "application/json")


# --- thousands ------------------------------------------------------------------------------------------


def test_no_more_calls_begin_than_the_process_may_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))

    assert HttpExecutor(slots=5000).free() == 1024 - module.FILES_SPARE
    assert HttpExecutor(slots=100).free() == 100


CALLS = 5000


@pytest.fixture
def files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CALLS + 2 * module.FILES_SPARE
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"raise `ulimit -Hn`: {hard} files are too few"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident() -> int:
    """Return how much memory this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("files")
def test_five_thousand_slow_calls_at_once_cost_little_each() -> None:
    watched = Watched(HttpExecutor(slots=CALLS, allow=["127.0.0.1"]))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engine.service"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        target = http(f"http://127.0.0.1:{int(other.stdout.readline())}/hang", json={"order": 17})
        before = resident()
        runs = [claimed(target, token=token, timeout=600) for token in range(CALLS)]
        for run in runs:
            watched.executor.start(run, watched.clock.now() + timedelta(seconds=60))
        while int(other.stdout.readline()) < CALLS:
            pass
        each = (resident() - before) / CALLS
        assert watched.executor.free() == 0

        other.stdin.write("\n")
        other.stdin.flush()
        reports = watched.next(CALLS)
        other.stdin.write("\n")
    watched.executor.close()

    assert {report.outcome for report in reports} == {Outcome.SUCCEEDED}
    print(f"{each / KIB:.1f} KiB a call")
    assert each < 64 * KIB
