"""Which claimed payloads the journal counts itself."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cloudmatch_bus.contract.deliveries import Claim, Span, decode_sizes, span
from cloudmatch_bus.contract.messages import AnyFact, DeliveriesCounted, MatchMade
from cloudmatch_journal.core.coverage import Range
from cloudmatch_journal.core.grants import MAX_SPANS, Grants
from cloudmatch_journal.core.ledger import Ledger
from unit.journal.samples import claimed, counted

GRACE = 15.0


class World:
    """A ledger, the stream that it is folded from, and the grants."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.position = 0
        self.start()
        self.fold(MatchMade(app="default", at=1, match=7, device="a", peer="b", distance=0))

    def start(self) -> None:
        self.grants = Grants(self.ledger, 5, GRACE)

    def fold(self, *facts: AnyFact) -> None:
        for fact in facts:
            self.position += 1
            self.ledger.fold(self.position, fact)

    def claim(self, *claims: Claim) -> None:
        self.fold(claimed(1, *claims).fact)

    def count(self, *spans: Span) -> None:
        self.fold(counted(1, *spans).fact)

    def at(self, now: float) -> list[DeliveriesCounted]:
        return self.grants.grant(self.grants.due(now), now)

    @property
    def sent(self) -> tuple[int, int]:
        state = self.ledger.device("default", "a")
        assert state is not None
        return state.messages_sent, state.bytes_sent


def numbered(first: int, end: int, match: int = 7) -> Span:
    """A span of which each payload's size is its number."""
    return span("a", "b", match, first, list(range(first, end)))


def test_a_claim_is_granted_once_it_has_waited_and_no_sooner() -> None:
    world = World()
    world.count(numbered(0, 2))
    world.claim(Claim("a", "b", 7, 4, numbered(2, 4)))
    assert world.at(100) == []
    assert world.at(100 + GRACE - 0.1) == []
    (fact,) = world.at(100 + GRACE)
    assert fact == DeliveriesCounted(
        app="default", at=1, source="journal", incarnation=5, number=1, spans=[numbered(2, 4)]
    )
    world.fold(fact)
    assert world.at(200) == []
    assert (world.sent, world.ledger.unaccounted, world.ledger.repeated) == ((4, 6), 0, 0)


def test_only_what_nobody_has_counted_is_granted() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 10, numbered(2, 10)))
    world.grants.due(0)
    world.count(numbered(4, 5), numbered(7, 9))
    (fact,) = world.at(GRACE)
    assert fact.spans == [numbered(2, 4), numbered(5, 7), numbered(9, 10)]
    world.fold(fact)
    assert world.at(2 * GRACE) == []
    assert world.ledger.unaccounted == 2  # 0 and 1
    assert world.ledger.repeated == 0


def test_a_claim_that_was_counted_meanwhile_is_not_granted() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 4, numbered(0, 4)))
    world.grants.due(0)
    due = world.grants.due(GRACE)
    world.count(numbered(0, 4))
    assert world.grants.grant(due, GRACE) == []


def test_what_is_under_way_is_not_granted_to_another_claim() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 4, numbered(0, 4)))
    world.claim(Claim("a", "b", 7, 6, numbered(2, 6)), Claim("a", "b", 7, 3, numbered(1, 3)))
    world.grants.due(0)
    (fact,) = world.at(GRACE)
    assert fact.spans == [numbered(0, 4), numbered(4, 6)]
    assert world.at(2 * GRACE - 1) == []
    world.fold(fact)
    assert world.at(3 * GRACE) == []
    assert (world.sent, len(world.ledger.claims), world.ledger.repeated) == ((6, 15), 0, 0)


def test_a_claim_that_the_stream_holds_twice_is_granted_once() -> None:
    world = World()
    for _ in range(2):
        world.claim(Claim("a", "b", 7, 4, numbered(2, 4)))
    world.at(0)
    (fact,) = world.at(GRACE)
    assert fact.spans == [numbered(2, 4)]
    for _ in range(2):  # and so may it hold the grant
        world.fold(fact)
    assert world.at(GRACE) == []
    assert world.sent == (2, 5)


