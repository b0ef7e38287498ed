"""Which locations get no more trials, and which faults count against a trial: the rules, on made-up histories."""

import pytest

from icd.search.controller.retry import NO_PROGRESS, RetryPolicy
from icd.search.core.attempts import AttemptResult, EpochReport, Location, is_quarantined

A, B = Location(host="a", gpu="3"), Location(host="b", gpu="0")
HERE, THERE = Location(host="here"), Location(host="there", node="0123456789abcdef")
SINCE = "and none has finished an epoch there since; it gets no more trials until the next 'icd resume'"


class World:
    """Tells ends and epochs."""

    def __init__(self, retries: int = 3) -> None:
        self.news: list[str] = []
        self.policy = RetryPolicy(retries, self.news.append)

    def end(self, location: Location, kind: str, *trials: int) -> "World":
        for trial in trials:
            self.policy.on_finished(_ended(location, trial, kind))
        return self

    def epoch(self, location: Location, trial: int = 99) -> "World":
        self.policy.on_epoch(EpochReport(number=trial, attempt=1, epoch=1, metrics={}, location=location))
        return self

    def again(self, location: Location, trial: int, kind: str) -> bool:
        """A fault, and whether its trial goes on."""
        self.end(location, kind, trial)
        return bool(self.policy.again(_ended(location, trial, kind)))

    @property
    def quarantined(self) -> list[Location]:
        return list(self.policy.quarantined)


def _ended(location: Location, trial: int, kind: str) -> AttemptResult:
    return AttemptResult(number=trial, attempt=1, kind=kind, location=location)  # type: ignore[arg-type]


def test_three_trials_with_errors_of_cuda_condemn_a_gpu() -> None:
    world = World().end(A, "gpu", 1, 2, 2, 1)
    assert world.quarantined == []
    world.end(A, "gpu", 3, 4)
    assert world.quarantined == [A]
    assert world.news == [f"GPU 3 of host a: 3 trials failed there (gpu) {SINCE}"], "said once"


def test_three_trials_that_die_on_one_node_while_others_get_on_elsewhere() -> None:
    world = World().epoch(HERE).end(THERE, "killed", 1).end(THERE, "hang", 2)
    assert world.quarantined == []
    world.end(THERE, "killed", 3)
    assert world.quarantined == [THERE]
    assert world.news == [f"host there (node 01234567): 3 trials failed there (killed, hang) {SINCE}"]
    gpu = Location(host="there", node=THERE.node, gpu="1")
    assert is_quarantined(gpu, world.policy.quarantined), "with all its GPUs"


def test_faults_on_several_gpus_of_a_node_count_together() -> None:
    other = Location(host="a", gpu="4")
    world = World().epoch(B).end(A, "killed", 1).end(other, "killed", 2, 3)
    assert world.quarantined == [A.machine]


@pytest.mark.parametrize(
    "world",
    [
        World().end(HERE, "gpu", 1, 2, 3).end(A, "killed", 1, 2, 3),  # nobody gets on elsewhere
        World().epoch(B).end(A, "killed", 1, 1, 1, 1),  # one trial
        World().epoch(B).end(A, "killed", 1, 2).epoch(A).end(A, "killed", 3, 4),  # it was well in between
        World().epoch(B).end(A, "killed", 1, 2).epoch(Location(host="a", gpu="4")).end(A, "complete", 3),
        World().epoch(B).end(A, "error", 1).end(A, "memory", 2).end(A, "setup", 3).end(A, "lost", 4, 5, 6),
        World().epoch(B).end(A, "diverged", 1, 2, 3).end(A, "preempted", 1, 2, 3),
    ],
)
def test_no_reason_to_leave_a_location(world: World) -> None:
    assert world.quarantined == []
    assert world.news == []


def test_the_last_location_where_trials_get_on_is_not_left_for_what_may_be_the_trials_fault() -> None:
    world = World().epoch(A).epoch(B).end(A, "killed", 1, 2, 3).end(B, "killed", 1, 2, 3)
    assert world.quarantined == [A]


def test_faults_of_a_quarantined_location_are_not_the_trials_own() -> None:
    world = World(retries=1)
    assert world.again(A, 1, "gpu")
    assert world.policy.counts(1) == {"gpu": 1}
    world.end(A, "gpu", 2)
    assert world.again(A, 3, "gpu")
    assert world.policy.counts(1) == world.policy.counts(3) == {}
    assert world.again(B, 1, "hang")
    assert not world.again(B, 1, "hang")
    assert not world.again(A, 5, "error"), "what the code raises is nobody else's fault"


def test_what_earlier_drivers_counted_goes_on() -> None:
    world = World(retries=3)
    world.policy.restore(4, {"killed": 3})
    assert world.again(A, 4, "hang")
    assert not world.again(A, 4, "killed")
    assert world.policy.counts(4) == {"killed": 4, "hang": 1}


def test_preemptions_are_never_counted() -> None:
    world = World(retries=0)
    for _ in range(NO_PROGRESS):
        assert not world.policy.no_progress(1)
        world.epoch(B, trial=2).end(B, "preempted", 1)
    assert world.policy.counts(1) == {}
    assert world.policy.no_progress(1), "but they must lead somewhere"
    assert world.epoch(A, trial=1).policy.no_progress(1) is False
