"""From facts of machines and services to findings: what is wrong, where, what to do. Nothing is looked at here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from icd.doctor.min_versions import FLOORS

if TYPE_CHECKING:
    from icd.doctor.node_facts import DataFacts, NodeFacts
    from icd.doctor.ray_facts import AskedNode, ClusterFacts
    from icd.doctor.service_facts import ServiceFacts

Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")

_CLOCK_WARN_S, _CLOCK_FAIL_S = 1.0, 60.0
_ROOM_GB = 1.0
_SLOW_FOLDER_MS = 1000.0
_SLOW_DATABASE_MS = 50.0
_FILES = 4096
_PRODUCT_ERROR = 1e-3  # float32 gives 1e-6, TF32 1e-4
_ALONE = 0.5  # of a GPU's memory that should be free
_SHARED_DISKS = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "gluster", "fuse", "9p", "afs")


class Finding(NamedTuple):
    """One thing looked at: ``where`` is a node, ``driver`` or ``cluster``; ``advice`` says what to do."""

    check: str
    where: str
    level: Level
    text: str
    advice: str = ""


def diagnose(cluster: "ClusterFacts", services: Mapping[str, "ServiceFacts"]) -> list[Finding]:
    """Judge a cluster.

    Args:
        cluster: What was found on it.
        services: What was found of the driver's database and MLflow, by name.
    """
    findings = [*_token(cluster), *floors("driver", cluster["driver"])]
    if cluster["root_error"]:
        advice = "choose a --root that the driver and all nodes can write"
        findings.append(Finding("root", "driver", "fail", f"{cluster['root']}: {cluster['root_error']}", advice))
    for name, service in services.items():
        findings += judge_service(name, service)
    for name, node in cluster["nodes"].items():
        findings += _node(name, node, cluster)
    return findings


def worst(findings: Sequence[Finding]) -> Level:
    """Give the worst level among findings; no findings are a pass."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="pass")


def _token(cluster: "ClusterFacts") -> Iterator[Finding]:
    fix = "start every node with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (docs/administration/security.md)"
    if cluster["open"]:
        yield Finding(
            "token", "cluster", "fail", "it runs the code of everybody who reaches it: no token is asked", fix
        )
    elif cluster["open"] is None:
        yield Finding("token", "cluster", "warn", "whether a token is asked could not be found out", fix)
    else:
        yield Finding("token", "cluster", "pass", "who has no token is refused")
    mode = cluster["token_mode"]
    if mode is not None and mode & 0o077:
        yield Finding("token", "driver", "fail", f"the token's file has mode {mode:04o}", "chmod 600 on it")


def _node(name: str, node: "AskedNode", cluster: "ClusterFacts") -> Iterator[Finding]:
    if node["error"]:
        advice = "look at this node's Ray logs; it needs the same Python, icd and Ray as the driver"
        yield Finding("answers", name, "fail", node["error"], advice)
    else:
        yield Finding("answers", name, "pass", "to every question")
    facts = node["facts"]
    if facts is not None:
        yield from _versions(name, facts, cluster["driver"])
        yield from judge_limits(name, facts, node["object_store_gb"])
        yield from judge_gpus(name, node["gpus"], facts)
    yield from _clock(name, node)
    yield from _root(name, node, cluster["root"])
    yield from _data(name, node["data"], cluster["data"])


def floors(where: str, facts: "NodeFacts") -> Iterator[Finding]:
    """Compare versions with the oldest that are safe."""
    for package, version in facts["versions"].items():
        floor = FLOORS.get(package)
        if floor is not None and version[:1].isdigit() and numbers(version) < numbers(floor.version):
            text = f"{package} {version} is older than {floor.version}: {floor.why}"
            yield Finding("versions", where, "fail", text, f"pip install --constraint constraints.txt {package}")


def _versions(name: str, facts: "NodeFacts", driver: "NodeFacts") -> Iterator[Finding]:
    found = [*floors(name, facts), *_python(name, facts["python"], driver["python"])]
    for package, here in driver["versions"].items():
        there = facts["versions"].get(package, "missing")
        if there != here:
            level, advice = _difference(package, there, here)
            found.append(Finding("versions", name, level, f"{package} {there}, but the driver has {here}", advice))
    if facts["versions"].get("icd") == driver["versions"].get("icd") and facts["source"] != driver["source"]:
        text = f"icd {driver['versions'].get('icd')} with other source: {facts['source']}, here {driver['source']}"
        found.append(Finding("versions", name, "fail", text, "have the same checkout or wheel of icd on all nodes"))
    yield from found or [Finding("versions", name, "pass", "those of the driver")]


