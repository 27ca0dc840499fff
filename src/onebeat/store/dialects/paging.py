"""Rows page by page, where a database sends all rows of a statement at once."""

from collections.abc import Callable, Iterator, Sequence

from onebeat.store.dialects.protocol import Cell, Row

PAGES_GROW = 4


def paged(
    rows: Callable[[str, Sequence[Cell]], list[Row]], sql: str, args: Sequence[Cell], about: int
) -> Iterator[Row]:
    """Yield the rows of a SELECT, asking for ``about`` as many first and for more each time."""
    page, skipped = max(1, about), 0
    while True:
        some = rows(sql + " LIMIT ? OFFSET ?", (*args, page, skipped))
        yield from some
        if len(some) < page:
            return
        skipped += page
        page *= PAGES_GROW
