"""Who is let in: by what they cost, whose they are, and until when they wait."""

from math import inf

import pytest

from gradserve_server.errors import Expired, Overloaded
from gradserve_server.scheduling.admission import ANSWER_SECONDS, MARGIN, Admission, Bounds
from gradserve_server.scheduling.job import Place, Priority

INTERACTIVE, ITERATIVE = Priority.INTERACTIVE, Priority.ITERATIVE
NOW = 1000.0


def admission(interactive: float = 10.0, iterative: float = 100.0, share: float = 1.0) -> Admission:
    bounds = Bounds(100, inf, {INTERACTIVE: interactive, ITERATIVE: iterative}, share)
    return Admission(bounds, clock=lambda: NOW)


def enter(
    queue: Admission, seconds: float, *, priority: Priority = INTERACTIVE, tenant: str = "", left: float = 1e9
) -> Place:
    place = Place(priority, tenant, NOW + left, seconds=seconds)
    queue.enter(place)
    return place


def refusal(queue: Admission, seconds: float, **given: object) -> Overloaded:
    count = queue.count
    with pytest.raises(Overloaded) as caught:
        enter(queue, seconds, **given)  # type: ignore[arg-type]
    assert queue.count == count
    return caught.value


def test_each_class_has_a_bound_of_its_own() -> None:
    queue = admission()
    enter(queue, 6.0)
    error = refusal(queue, 5.0)
    assert error.reason == "QUEUE_FULL"
    # One second too much: it takes that long until there is room.
    assert error.retry_seconds == pytest.approx(1.0)
    enter(queue, 4.0)
    enter(queue, 99.0, priority=ITERATIVE)
    assert refusal(queue, 2.0, priority=ITERATIVE).reason == "QUEUE_FULL"


def test_what_is_larger_than_the_bound_is_let_in_alone() -> None:
    queue = admission()
    large = enter(queue, 50.0)
    refusal(queue, 0.1)
    queue.leave(large)
    enter(queue, 0.1)


def test_work_that_is_done_makes_room() -> None:
    queue = admission()
    place = enter(queue, 10.0)
    refusal(queue, 1.0)
    queue.done(place, 1.5)
    enter(queue, 1.0)
    # More done than was expected is nobody's delay, and no credit.
    queue.done(place, 100.0)
    enter(queue, 9.0)
    refusal(queue, 0.1)


def test_what_is_done_leaves_nothing_by_rounding() -> None:
    queue = admission()
    for place in [enter(queue, seconds) for seconds in (0.1, 0.7, 0.3)]:
        queue.done(place, place.seconds)
    # As one that is alone: let in whatever its size.
    enter(queue, 99.0)


def test_a_tenant_has_its_share_and_no_more() -> None:
    queue = admission(share=0.3)
    enter(queue, 2.5, tenant="shop")
    error = refusal(queue, 1.0, tenant="shop")
    assert error.reason == "TENANT_QUOTA"
    assert error.retry_seconds == pytest.approx(0.5)
    enter(queue, 2.5, tenant="lake")
    enter(queue, 2.5, tenant="shop", priority=ITERATIVE)


def test_a_tenant_leaves_time_for_others_when_what_it_was_let_in_with_takes_longer() -> None:
    queue = admission(share=0.9)
    enter(queue, 4.0, tenant="greedy")
    enter(queue, 4.9, tenant="greedy")
    for _ in range(100):
        queue.ran(1.0, 2.0)
    # 17.8 s of 10 by now; the share counts, and what is left is for others.
    assert refusal(queue, 0.1, tenant="greedy").reason == "TENANT_QUOTA"
    enter(queue, 0.4, tenant="modest")
    assert refusal(queue, 0.2, tenant="third").reason == "QUEUE_FULL"


def test_a_tenant_leaves_places_for_others() -> None:
    queue = admission(share=0.5)
    for _ in range(50):
        enter(queue, 0.0, tenant="greedy")
    error = refusal(queue, 0.0, tenant="greedy")
    assert error.reason == "TENANT_QUOTA"
    for _ in range(50):
        enter(queue, 0.0, tenant="modest")
    assert refusal(queue, 0.0, tenant="third").reason == "QUEUE_FULL"


def test_the_number_of_requests_is_bounded() -> None:
    queue = Admission(Bounds(programs=2))
    enter(queue, 0.0)
    enter(queue, 0.0, priority=ITERATIVE)
    assert refusal(queue, 0.0).reason == "QUEUE_FULL"


def test_the_bytes_that_requests_hold_are_bounded() -> None:
    queue = Admission(Bounds(bytes=200, tenant_share=0.6))

    def holding(count: int, tenant: str) -> Place:
        place = Place(INTERACTIVE, tenant, bytes=count)
        queue.enter(place)
        return place

    first = holding(50, "shop")
    for count, tenant, reason in ((11, "shop", "TENANT_QUOTA"), (51, "lake", "QUEUE_FULL")):
        with pytest.raises(Overloaded) as caught:
            holding(count, tenant)
        assert caught.value.reason == reason
    second = holding(40, "lake")
    # What is found to hold more than was known is refused then, and keeps what it had.
    with pytest.raises(Overloaded):
        queue.hold(second, 51)
    queue.hold(second, 50)
    queue.leave(first)
    queue.leave(second)
    # Alone it is let in whatever its size.
    queue.leave(holding(1000, "shop"))
    holding(60, "shop")
    holding(40, "lake")
    # Who explains and who climbs has half of it each.
    queue.enter(Place(ITERATIVE, "shop", bytes=60))