def _python(name: str, there: str, here: str) -> Iterator[Finding]:
    if there != here:
        level: Level = "warn" if numbers(there)[:2] == numbers(here)[:2] else "fail"
        text = f"Python {there}, but the driver has {here}"
        yield Finding("versions", name, level, text, "make the environments of all nodes with one Python")


def _difference(package: str, there: str, here: str) -> tuple[Level, str]:
    """Say how bad it is: what a trial computes with must be the same, a build for another device may differ."""
    if package in ("optuna", "mlflow"):
        return "warn", "only drivers use it, but a driver may move to this node"
    if package in ("torch", "torchvision") and there.partition("+")[0] == here.partition("+")[0]:
        return "warn", "a build for another device: its results may differ in the last bits"
    return "fail", f"install {package} {here} there, as constraints.txt has it"


def _clock(name: str, node: "AskedNode") -> Iterator[Finding]:
    skew, limit = node["skew_s"], node["skew_limit_s"]
    if skew is None or limit is None:
        return
    text = f"{skew:+.3f} s to the driver's, known to {limit * 1000:.1f} ms"
    sure = abs(skew) - limit
    level: Level = "fail" if sure > _CLOCK_FAIL_S else "warn" if sure > _CLOCK_WARN_S else "pass"
    yield Finding(
        "clock", name, level, text, "" if level == "pass" else "run a time service (chrony, ntpd) on all nodes"
    )


def _root(name: str, node: "AskedNode", root: str) -> Iterator[Finding]:
    found, share = node["folder"], "put --root on storage that all nodes mount at the same place"
    if found is None:
        return
    if found["error"]:
        yield Finding("root", name, "fail", f"{root}: {found['error']}", share)
    elif not node["seen_here"]:
        yield Finding("root", name, "fail", f"{root}: the driver does not see what this node writes", share)
    else:
        yield _room(name, root, found["free_gb"], found["milliseconds"])


def _room(name: str, root: str, free_gb: float | None, milliseconds: float | None) -> Finding:
    free, took = free_gb or 0.0, milliseconds or 0.0
    text = f"{root}: written, synced and moved in {took:.0f} ms, {free:.1f} GB free"
    if not free >= _ROOM_GB:
        return Finding(
            "root", name, "fail", text, f"make room: checkpoints and teacher caches need more than {_ROOM_GB:g} GB"
        )
    if took > _SLOW_FOLDER_MS:
        return Finding("root", name, "warn", text, "every checkpoint waits for that; look for faster shared storage")
    return Finding("root", name, "pass", text)


def _data(name: str, there: "DataFacts | None", here: "DataFacts | None") -> Iterator[Finding]:
    if there is None or here is None:
        return
    text = f"{there['path']}: {there['files']} files, names and sizes {there['digest']}"
    if there["error"]:
        told, advice = f"{there['path']}: {there['error']}", "put them below the shared folder (--data-root, ICD_DATA)"
        if there["error"] == here["error"]:  # nobody has any, and what comes with icd needs none
            yield Finding("data", name, "warn", f"{told}, on the driver neither", f"for data of your own, {advice}")
        else:
            yield Finding("data", name, "fail", told, f"mount the data there, or {advice}")
    elif here["error"]:
        yield Finding("data", name, "warn", f"{text}; the driver: {here['error']}", "probing a sweep there needs them")
    elif there["digest"] != here["digest"]:
        told = f"{text}, but the driver has {here['files']} files, {here['digest']}"
        yield Finding("data", name, "fail", told, "copy the same files to all nodes; trials would train on others")
    else:
        yield Finding("data", name, "pass", text)


