"""What a training step costs on a GPU: the plain way, ours batch by batch, and recorded as a CUDA graph.

    python bench/gpu_step.py > gpu.json             # one GPU, under 8 minutes
    python bench/gpu_step.py --device cpu --quick   # tiny versions of all parts, no GPU, half a minute

resnet32x4 -> mobilenetv2, batches of 64 images of 32 x 32, K = 100, iCD-KD on scales 1, 2, 4, random pixels. Needs
torch, torchvision, numpy and this repository, but neither pydantic nor ray, optuna and mlflow. Arms take turns; clocks
are read after the device has finished.

    apart      distance of the weights after 40 steps, recorded and eager, over that from the start
    waits      how often 50 steps waited for the device (torch.cuda.set_sync_debug_mode); null on a CPU
    rates      plain: live teacher, losses cell by cell (plain.py); cache: our step, batch by batch, teacher's cache;
               R n: n trials in threads of this process, their epochs on the device. Trial-steps a second of all
               trials, hours of a trial of 240 epochs x 782 steps, ratio of trials an hour to the plain arm's
    methods    the 2.6x question: a step's milliseconds with the device finished, and by the host's clock alone, which
               is how it was measured that distilling cells costs 2.6 times distilling logits; a method that waits
               inside the timed part (DKD's mask) shows what others leave to the time after it
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
from icd.teacher.cache import open_cache, plan_cache
from icd.training.engine import DeviceEpochs
from icd.training.loop import EagerEpochs, Execution
from icd.training.step import TrainStep

TRIAL_STEPS = 240 * 782
CLASSES = 100
METHODS = ("KD", "DKD", "iCD-KD")  # without a wait, with one in the loss, the paper's


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    pair: str = "resnet32x4/mobilenetv2"
    batch: int = 64
    images: int = 782 * 64
    plain_steps: int = 60
    steps: int = 782  # whole epochs, what is sent before one included
    repeats: int = 5
    trials: tuple[int, ...] = (1, 4, 8, 16)


QUICK = Size(pair="resnet8/resnet8", batch=4, images=24, plain_steps=2, steps=6, repeats=2, trials=(1, 2))


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
            superclasses=None,
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

    def ours(self, config: TrialConfig, kind: str) -> "Arm":
        """Make a trial of ours, ``cache`` or ``device``."""
        # All seeds share one sequence of views, so that the cache holds one epoch.
        cache = open_cache(
            plan_cache([replace(config, seed=0)], self.split, "stream", folder=self.folder),
            replace(config, seed=0),
            self.teacher,
            self.folder,
        )
        one, shown = self.step(config), replace(config, seed=0)
        epochs: DeviceEpochs | EagerEpochs
        if kind == "device":
            epochs = DeviceEpochs(one, shown, self.split, self.images, self.teacher, cache)
        else:
            execution = Execution(device=self.device, cache=cache)
            epochs = EagerEpochs(one, shown, self.split, self.images, self.teacher, execution)
        return Arm(self.device, one.student, forever(epochs), epochs)

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
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
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
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 40.0)
        optimizer.step()
        yield loss.detach()


def together(arms: list[Arm], count: int) -> float:
    """Let trials do some steps at the same time, each in a thread; returns trial-steps a second."""
    barrier = threading.Barrier(len(arms) + 1)
    failed: list[BaseException] = []

    def work(arm: Arm) -> None:
        barrier.wait()
        try:
            arm.advance(count)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(arm,)) for arm in arms]
    for thread in threads:
        thread.start()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    if failed:
        raise failed[0]
    return len(arms) * count / taken


def rates(bench: Bench) -> dict[str, Any]:
    """Measure steps a second of all arms."""
    size = bench.size
    trials = [bench.ours(bench.config(seed=seed), "device") for seed in range(max(size.trials))]
    arms = {"plain": [bench.plain("iCD-KD")], "cache": [bench.ours(bench.config(), "cache")]}
    arms |= {f"R {count}": trials[:count] for count in size.trials}
    counts = {name: size.steps if name[0] == "R" else size.plain_steps for name in arms}
    trials[0].advance(size.steps)  # fills the cache
    for name in ("plain", "cache", f"R {max(size.trials)}"):
        together(arms[name], min(10, size.steps))  # kernels are loaded, steps recorded
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(size.repeats):
        for name, of in arms.items():
            found[name].append(together(of, counts[name]))
    plain_rate = statistics.median(found["plain"])
    rows = {}
    for name, all_rates in found.items():
        rate = statistics.median(all_rates)
        hours = TRIAL_STEPS / rate * len(arms[name]) / 3600
        rows[name] = {"steps_per_s": rate, "hours_of_a_trial": hours, "trials_ratio": rate / plain_rate}
        rows[name]["all"] = all_rates  # type: ignore[assignment]
    return rows


def waits(bench: Bench) -> dict[str, int | str | None]:
    """Count how often steps waited for the device, inside an epoch."""
    found: dict[str, int | str | None] = {}
    arms = {"device": bench.ours(bench.config(), "device"), "cache": bench.ours(bench.config(), "cache")}
    arms |= {f"plain {method}": bench.plain(method) for method in METHODS}
    for name, arm in arms.items():
        arm.advance(min(5, bench.size.steps - 1))
        if bench.device.type != "cuda":
            found[name] = None
            continue
        torch.cuda.set_sync_debug_mode("error" if name == "device" else "warn")
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


def apart(bench: Bench) -> dict[str, Any]:
    """Train the same trial recorded and eager, with fixed kernels."""
    cudnn = torch.backends.cudnn
    before, cudnn.deterministic = cudnn.deterministic, True
    count = min(40, bench.size.steps)
    start = flat(bench.step(bench.config()).student)
    ends, losses, recorded = [], [], False
    for kind in ("device", "cache"):
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
    }


def flat(network: nn.Module) -> Tensor:
    """Give all weights in a row, on the host."""
    return torch.cat([weight.detach().flatten().cpu() for weight in network.parameters()])


def methods(bench: Bench) -> dict[str, dict[str, float]]:
    """Time steps of several methods, with the device finished and by the host's clock alone."""
    size, rows = bench.size, {}
    arms = {f"plain {method}": (bench.plain(method), size.plain_steps) for method in METHODS}
    arms |= {f"device {method}": (bench.ours(bench.config(method), "device"), size.steps) for method in METHODS}
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
    for kind in ("plain", "device"):
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


def show(title: str, rows: dict[str, Any]) -> None:
    """Print a table on stderr."""
    print(title, file=sys.stderr)
    for name, row in rows.items():
        cells = row.items() if isinstance(row, dict) else [("", row)]
        shown = [f"{head} {value:.4g}" if isinstance(value, float) else f"{head} {value}" for head, value in cells]
        print("  ", name.ljust(16), "  ".join(cell for cell in shown if "[" not in cell), file=sys.stderr, flush=True)


def main() -> None:
    """Run all parts, print tables on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, a few steps")
    parser.add_argument("--pair", help="teacher/student, instead of resnet32x4/mobilenetv2")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    size = replace(size, pair=options.pair) if options.pair else size
    device = torch.device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    told: dict[str, Any] = {"device": name, "torch": torch.__version__, "pair": size.pair, "batch": size.batch}
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
        bench = Bench(size, device, Path(folder))
        for part in (apart, waits, rates, methods):
            began = time.perf_counter()
            told[part.__name__] = part(bench)
            show(f"{part.__name__} ({time.perf_counter() - began:.0f} s)", told[part.__name__])
    if device.type == "cuda":
        told["memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    json.dump(told, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
