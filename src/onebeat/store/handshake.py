"""What a node that announces itself is told of the others: the same words, whatever the store."""

from collections.abc import Iterable, Iterator

from onebeat.core.model import Node


def strange(node: Node, alive: Iterable[Node]) -> list[str]:
    """Return what is strange about the other nodes that are alive: version, zone data, settings."""
    return [words for other in alive if other.id != node.id for words in _strange(node, other)]


def _strange(node: Node, other: Node) -> Iterator[str]:
    if other.version != node.version:
        yield f"node {other.id} runs onebeat {other.version}, this one {node.version}"
    if other.tz_version < node.tz_version:
        yield f"node {other.id} has zone data {other.tz_version}, older than {node.tz_version} here"
    for name, here in sorted(node.settings.items()):
        there = other.settings.get(name, here)  # who does not say it need not agree
        if there != here:
            yield f"node {other.id} has {there} as {name}, this one {here}"