def judge_limits(name: str, facts: "NodeFacts", object_store_gb: float) -> Iterator[Finding]:
    """Judge what the system allows a process."""
    problems = []
    if 0 <= facts["files_limit"] < _FILES:
        text = f"a process may open {facts['files_limit']} files only"
        problems.append(Finding("limits", name, "warn", text, "ulimit -n 65536 before 'ray start'"))
    if facts["shm_gb"] is not None and facts["shm_gb"] < object_store_gb:
        text = f"/dev/shm has {facts['shm_gb']:.2f} GB, Ray's object store {object_store_gb:.2f} GB: it lies on disk"
        problems.append(Finding("limits", name, "warn", text, "enlarge /dev/shm (docker run --shm-size)"))
    shm = "no /dev/shm" if facts["shm_gb"] is None else f"/dev/shm {facts['shm_gb']:.1f} GB"
    yield from problems or [Finding("limits", name, "pass", f"{facts['files_limit']} open files, {shm}")]


def judge_gpus(name: str, expected: float, facts: "NodeFacts") -> Iterator[Finding]:
    """Judge the GPUs of a machine; ``expected`` is how many Ray counts there."""
    found = facts["gpus"]
    if not expected:
        yield Finding("gpu", name, "pass", "none")
        return
    problems = list(_gpu_problems(name, expected, found))
    names = ", ".join(str(row["name"]) for row in _rows(found, "torch"))
    memory = "no memory errors, " if any(row.get("ecc_errors") is not None for row in _rows(found, "driver")) else ""
    yield from problems or [Finding("gpu", name, "pass", f"{names}: {memory}products as on the CPU")]


def _gpu_problems(name: str, expected: float, found: Mapping[str, object]) -> Iterator[Finding]:
    rows, driver = _rows(found, "torch"), _rows(found, "driver")
    if found.get("error"):
        yield Finding("gpu", name, "fail", str(found["error"]), "look at nvidia-smi and dmesg (Xid) on this node")
    elif len(rows) < expected:
        text = f"Ray has {expected:g} GPUs, torch sees {len(rows)}"
        yield Finding("gpu", name, "fail", text, "install a torch for this driver, or correct Ray's --num-gpus")
    for index, row in enumerate(driver):
        if row.get("ecc_errors"):
            text = f"GPU {index} ({row['name']}): {row['ecc_errors']} uncorrected memory errors"
            yield Finding("gpu", name, "fail", text, "reset it or take the node out; its results are worth nothing")
    for index, row in enumerate(rows):
        yield from _gpu(name, f"cuda:{index} ({row['name']})", row)


def _gpu(name: str, gpu: str, row: Mapping[str, object]) -> Iterator[Finding]:
    if row.get("error"):
        yield Finding("gpu", name, "fail", f"{gpu}: {row['error']}", "end what uses it, or look at dmesg (Xid)")
        return
    error, free, total = (float(str(row[key])) for key in ("product_error", "free_mb", "total_mb"))
    if not error <= _PRODUCT_ERROR:
        text = f"{gpu}: a product of matrices is off by {error:.1e} of its largest value"
        yield Finding("gpu", name, "fail", text, "take the node out; this GPU computes wrongly")
    if free < _ALONE * total:
        text = f"{gpu}: {free / 1024:.1f} of {total / 1024:.1f} GB free"
        yield Finding("gpu", name, "warn", text, "others use it; look with nvidia-smi")


def _rows(found: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    rows = found.get(key, ())
    return list(rows) if isinstance(rows, list) else []


def judge_service(name: str, facts: "ServiceFacts") -> Iterator[Finding]:
    """Judge the driver's database or MLflow."""
    took = "" if facts["milliseconds"] is None else f", answers in {facts['milliseconds']:.1f} ms"
    text = f"{facts['where']}{took}"
    if facts["error"]:
        advice = "passwords come from the environment (docs/reference/files.md); the user must own its tables"
        yield Finding(name, "driver", "fail", f"{facts['where']}: {facts['error']}", advice)
    elif facts["filesystem"].startswith(_SHARED_DISKS):
        advice = "SQLite loses writes there; use PostgreSQL or this machine's own disk (ICD_STORAGE_URL)"
        yield Finding(name, "driver", "warn", f"{text}, on {facts['filesystem']}", advice)
    elif facts["milliseconds"] is not None and facts["milliseconds"] > _SLOW_DATABASE_MS:
        yield Finding(
            name, "driver", "warn", text, "every epoch of every trial waits for it; run the driver nearer to it"
        )
    else:
        yield Finding(name, "driver", "pass", text)


def numbers(version: str) -> tuple[int, ...]:
    """Give the numbers of a version, without what names a build."""
    plain = version.partition("+")[0]
    return tuple(int(part) for part in plain.split(".") if part.isdigit())
