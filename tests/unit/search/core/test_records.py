"""The Pareto front, against a case drawn by hand."""

from icd.search.core.records import State, TrialRecord, pareto_front


def record(number: int, values: tuple[float, ...], state: State = "complete") -> TrialRecord:
    return TrialRecord(number=number, state=state, values=values)


# Accuracy (large is good) and seconds (small is good).
TRIALS = [
    record(0, (70, 10)),
    record(1, (75, 20)),
    record(2, (74, 25)),  # beaten by 1
    record(3, (80, 40)),
    record(4, (75, 20)),  # equal to 1
    record(5, (70, 12)),  # beaten by 0
    record(6, (), "failed"),
    record(7, (), "pruned"),
]


def numbers(found: list[TrialRecord]) -> list[int]:
    return [item.number for item in found]


def test_front() -> None:
    assert numbers(pareto_front(TRIALS, ["maximize", "minimize"])) == [3, 1, 4, 0]


def test_directions_matter() -> None:
    assert numbers(pareto_front(TRIALS, ["maximize", "maximize"])) == [3]
    assert numbers(pareto_front(TRIALS, ["minimize", "minimize"])) == [0]


def test_one_objective_gives_its_best() -> None:
    assert numbers(pareto_front([record(0, (1,)), record(1, (3,)), record(2, (2,))], ["maximize"])) == [1]


def test_no_complete_trial() -> None:
    assert pareto_front([record(0, (), "running")], ["maximize"]) == []
