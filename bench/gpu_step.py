"""What a training step costs on a GPU, and whether its engine may be the default: first equality, then speed.

    python bench/gpu_step.py                        # one GPU, under 8 minutes
    python bench/gpu_step.py --device cpu --quick   # tiny versions of all parts, no GPU, half a minute
    make gpu-bench                                  # the same, filed in docs/results as JSON and Markdown

resnet32x4 -> mobilenetv2, batches of 64 images of 32 x 32, K = 100, iCD-KD on scales 1, 2, 4, random pixels. Needs
torch, torchvision, numpy and this repository, but neither pydantic nor ray, optuna and mlflow. Clocks are read after
the device has finished. JSON goes to stdout and a Markdown table to stderr, or both to a folder with --out.

    equality   distance of the weights after 40 steps from those of eager steps, over that from the start: of a recorded
               step, and of two processes at once (through MPS where its daemon starts)
    waits      how often 50 steps waited for the device (torch.cuda.set_sync_debug_mode); null on a CPU
    rates      plain: live teacher, losses cell by cell (plain.py); live, cache: our step, batch by batch, the teacher
               live or its cache; graph: recorded, cache and images on the device. Trials are processes, 1 to 16 at
               once, with and without MPS. Trial-steps a second of all, hours of a trial of 240 epochs x 782 steps, and
               the ratio of trials an hour to the plain arm's
    methods    the 2.6x question: a step's milliseconds with the device finished, and by the host's clock alone, which
               is how it was measured that distilling cells costs 2.6 times distilling logits; a method that waits
               inside the timed part (DKD's mask) shows what others leave to the time after it
    verdict    a sentence: which default of ``engine: auto`` these figures support
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import plain
import torch
from torch import Tensor, nn

from icd.config.training import TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.data.images import ArrayImages
from icd.data.split import ClosedTest, Split
from icd.data.views import CropFlip
from icd.methods import PAPER_ROWS, CellDistillation
from icd.models import Network, build_model
from icd.teacher.cache import TeacherCache, open_cache
from icd.teacher.cache_plan import plan_cache
from icd.training.engine import DeviceEpochs
from icd.training.epoch_inputs import EagerEpochs, EpochInputs
from icd.training.loop import Execution
from icd.training.step import TrainStep

TRIAL_STEPS = 240 * 782
CLASSES = 100
KINDS = ("plain", "live", "cache", "graph")
APART = 0.01  # of the way: more than rounding
METHODS = ("KD", "DKD", "iCD-KD")  # without a wait, with one in the loss, the paper's


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    pair: str = "resnet32x4/mobilenetv2"
    batch: int = 64
    images: int = 782 * 64
    plain_steps: int = 60
    steps: int = 782  # whole epochs, what is sent before one included
    trial_steps: int = 100  # of each trial where several run
    repeats: int = 3
    trials: tuple[int, ...] = (1, 4, 8, 16)


QUICK = Size(
    pair="resnet8/resnet8", batch=4, images=24, plain_steps=2, steps=6, trial_steps=2, repeats=2, trials=(1, 2)
)


class Bench:
    """One pair of networks, one set of images, one cache."""

    def __init__(self, size: Size, device: torch.device, folder: Path) -> None:
        self.size, self.device, self.folder = size, device, folder
        arch, _ = size.pair.split("/")
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (size.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, CLASSES, (size.images,), generator=generator)
        images = ArrayImages(pixels, labels)
        self.split = Split(
            name="random",
            train=images,
            val=images,
            test=ClosedTest(lambda: images),
            class_names=tuple(str(number) for number in range(CLASSES)),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            digest="d" * 64,
            split_digest="s" * 64,
        )
        self.images = images.to(device)
        teacher = build_model(arch, num_classes=CLASSES, seed=1).eval().requires_grad_(False)
        self.teacher: Network = teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def config(self, method: str = "iCD-KD", seed: int = 0) -> TrialConfig:
        """Give the configuration of a trial."""
        arch, student = self.size.pair.split("/")
        row = PAPER_ROWS[method]
        assert isinstance(row, CellDistillation)
        return TrialConfig(
            data=DataConfig(name="digits100", digest="d" * 64),
            student=NetworkConfig(arch=student, stem="conv3x3"),
            method=replace(row, allow_repeated_cells=True),
            training=TrainingConfig(
                augmentation=CropFlip(size=32, pad=4),
                epochs=1,
                batch_size=self.size.batch,
                lr=0.01,
                weight_decay=5e-4,
                clip_norm=40.0,
                drop_last=True,
            ),
            teacher=TeacherConfig(arch=arch, stem="conv3x3", digest="t" * 64),
            seed=seed,
        )

    def step(self, config: TrialConfig) -> TrainStep:
        """Make a new student and its step."""
        student = build_model(config.student.arch, num_classes=CLASSES, seed=config.seed).train()
        student = student.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TrainStep(student, config.method.build(None), config.training)

    def inputs(self, config: TrialConfig, cache: TeacherCache | None = None) -> EpochInputs:
        """Give what its epochs are made of."""
        execution = Execution(device=self.device, cache=cache)
        return EpochInputs(config, self.split, self.images, execution, self.teacher)

    def ours(self, config: TrialConfig, kind: str) -> "Arm":
        """Make a trial of ours: ``live``, ``cache`` or ``graph``."""
        if kind == "live":
            train_step = self.step(config)
            live = EagerEpochs(train_step, self.inputs(config))
            return Arm(self.device, train_step.student, forever(live), live)
        # All seeds share one sequence of views, so that the cache holds one epoch.
        cache = open_cache(
            plan_cache([replace(config, seed=0)], self.split, "stream", folder=self.folder),
            replace(config, seed=0),
            self.teacher,
            self.folder,
        )
        step, inputs = self.step(config), self.inputs(replace(config, seed=0), cache)
        epochs = DeviceEpochs(step, inputs) if kind == "graph" else EagerEpochs(step, inputs)
        return Arm(self.device, step.student, forever(epochs), epochs)

    def plain(self, method: str) -> "Arm":
        """Make a plain trial; its images are normalised beforehand."""
        student = build_model(self.size.pair.split("/")[1], num_classes=CLASSES, seed=0).train().to(self.device)
        teacher = build_model(self.size.pair.split("/")[0], num_classes=CLASSES, seed=1).eval().to(self.device)
        pixels = (self.images.images_NCHW[: 8 * self.size.batch].float() / 255 - 0.5) / 0.25
        batches = list(zip(pixels.split(self.size.batch), self.images.labels_N.split(self.size.batch), strict=False))
        return Arm(self.device, student, plain_steps(student, teacher, method, itertools.cycle(batches)))


class Arm:
    """A trial under way; on CUDA it has a stream of its own."""

    def __init__(self, device: torch.device, student: nn.Module, steps: Iterator[Tensor], epochs: Any = None) -> None:
        self.student, self.steps, self.epochs = student, steps, epochs
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.default_stream(device))

    def advance(self, count: int, after: Callable[[Tensor], None] = lambda values: None) -> None:
        """Do some steps and wait for them."""
        with self.on_stream():
            for values in itertools.islice(self.steps, count):
                after(values)
            if self.stream is not None:
                self.stream.synchronize()

    def on_stream(self) -> AbstractContextManager[Any]:
        """Work on the trial's stream."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


