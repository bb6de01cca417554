"""`candlecast lineage`: the lineage as text, one line per node, its facts below it, its sources indented."""

from collections.abc import Iterator, Mapping

from orchestration.cli.instance import open_instance
from orchestration.lineage import Lineage, Node
from orchestration.materialisations import DagsterRecords, SqliteRecords, parents_in
from resources.candlecast import Candlecast
from resources.layout import Home
from resources.settings import Settings


def lineage_of(settings: Settings, name: str) -> Node:
    """The lineage of an asset, or of a digest."""
    candlecast = Candlecast(settings)
    if (file := SqliteRecords.file(Home(settings.home))) is not None:
        return Lineage(candlecast, SqliteRecords(file, lambda: _graph(settings))).of(name)
    from orchestration.build import build_defs

    with open_instance(settings) as instance:
        return Lineage(candlecast, DagsterRecords(build_defs(settings=settings), instance)).of(name)


def _graph(settings: Settings) -> Mapping[str, list[str]]:
    from orchestration.build import build_defs

    return parents_in(build_defs(settings=settings))


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