def test_claims_of_one_app_and_slice_are_granted_in_one_fact() -> None:
    world = World()
    for match, (at, app) in enumerate([(10_001, "x"), (19_999, "x"), (20_000, "x"), (19_999, "y")], 10):
        world.fold(claimed(at, Claim("a", "b", match, 1, numbered(0, 1, match)), app=app).fact)
    world.grants.due(0)
    granted = world.at(GRACE)
    assert [(f.app, f.at, f.number, len(f.spans)) for f in granted] == [
        ("x", 10_001, 1, 2),
        ("x", 20_000, 2, 1),
        ("y", 19_999, 3, 1),
    ]


def test_a_grant_that_does_not_come_back_is_repeated() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 4, numbered(0, 4)))
    world.grants.due(0)
    (lost,) = world.at(GRACE)
    assert world.at(2 * GRACE - 0.1) == []
    (again,) = world.at(2 * GRACE)
    assert (again.spans, again.number) == (lost.spans, 2)


def test_a_new_process_waits_as_long_again() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 4, numbered(0, 4)))
    world.grants.due(0)
    (fact,) = world.at(GRACE)
    world.ledger = Ledger.decode(world.ledger.encode())
    world.start()
    assert world.at(GRACE) == []
    world.fold(fact)  # of the process before
    assert world.at(2 * GRACE) == []
    assert world.sent == (4, 6)


def test_a_claim_without_sizes_leaves_its_payloads_unaccounted() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 4))
    world.grants.due(0)
    assert world.at(GRACE) == []
    assert (len(world.ledger.claims), world.ledger.unaccounted) == (0, 4)


def test_many_directions_are_granted_in_several_facts() -> None:
    world = World()
    world.claim(*(Claim("a", "b", match, 1, numbered(0, 1, match)) for match in range(10, 11 + MAX_SPANS)))
    world.grants.due(0)
    assert [len(fact.spans) for fact in world.at(GRACE)] == [MAX_SPANS, 1]


ranges = st.tuples(st.integers(0, 12), st.integers(1, 4)).map(lambda each: (each[0], sum(each)))
steps = st.one_of(
    st.tuples(st.just("claim"), ranges),
    st.tuples(st.sampled_from(["back", "lost", "wait", "kill"]), st.just((0, 0))),
)


@given(st.lists(steps, max_size=25), st.sets(st.integers(0, 16)))
def test_no_payload_is_granted_twice_whatever_is_lost_or_killed(
    some: list[tuple[str, Range]], known: set[int]
) -> None:
    world = World()
    for number in sorted(known):
        world.count(numbered(number, number + 1))
    under_way: list[DeliveriesCounted] = []
    asked: set[int] = set()
    now = 0.0
    for step, (first, end) in [*some, *[("back", (0, 0)), ("wait", (0, 0))] * 3, ("back", (0, 0))]:
        match step:
            case "claim":
                world.claim(Claim("a", "b", 7, end, numbered(first, end)))
                asked.update(range(first, end))
            case "back":
                world.fold(*under_way)
                under_way.clear()
            case "lost":
                under_way.clear()
            case "kill":
                world.fold(*under_way)  # it reads the stream to its end before it grants
                under_way.clear()
                world.ledger = Ledger.decode(world.ledger.encode())
                world.start()
            case "wait":
                world.grants.due(now)
                now += GRACE
                world.fold(*under_way)  # the same
                under_way = world.at(now)
    numbers = asked | known
    assert world.sent == (len(numbers), sum(numbers))
    assert (world.ledger.repeated, len(world.ledger.claims)) == (0, 0)


def test_granted_sizes_are_those_of_the_claim() -> None:
    world = World()
    world.claim(Claim("a", "b", 7, 9, Span("a", "b", 7, 5, 4, 10, "1*2,4*2")))
    world.count(numbered(5, 6))
    world.grants.due(0)
    (fact,) = world.at(GRACE)
    assert [list(decode_sizes(each.sizes)) for each in fact.spans] == [[1, 4, 4]]
    assert msgspec.json.decode(msgspec.json.encode(fact))["spans"] == [["a", "b", 7, 6, 3, 9, "1,4*2"]]