def forever(epochs: DeviceEpochs | EagerEpochs) -> Iterator[Tensor]:
    """Repeat the first epoch."""
    while True:
        yield from epochs.steps(1)


def plain_steps(student: Network, teacher: Network, method: str, batches: Iterator[Any]) -> Iterator[Tensor]:
    """Do the step of plain.py."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for images_BCHW, labels_B in batches:
        with torch.no_grad():
            answer = teacher(images_BCHW)
        heads = (student.head, teacher.head)
        loss = plain.loss_of(method, (1, 2, 4), student(images_BCHW), answer, heads, labels_B)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 40.0)
        optimizer.step()
        yield loss.detach()


class Trials:
    """Processes that train one trial each, from the moment they are told; all on one GPU."""

    def __init__(
        self, size: Size, kind: str, count: int, device: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        words = [sys.executable, __file__, "--device", device, "--worker", kind, "--folder", str(folder)]
        words += ["--pair", size.pair, *(["--quick"] if size.batch == QUICK.batch else [])]
        pipe, there = subprocess.PIPE, {**os.environ, **environment}
        self.workers = [
            subprocess.Popen([*words, "--seed", str(seed)], stdin=pipe, stdout=pipe, text=True, env=there)
            for seed in range(count)
        ]
        for worker in self.workers:
            _told(worker)  # kernels are loaded, steps recorded

    def rate(self, count: int, steps: int) -> float:
        """Let the first trials do some steps at the same time; trial-steps a second."""
        began = time.perf_counter()
        for worker in self.workers[:count]:
            _tell(worker, f"{steps}\n")
        for worker in self.workers[:count]:
            _told(worker)
        return count * steps / (time.perf_counter() - began)

    def digests(self) -> list[str]:
        """Digest of the weights of each."""
        for worker in self.workers:
            _tell(worker, "digest\n")
        return [_told(worker) for worker in self.workers]

    def close(self) -> None:
        """End them."""
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in self.workers:
            worker.wait()


def _tell(worker: "subprocess.Popen[str]", line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line)
    worker.stdin.flush()


def _told(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a trial's process ended with {worker.wait()}")
    return line


def work(bench: Bench, kind: str, seed: int) -> None:
    """Be a trial's process: ready after a few steps, then as many as each line of the input says."""
    arm = bench.plain("iCD-KD") if kind == "plain" else bench.ours(bench.config(seed=seed), kind)
    arm.advance(min(10, bench.size.trial_steps))
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "digest":
            print(hashlib.sha256(flat(arm.student).numpy().tobytes()).hexdigest(), flush=True)
            continue
        arm.advance(int(line))
        print("done", flush=True)


