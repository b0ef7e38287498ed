"""Which configuration comes next: what is enqueued first, then what the sampler says, none of it trained twice."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.errors import ConfigError
from icd.search.core.pair_runs import PairRun, key_of
from icd.search.core.preparation import PreflightResult
from icd.search.core.records import Stage, TrialRecord
from icd.search.core.trial_request import TrialRequest
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import draw_seed
from icd.search.suggest.search_space import SearchSpace, Start

_DUPLICATES_IN_ROW = 100  # after so many the sampler has nothing new to say, unless the points of the space are known
_DRAWS = 10  # in a row without a new trial; then workers are served first, since a draw may take a tenth of a second
REFUSED = "refused-"  # begins the key of a trial whose parameters are no configuration


class SearchSource:
    """Makes trials in the ledger; all it knows can be read there again.

    Attributes:
        stage: What its trials are for.
        tried: Trials that are no duplicates.
    """

    def __init__(
        self,
        sweep: SweepConfig,
        space: SearchSpace,
        ledger: Ledger,
        prepared: PreflightResult,
        refused: Callable[[int, str], None],
    ) -> None:
        self.sweep, self.space, self.ledger, self.prepared, self.refused = sweep, space, ledger, prepared, refused
        self.stage: Stage = "search"
        self.tried = 0
        self._keys: dict[str, int] = {}  # configurations that are trained, or were
        self._duplicates = 0  # in a row
        self._done: set[str] = set()  # labels of those that have a trial
        self._requests: set[str] = set()  # names of those that have a trial
        self._untried = space.untried()

    def restore(self, record: TrialRecord) -> bool:
        if "request" in record.attributes:
            self._requests.add(record.attributes["request"])
        if record.state == "retried":
            return False  # the trial in its place stands for it
        label = record.baseline if record.baseline is not None else record.start
        if label is not None:
            self._done.add(label)
        if record.state == "running":  # a killed driver may have known better and not said so
            twin = self._keys.get(record.key, record.number)
            if twin != record.number:
                self._tell_duplicate(record.number, twin)
                return False
            if record.key.startswith(REFUSED):
                try:
                    self.members(record)
                except ConfigError as error:
                    self._refuse(record.number, error)
                return False
        self._duplicates = self._duplicates + 1 if record.state == "duplicate" else 0
        self.tried += record.state != "duplicate"
        if record.state not in ("failed", "duplicate"):
            self._keys.setdefault(record.key, record.number)
        return True

    def enqueued_left(self) -> bool:
        return self._next_enqueued() is not None

    @property
    def promised(self) -> int:
        """How many trials there are or must be: those tried, and what is enqueued and has no trial yet."""
        return self.tried + sum(item.label not in self._done for item in self.space.enqueued)

    def has(self, request: TrialRequest) -> bool:
        """Whether a request has its trial."""
        return request.name in self._requests

    def add_requested(self, request: TrialRequest) -> int | None:
        """Make the trial of a request that has none; None where another trial has its configuration.

        Raises:
            ConfigError: If it is no configuration of this sweep.
        """
        document = self.space.requested(request.document)
        key = self._key(document)
        attributes = {"key": key, "start": request.label, "document": document}
        number = self._add_params(request.name, request.params, attributes, "request")
        self._requests.add(request.name)
        return self._new(number, key)

    @property
    def exhausted(self) -> bool:
        if self._untried is not None:
            return self._untried.first(self.ledger.study.get_trials(deepcopy=False)) is None
        return self._duplicates >= _DUPLICATES_IN_ROW

    def new_trials(self, room: Callable[[], bool]) -> Iterator[int]:
        while (enqueued := self._next_enqueued()) is not None:
            number = self._add(enqueued)
            if number is not None:
                yield number
        in_vain = 0
        while in_vain < _DRAWS and room():
            number = self._ask()
            in_vain += 1
            if number is not None:
                in_vain = 0
                yield number

    def members(self, record: TrialRecord) -> tuple[PairRun, ...]:
        return self.prepared.pinned(self.space.members(self.space.tried(record)))

    def _next_enqueued(self) -> Baseline | None:
        return next((item for item in self.space.enqueued if item.label not in self._done), None)

    def _add(self, enqueued: Baseline) -> int | None:
        self._done.add(enqueued.label)
        key = self._key(self.space.baseline(enqueued))
        if not isinstance(enqueued, Start):
            attributes = {"key": key, "control": True}  # a comparison needs its whole curve
            return self._new(self.ledger.add_baseline(enqueued.label, {}, {}, attributes), key)
        is_control = self._is_control(self.space.starts.index(enqueued), "control of a start")
        attributes = {"key": key, **({"control": True} if is_control else {})}
        return self._new(self._add_params(enqueued.label, enqueued.params, attributes, "start"), key)

    def _add_params(
        self, label: str, params: Mapping[str, Any], attributes: Mapping[str, Any], kind: Literal["start", "request"]
    ) -> int:
        distributions = self.space.distributions(params) if params else {}
        return self.ledger.add_baseline(label, params, distributions, attributes, kind)

    def _key(self, document: Mapping[str, Any]) -> str:
        return key_of(self.prepared.pinned(self.space.members(document)))

    def _is_control(self, number: int, purpose: str) -> bool:
        pruner = self.sweep.pruner
        return pruner.prunes and draw_seed(self.sweep.sampler.seed, number, purpose) / 2**32 < pruner.control_fraction

    def _ask(self) -> int | None:
        refusals: list[ConfigError] = []

        def attributes(number: int, document: Mapping[str, Any]) -> Mapping[str, Any]:
            try:
                key = self._key(document)
            except ConfigError as error:  # a combination that no corner of the space showed
                refusals.append(error)
                return {"key": f"{REFUSED}{number}"}
            return {"key": key, **({"control": True} if self._is_control(number, "control") else {})}

        number = self.ledger.ask(self.space.suggest, attributes)
        if refusals:
            self._refuse(number, refusals[-1])
            return None
        return self._new(number, self.ledger.record(number).key)

    def _refuse(self, number: int, error: ConfigError) -> None:
        reason = "; ".join(str(problem) for problem in error.problems)
        self.tried += 1
        self._duplicates = 0
        self.ledger.tell(number, "failed", reason=reason, exit_reason="setup")
        self.refused(number, reason)

    def _new(self, number: int, key: str) -> int | None:
        twin = self._keys.get(key, number)
        if twin != number and self.ledger.record(twin).state != "failed":
            self._tell_duplicate(number, twin)
            return None
        self.tried += 1
        self._keys[key] = number
        self._duplicates = 0
        return number

    def _tell_duplicate(self, number: int, twin: int) -> None:
        self._duplicates += 1
        self.ledger.tell(number, "duplicate", twin=twin, reason=f"same configuration as trial {twin}")


def retry_failed(ledger: Ledger) -> list[int]:
    """Make a trial in place of each that failed, unless another trial has its configuration; their numbers.

    Those are running trials like any that a killed driver left, so whoever drives next trains them. One whose
    parameters are no configuration would be refused again and is left alone.
    """
    records = ledger.records()
    trained = {record.key for record in records if record.state not in ("failed", "retried", "duplicate")}
    failed = [record for record in records if record.state == "failed" and not record.key.startswith(REFUSED)]
    made = []
    for record in failed:
        if record.key and (record.baseline or record.key not in trained):
            made.append(ledger.add_again(record))
            trained.add(record.key)
    return made
