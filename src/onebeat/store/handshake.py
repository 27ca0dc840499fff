"""What a node that announces itself is told of the others: the same words, whatever the store."""

from collections.abc import Iterable

from onebeat.core.model import Node


def strange(node: Node, alive: Iterable[Node]) -> list[str]:
    """Return what is strange about the other nodes that are alive: another version, older zone data."""
    others = [other for other in alive if other.id != node.id]
    return [
        f"node {other.id} runs onebeat {other.version}, this one {node.version}"
        for other in others
        if other.version != node.version
    ] + [
        f"node {other.id} has zone data {other.tz_version}, older than {node.tz_version} here"
        for other in others
        if other.tz_version < node.tz_version
    ]
