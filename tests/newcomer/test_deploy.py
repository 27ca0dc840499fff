"""The files to deploy with say what this version understands, and leave a node the time that it needs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from onebeat.cli.main import cli
from onebeat.core.durations import duration
from onebeat.engine.service import LAST_WORDS

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "examples" / "cluster" / "deploy"
SETTINGS = (TOP / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DEPLOYMENT, BUDGET = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
POD = DEPLOYMENT["spec"]["template"]["spec"]
(NODE,) = POD["containers"]
(MIGRATE,) = POD["initContainers"]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def parsed(words: list[str]) -> dict[str, Any]:
    """What our own command line makes of these words; an error where it does not understand them."""
    command: click.Command = cli
    context = cli.make_context("onebeat", list(words))
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)
    return {"command": context.command_path, "app": context.find_object(object)} | context.params


def instructions(name: str) -> list[list[str]]:
    """The words that follow an instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    found = re.findall(rf"^{name} (.+)$", text, re.MULTILINE)
    return [json.loads(each) if each.startswith("[") else shlex.split(each) for each in found]


def asked(command: list[str]) -> list[str]:
    """The words that a probe or a check gives to onebeat."""
    words = shlex.split(command[-1].partition(";")[0]) if command[0] == "sh" else command
    assert words[0] == "onebeat"
    return words[1:]


COMMANDS = {
    "compose: migrate": COMPOSE["services"]["migrate"]["command"],
    "compose: node": COMPOSE["services"]["node"]["command"],
    "compose: healthcheck": asked(COMPOSE["services"]["node"]["healthcheck"]["test"][1:]),
    "kubernetes: migrate": MIGRATE["args"],
    "kubernetes: node": NODE["args"],
    **{f"kubernetes: {probe}": asked(NODE[probe]["exec"]["command"]) for probe in PROBES},
    "image": instructions("CMD")[0],
}


@pytest.mark.parametrize("where", COMMANDS)
def test_our_command_line_understands_each_command(where: str) -> None:
    assert parsed(COMMANDS[where])["command"]


@pytest.mark.parametrize(
    "words", [["serve", "--shere", "1/3"], ["node", "reddy"], ["serve", "--grace", "soon"]]
)
def test_a_word_that_is_none_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parsed(words)


def test_each_variable_is_a_setting() -> None:
    services = COMPOSE["services"]
    named = {name for service in ("migrate", "node") for name in services[service]["environment"]}
    named |= {each["name"] for container in (NODE, MIGRATE) for each in container["env"]}

    assert "ONEBEAT_URL" in named
    assert {name for name in named if f"| `{name}` |" not in SETTINGS} == set()


def test_the_app_of_the_commands_is_in_the_image() -> None:
    served = [words for words in COMMANDS.values() if words[0] == "serve"]
    apps = {words[words.index("--app") + 1] for words in served}
    (module, _, attribute) = apps.pop().partition(":")
    tree = ast.parse((DEPLOY / f"{module}.py").read_text(encoding="utf-8"))

    assert not apps
    assert attribute in {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert any(f"deploy/{module}.py" in source for words in instructions("COPY") for source in words)


def test_the_image_is_made_of_what_is_there() -> None:
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (install,) = [words for words in instructions("RUN") if words[:2] == ["pip", "install"]]
    wanted = set(re.findall(r"\[(.+)\]", install[-1])[0].split(","))
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")

    assert wanted <= extras["optional-dependencies"].keys()
    for words in instructions("COPY"):
        for source in words[:-1]:
            assert (TOP / source).exists()
            assert f"!{source}" in let_in
    for service in ("migrate", "node"):
        build = COMPOSE["services"][service]["build"]
        assert (DEPLOY / build["context"]).resolve() == TOP
        assert (TOP / build["dockerfile"]).exists()


def test_a_node_is_process_1_so_that_a_signal_reaches_it() -> None:
    assert instructions("ENTRYPOINT") == [["onebeat"]]
    assert "command" not in NODE
    assert "entrypoint" not in COMPOSE["services"]["node"]


def test_a_node_has_the_time_that_it_needs_to_end() -> None:
    node = COMPOSE["services"]["node"]
    grace = duration(node["environment"]["ONEBEAT_GRACE"])
    assert duration(node["stop_grace_period"]) > grace + LAST_WORDS

    serve, pause = parsed(NODE["args"]), NODE["lifecycle"]["preStop"]["exec"]["command"]
    assert pause[0] == "sleep"
    needed = serve["grace"] + LAST_WORDS + duration(pause[1])
    assert POD["terminationGracePeriodSeconds"] > needed.total_seconds()


def test_no_node_is_the_only_one() -> None:
    assert DEPLOYMENT["kind"] == "Deployment"
    assert DEPLOYMENT["spec"]["replicas"] == COMPOSE["services"]["node"]["deploy"]["replicas"] == 3
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "container_name" not in COMPOSE["services"]["node"]


def test_everything_that_selects_the_nodes_selects_them() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    (apart,) = POD["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]

    assert BUDGET["kind"] == "PodDisruptionBudget"
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert BUDGET["spec"]["selector"]["matchLabels"] == labels
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
    assert apart["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_the_address_of_the_ledger_comes_out_of_a_secret() -> None:
    for container in (NODE, MIGRATE):
        (url,) = [each for each in container["env"] if each["name"] == "ONEBEAT_URL"]
        assert url.keys() == {"name", "valueFrom"}
        assert url["valueFrom"].keys() == {"secretKeyRef"}


def test_the_tables_are_made_before_a_node_that_makes_none() -> None:
    assert parsed(MIGRATE["args"])["command"] == "onebeat migrate"
    assert parsed(NODE["args"])["no_migrate"] is True
    assert parsed(COMPOSE["services"]["node"]["command"])["no_migrate"] is True
    after = COMPOSE["services"]["node"]["depends_on"]["migrate"]["condition"]
    assert after == "service_completed_successfully"


@pytest.mark.parametrize(("answer", "lives"), [(0, True), (1, False), (6, True)])
def test_a_node_is_started_again_only_when_the_ledger_says_no(
    answer: int, lives: bool, tmp_path: Path
) -> None:
    onebeat = tmp_path / "onebeat"
    onebeat.write_text(f"#!/bin/sh\nexit {answer}\n")
    onebeat.chmod(0o755)
    command = NODE["livenessProbe"]["exec"]["command"]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)

    assert (done.returncode == 0) is lives
