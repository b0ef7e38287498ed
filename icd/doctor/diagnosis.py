"""From facts of machines to findings: what is wrong, where, what to do. Nothing is looked at here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from icd.doctor.min_versions import FLOORS

if TYPE_CHECKING:
    from icd.doctor.node_facts import NodeFacts

Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")

_CLOCK_WARN_S, _CLOCK_FAIL_S = 1.0, 60.0
_FILES = 4096
_PRODUCT_ERROR = 1e-3  # float32 gives 1e-6, TF32 1e-4
_ALONE = 0.5  # of a GPU's memory that should be free


class Finding(NamedTuple):
    """One thing looked at: ``where`` is a node, ``driver``, ``cluster`` or ``here``; ``advice`` says what to do."""

    check: str
    where: str
    level: Level
    text: str
    advice: str = ""


def worst(findings: Sequence[Finding]) -> Level:
    """Give the worst level among findings; no findings are a pass."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="pass")


def numbers(version: str) -> tuple[int, ...]:
    """Give the numbers of a version, without what names a build."""
    plain = version.partition("+")[0]
    return tuple(int(part) for part in plain.split(".") if part.isdigit())


def floors(where: str, facts: "NodeFacts") -> Iterator[Finding]:
    """Compare versions with the oldest that are safe."""
    for package, version in facts["versions"].items():
        floor = FLOORS.get(package)
        if floor is not None and version[:1].isdigit() and numbers(version) < numbers(floor.version):
            text = f"{package} {version} is older than {floor.version}: {floor.why}"
            yield Finding("versions", where, "fail", text, f"pip install --constraint constraints.txt {package}")


def judge_node(name: str, facts: "NodeFacts", driver: "NodeFacts", *, gpus: float) -> Iterator[Finding]:
    """Judge a node of a cluster; ``gpus`` are what Ray counts there."""
    yield from _versions(name, facts, driver)
    yield judge_limits(name, facts)
    yield from judge_gpus(name, gpus, facts)
    if facts["data_error"]:
        # Where nobody has any they may not be needed: what comes with icd needs none.
        level: Level = "warn" if facts["data_error"] == driver["data_error"] else "fail"
        advice = "mount the data there, or put them below the shared folder (--data-root, ICD_DATA)"
        yield Finding("data", name, level, facts["data_error"], advice)


def judge_clock(name: str, skew_s: float, limit_s: float) -> Finding:
    """Judge how far a node's clock is ahead of the driver's, which is known to ``limit_s``."""
    sure = abs(skew_s) - limit_s
    level: Level = "fail" if sure > _CLOCK_FAIL_S else "warn" if sure > _CLOCK_WARN_S else "pass"
    text = f"{skew_s:+.3f} s to the driver's, known to {limit_s * 1000:.1f} ms"
    return Finding("clock", name, level, text, "" if level == "pass" else "run a time service (chrony) on all nodes")


def _versions(name: str, facts: "NodeFacts", driver: "NodeFacts") -> Iterator[Finding]:
    found = list(floors(name, facts))
    for package, here in driver["versions"].items():
        there = facts["versions"].get(package, "missing")
        if there != here:
            level, advice = _difference(package, there, here)
            found.append(Finding("versions", name, level, f"{package} {there}, but the driver has {here}", advice))
    if facts["versions"].get("icd") == driver["versions"].get("icd") and facts["source"] != driver["source"]:
        text = f"icd {driver['versions'].get('icd')} with other source: {facts['source']}, here {driver['source']}"
        found.append(Finding("versions", name, "fail", text, "have the same checkout or wheel of icd on all nodes"))
    yield from found or [Finding("versions", name, "pass", "those of the driver")]


def _difference(package: str, there: str, here: str) -> tuple[Level, str]:
    """Say how bad it is: what a trial computes with must be the same, a build for another device may differ."""
    if package == "Python":
        same = numbers(there)[:2] == numbers(here)[:2]
        return "warn" if same else "fail", "make the environments of all nodes with one Python"
    if package in ("optuna", "mlflow"):
        return "warn", "only drivers use it, but a driver may move to this node"
    if package in ("torch", "torchvision") and there.partition("+")[0] == here.partition("+")[0]:
        return "warn", "a build for another device: its results may differ in the last bits"
    return "fail", f"install {package} {here} there, as constraints.txt has it"


def judge_limits(name: str, facts: "NodeFacts") -> Finding:
    """Judge what the system allows a process; -1 open files are any number."""
    files = facts["files_limit"]
    if 0 <= files < _FILES:
        text, advice = f"a process may open {files} files only", "ulimit -n 65536 before 'ray start'"
        return Finding("limits", name, "warn", text, advice)
    return Finding("limits", name, "pass", f"{files} open files")


def judge_gpus(name: str, expected: float, facts: "NodeFacts") -> Iterator[Finding]:
    """Judge the GPUs of a machine; ``expected`` is how many Ray counts there, or the driver."""
    if not expected:
        yield Finding("gpu", name, "pass", "none")
        return
    rows = facts["gpus"].get("torch", [])
    passed = ", ".join(row["name"] for row in rows) + ": products as on the CPU"
    yield from list(_gpu_problems(name, expected, facts["gpus"], rows)) or [Finding("gpu", name, "pass", passed)]


def _gpu_problems(
    name: str, expected: float, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    if found.get("error"):
        yield Finding("gpu", name, "fail", str(found["error"]), "look at nvidia-smi and dmesg (Xid) on this node")
    elif len(rows) < expected:
        advice = "install a torch for this driver, or correct --num-gpus of 'ray start'"
        yield Finding("gpu", name, "fail", f"torch sees {len(rows)} of {expected:g} GPUs", advice)
    for index, row in enumerate(found.get("driver", ())):
        if row["ecc_errors"]:
            text = f"GPU {index} ({row['name']}): {row['ecc_errors']} uncorrected memory errors"
            yield Finding("gpu", name, "fail", text, "reset it or take the node out; its results are worth nothing")
    for index, row in enumerate(rows):
        yield from _gpu(name, f"cuda:{index} ({row['name']})", row)


def _gpu(name: str, gpu: str, row: Mapping[str, Any]) -> Iterator[Finding]:
    if row["error"]:
        yield Finding("gpu", name, "fail", f"{gpu}: {row['error']}", "end what uses it, or look at dmesg (Xid)")
        return
    if not row["product_error"] <= _PRODUCT_ERROR:
        text = f"{gpu}: a product of matrices is off by {row['product_error']:.1e} of its largest value"
        yield Finding("gpu", name, "fail", text, "take the node out; this GPU computes wrongly")
    if row["free_mb"] < _ALONE * row["total_mb"]:
        text = f"{gpu}: {row['free_mb'] / 1024:.1f} of {row['total_mb'] / 1024:.1f} GB free"
        yield Finding("gpu", name, "warn", text, "others use it; look with nvidia-smi")