@contextmanager
def mps(folder: Path) -> Iterator[dict[str, str] | None]:
    """Run MPS's daemon for processes with this environment; None where there is none."""
    program = shutil.which("nvidia-cuda-mps-control")
    if program is None:
        yield None
        return
    names = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for name in names.values():
        Path(name).mkdir()
    environment = {**os.environ, **names}
    if subprocess.run([program, "-d"], env=environment, check=False).returncode:
        yield None
        return
    try:
        yield names
    finally:
        subprocess.run([program], input="quit\n", text=True, env=environment, check=False)


def rates(bench: Bench) -> dict[str, Any]:
    """Measure steps a second of all arms; the cache is full before."""
    size, device, found = bench.size, str(bench.device), dict[str, dict[str, Any]]()
    bench.ours(bench.config(), "cache").advance(size.steps)
    with ExitStack() as stack:
        shared = stack.enter_context(mps(bench.folder))
        ways = {"": {}, **({" MPS": shared} if shared is not None else {})}
        for kind, (way, environment) in itertools.product(KINDS, ways.items()):
            counts = size.trials if kind in ("cache", "graph") else (1,)
            if way and counts == (1,):
                continue
            trials = Trials(size, kind, max(counts), device, bench.folder, environment)
            for count in counts:
                all_rates = [trials.rate(count, size.trial_steps) for _ in range(size.repeats)]
                rate = statistics.median(all_rates)
                hours = TRIAL_STEPS / rate * count / 3600
                found[f"{kind} x{count}{way}"] = {"steps_per_s": rate, "hours_of_a_trial": hours, "all": all_rates}
            trials.close()
    for row in found.values():
        row["trials_ratio"] = row["steps_per_s"] / found["plain x1"]["steps_per_s"]
    return found