def test_who_was_let_in_alone_with_more_than_its_share_leaves_room_for_others() -> None:
    queue = Admission(Bounds(bytes=200, tenant_share=0.6))
    queue.enter(Place(INTERACTIVE, "shop", bytes=1000))
    queue.enter(Place(INTERACTIVE, "lake", bytes=40))
    with pytest.raises(Overloaded):
        queue.enter(Place(INTERACTIVE, "lake", bytes=1))


def test_places_of_nothing_come_and_go_in_any_order() -> None:
    queue = Admission(Bounds(bytes=200))
    first, second = Place(INTERACTIVE), Place(INTERACTIVE)
    queue.enter(first)
    queue.enter(second)
    queue.leave(second)
    queue.hold(first, 50)
    queue.leave(first)
    assert not queue._bytes


def test_who_would_come_too_late_is_refused_at_once() -> None:
    queue = admission()
    for _ in range(4):
        enter(queue, 1.0)
    error = refusal(queue, 1.0, left=MARGIN * 4.5)
    assert error.reason == "DEADLINE_UNREACHABLE"
    assert error.retry_seconds == pytest.approx(MARGIN * (0.5 + ANSWER_SECONDS))
    enter(queue, 1.0, left=MARGIN * 5.1)


def test_what_takes_longer_than_the_caller_waits_is_no_matter_of_the_queue() -> None:
    queue = admission()
    enter(queue, 0.1)
    with pytest.raises(Expired) as caught:
        enter(queue, 3.0, left=2.0)
    assert caught.value.reason == "DEADLINE_TOO_SHORT"
    # Unless it ends by itself when time is up.
    queue.enter(Place(ITERATIVE, "", NOW + 2.0, ends_early=True, seconds=30.0))


def test_alone_it_may_try_so_that_a_wrong_expectation_does_not_last() -> None:
    queue = admission()
    for _ in range(100):
        queue.ran(expected=1.0, measured=1000.0)
    place = enter(queue, 3.0, left=2.0)
    for _ in range(100):
        queue.ran(expected=1.0, measured=0.1)
    queue.leave(place)
    enter(queue, 0.1)
    enter(queue, 3.0, left=2.0)


def test_a_long_request_does_not_go_before_a_short_one() -> None:
    queue = admission(interactive=1000.0)
    enter(queue, 500.0)
    # They take turns: as much of the long one goes first as the short one takes.
    enter(queue, 1.0, left=MARGIN * 2.1)
    assert refusal(queue, 1.0, left=MARGIN * 2.1).reason == "DEADLINE_UNREACHABLE"


def test_what_shares_its_pass_is_done_when_the_pass_is() -> None:
    """In a full queue as many rows come after it as the pass has room for; with one other there is but that one."""
    queue = admission(interactive=1000.0)
    enter(queue, 0.5)
    queue.enter(Place(INTERACTIVE, "", NOW + MARGIN * 1.6, seconds=0.5, pass_seconds=4.0))
    for _ in range(9):
        enter(queue, 1.0)
    # 5.5 s go first, and 3.5 s fill its pass.
    late = Place(INTERACTIVE, "", NOW + MARGIN * 9.4, seconds=0.5, pass_seconds=4.0)
    with pytest.raises(Overloaded, match="beside it"):
        queue.enter(late)
    late.deadline = NOW + MARGIN * 9.6
    queue.enter(late)


def test_iterative_work_waits_for_interactive_and_not_the_other_way() -> None:
    queue = admission(interactive=1000.0, iterative=1000.0)
    enter(queue, 50.0, priority=ITERATIVE)
    enter(queue, 5.0, left=MARGIN * 5.2)
    assert refusal(queue, 1.0, priority=ITERATIVE, left=MARGIN * 6.0).reason == "DEADLINE_UNREACHABLE"
    enter(queue, 1.0, priority=ITERATIVE, left=MARGIN * 7.2)


def test_another_tenant_goes_first_with_as_much_as_oneself() -> None:
    queue = admission(interactive=1000.0)
    for _ in range(30):
        enter(queue, 1.0, tenant="flood")
    enter(queue, 1.0, tenant="shop", left=MARGIN * 2.1)
    assert refusal(queue, 1.0, tenant="flood", left=10.0).reason == "DEADLINE_UNREACHABLE"


def test_expectations_follow_what_passes_take() -> None:
    queue = admission()
    for _ in range(100):
        queue.ran(expected=1.0, measured=2.0)
    enter(queue, 4.0)
    # What calibration calls one second takes two.
    refusal(queue, 1.1)
    enter(queue, 0.9)


def test_what_a_request_costs_is_weighed_once_it_is_known() -> None:
    queue = admission()
    enter(queue, 6.0)
    place = enter(queue, 0.1)
    with pytest.raises(Overloaded):
        queue.weigh(place, 5.0)
    queue.weigh(place, 4.0)
    refusal(queue, 0.1)


def test_what_is_told_of_the_queue_is_what_waits() -> None:
    told: dict[Priority, float] = {}
    refused: list[str] = []
    queue = Admission(Bounds(seconds={INTERACTIVE: 1.0, ITERATIVE: 1.0}), refused.append, told.__setitem__, lambda: NOW)
    first, second = enter(queue, 0.1), enter(queue, 0.2)
    assert told[INTERACTIVE] == pytest.approx(0.3)
    with pytest.raises(Overloaded):
        enter(queue, 5.0)
    assert refused == ["queue_full"]
    queue.leave(first)
    queue.done(second, 1.0)
    queue.leave(second)
    assert told[INTERACTIVE] == 0.0
