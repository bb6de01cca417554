"""A lineage as text: one line per node, its facts below it, its sources indented."""

from collections.abc import Iterator

from orchestration.lineage import Node


def as_text(node: Node) -> str:
    """The tree, drawn with box characters."""
    return "\n".join(_lines(node, "", ""))


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{node.name}"
    bar = "│  " if node.sources else "   "
    for key, value in node.facts.items():
        yield f"{rest}{bar}  {key}: {value}"
    for position, source in enumerate(node.sources):
        last = position == len(node.sources) - 1
        yield from _lines(source, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