def waits(bench: Bench) -> dict[str, int | str | None]:
    """Count how often steps waited for the device, inside an epoch."""
    found: dict[str, int | str | None] = {}
    arms = {"graph": bench.ours(bench.config(), "graph"), "cache": bench.ours(bench.config(), "cache")}
    arms |= {f"plain {method}": bench.plain(method) for method in METHODS}
    for name, arm in arms.items():
        arm.advance(min(5, bench.size.steps - 1))
        if bench.device.type != "cuda":
            found[name] = None
            continue
        torch.cuda.set_sync_debug_mode("error" if name == "graph" else "warn")
        try:
            with warnings.catch_warnings(record=True) as caught, arm.on_stream():
                warnings.simplefilter("always")
                for _ in itertools.islice(arm.steps, 50):
                    pass
            found[name] = len(caught)
        except RuntimeError as error:  # the other parts are worth having all the same
            found[name] = str(error)[:200]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def equality(bench: Bench) -> dict[str, Any]:
    """Train the same trial recorded and eager, with fixed kernels; and twice at once."""
    cudnn = torch.backends.cudnn
    before, cudnn.deterministic = cudnn.deterministic, True
    count = min(40, bench.size.steps)
    start = flat(bench.step(bench.config()).student)
    ends, losses, recorded = [], [], False
    for kind in ("graph", "cache"):
        arm, seen = bench.ours(bench.config(), kind), list[Tensor]()
        arm.advance(count, lambda values, seen=seen: seen.append(values.sum().clone()))  # type: ignore[misc]
        recorded = recorded or getattr(arm.epochs, "graph", None) is not None
        ends.append(flat(arm.student))
        losses.append(torch.stack(seen).cpu())
    cudnn.deterministic = before
    moved = (ends[1] - start).norm()
    return {
        "steps": count,
        "recorded": recorded,
        "weights": float((ends[0] - ends[1]).norm() / moved),
        "first_loss": float((losses[0] - losses[1])[0].abs() / losses[1][0]),
        "losses": float(((losses[0] - losses[1]).abs() / losses[1]).max()),
        **two_at_once(bench, count),
    }


def two_at_once(bench: Bench, count: int) -> dict[str, bool]:
    """Whether a trial that shares the GPU with another process ends with the bits of the same trial alone."""
    with tempfile.TemporaryDirectory(prefix="icd-mps-") as folder, mps(Path(folder)) as shared:
        digests = []
        for number in (1, 2):
            trials = Trials(bench.size, "cache", number, str(bench.device), bench.folder, shared or {})
            trials.rate(number, count)
            digests.append(trials.digests()[0])
            trials.close()
    return {"mps": shared is not None, "beside_another_equal": digests[0] == digests[1]}


def flat(network: nn.Module) -> Tensor:
    """Give all weights in a row, on the host."""
    return torch.cat([weight.detach().flatten().cpu() for weight in network.parameters()])


def methods(bench: Bench) -> dict[str, dict[str, float]]:
    """Time steps of several methods, with the device finished and by the host's clock alone."""
    size, rows = bench.size, {}
    arms = {f"plain {method}": (bench.plain(method), size.plain_steps) for method in METHODS}
    arms |= {f"graph {method}": (bench.ours(bench.config(method), "graph"), size.steps) for method in METHODS}
    for arm, count in arms.values():
        arm.advance(min(10, count))
    finished: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(size.repeats):
        for name, (arm, count) in arms.items():
            began = time.perf_counter()
            arm.advance(count)
            finished[name].append(1000 * (time.perf_counter() - began) / count)
    for name, (arm, count) in arms.items():
        rows[name] = {"finished_ms": statistics.median(finished[name]), "host_ms": host_ms(arm, count)}
    for kind in ("plain", "graph"):
        base = rows[f"{kind} KD"]
        for method in METHODS:
            row = rows[f"{kind} {method}"]
            row |= {f"{clock}_over_kd": row[f"{clock}_ms"] / base[f"{clock}_ms"] for clock in ("finished", "host")}
    return rows


