"""A store that is closed, damaged and opened again, and what is in it."""

from pathlib import Path

from cloudmatch_bus.contract.messages import AnyFact, MatchMade, PayloadsDelivered
from cloudmatch_journal.store import Store

SIZE = 4


def fact(position: int) -> AnyFact:
    """Every third fact is a match of c and d, the others are payloads from a to b."""
    if position % 3 == 0:
        return MatchMade(app="x", at=position, match=position, device="c", peer="d", distance=0)
    return PayloadsDelivered(app="x", at=position, match=1, sender="a", receiver="b", sizes=[position])


def entries(*positions: int) -> list[tuple[int, AnyFact]]:
    return [(position, fact(position)) for position in positions]


class Reopened:
    """A store in one folder that can be closed, damaged and opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder, SIZE)

    def again(self) -> Store:
        self.store.close()
        self.store = Store(self.folder, SIZE)
        return self.store

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern))


def everything(store: Store) -> list[tuple[int, AnyFact]]:
    return list(store.replay(0))


def fill(store: Store, last: int) -> None:
    for position in range(1, last + 1):
        store.append(entries(position))
