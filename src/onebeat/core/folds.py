"""What runs stand for: the occurrences that tiles fold into them.

A run that is made by a decision carries its fold; a run that waits already is extended by the store, in the
same transaction. Both count by the same sums. May import model.py alone.
"""

from collections.abc import Sequence

from onebeat.core.model import Fold, Settlement


def folds_of(tiles: Sequence[Settlement]) -> dict[str, Fold]:
    """Return what the runs of these tiles stand for: those that are fired here, and those folded into."""
    folds: dict[str, Fold] = {}
    for tile in tiles:
        into = tile.into if tile.run is None else tile.run.id
        if into is None:
            continue
        assert tile.first_at is not None
        assert tile.last_at is not None
        mine = Fold(first_at=tile.first_at, last_at=tile.last_at, count=tile.count)
        folds[into] = folds[into].joined(mine) if into in folds else mine
    return folds


def folds_beside(tiles: Sequence[Settlement]) -> dict[str, Fold]:
    """Return what these tiles add to runs that are not made by them: nearly always to none."""
    for tile in tiles:
        if tile.into is not None:
            break
    else:
        return {}
    made = {tile.run.id for tile in tiles if tile.run is not None}
    return {run_id: fold for run_id, fold in folds_of(tiles).items() if run_id not in made}