def host_ms(arm: Arm, count: int) -> float:
    """Time steps as papers did: the host's clock around a step, the loss read after it."""
    taken = []
    with arm.on_stream():
        for _ in range(min(count, 50)):
            began = time.perf_counter()
            values = next(arm.steps)
            taken.append(1000 * (time.perf_counter() - began))
            values.cpu()
    return statistics.median(taken)


def verdict(told: Mapping[str, Any]) -> str:
    """Say which default of ``engine: auto`` the figures support."""
    equal, found = told["equality"], told["rates"]
    if not equal["recorded"]:
        return "Supports engine: auto = eager, because no step was recorded here."
    if not (equal["weights"] <= APART and equal["beside_another_equal"]):
        return "Supports engine: auto = eager, because recorded or shared trials do not end where eager ones do."
    gains = [
        found[name]["steps_per_s"] / found[name.replace("graph", "cache")]["steps_per_s"]
        for name in found
        if name.startswith("graph")
    ]
    if min(gains) < 1:
        return f"Supports engine: auto = eager, because recorded steps are slower somewhere ({min(gains):.2f}x)."
    return f"Supports engine: auto = graph: equal weights, and {min(gains):.2f}x to {max(gains):.2f}x as many steps."


def markdown(told: Mapping[str, Any]) -> str:
    """Write the rates as a table, with equality before it and the verdict after it."""
    equal = {name: value for name, value in told["equality"].items() if name != "steps"}
    lines = [
        f"# A training step on {told['device']}",
        "",
        f"torch {told['torch']}, {told['pair']}, batch {told['batch']}.",
    ]
    lines += ["", "Equality: " + ", ".join(f"{name} {value}" for name, value in equal.items()) + "."]
    lines += ["", "| trials | steps a second | hours of a trial | trials an hour over plain |", "|---|---|---|---|"]
    for name, row in told["rates"].items():
        lines.append(
            f"| {name} | {row['steps_per_s']:.4g} | {row['hours_of_a_trial']:.3g} | {row['trials_ratio']:.3g} |"
        )
    lines += [
        "",
        "| method | ms, device finished | ms, host's clock | over KD | over KD, host's clock |",
        "|---|---|---|---|---|",
    ]
    for name, row in told["methods"].items():
        cells = (row[key] for key in ("finished_ms", "host_ms", "finished_over_kd", "host_over_kd"))
        lines.append(f"| {name} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")
    return "\n".join([*lines, "", told["verdict"], ""])


def main() -> None:
    """Run all parts; the figures as JSON, the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, a few steps")
    parser.add_argument("--pair", help="teacher/student, instead of resnet32x4/mobilenetv2")
    parser.add_argument("--out", type=Path, help="folder for DATE-gpu-step.json and .md, instead of stdout and stderr")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    size = replace(size, pair=options.pair) if options.pair else size
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    if options.worker:
        work(Bench(size, device, options.folder), options.worker, options.seed)
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    told: dict[str, Any] = {"device": name, "torch": torch.__version__, "pair": size.pair, "batch": size.batch}
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
        bench = Bench(size, device, Path(folder))
        for part in (equality, waits, rates, methods):
            began = time.perf_counter()
            told[part.__name__] = part(bench)
            print(f"{part.__name__} ({time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)
    told["verdict"] = verdict(told)
    if options.out is None:
        print(json.dumps(told, indent=1))
        print(markdown(told), file=sys.stderr)
        return
    for ending, text in (("json", json.dumps(told, indent=1) + "\n"), ("md", markdown(told))):
        (options.out / f"{time.strftime('%Y-%m-%d')}-gpu-step.{ending}").write_text(text)


if __name__ == "__main__":
    main()
