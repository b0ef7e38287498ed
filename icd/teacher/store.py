"""Teachers: trained or imported once, kept under the digest of their weights, found again by name or digest."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from icd.config.checks import pretrained_problem
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig, used_plugins
from icd.data.split import Split
from icd.errors import ConfigError, IcdError, Interrupted, Problem, StateError, TeacherError, did_you_mean
from icd.methods import CrossEntropy
from icd.models import MODELS, Network, Stem, build_model
from icd.models.timm_nets import TimmNetwork
from icd.models.torchvision_nets import IMAGENET_CLASSES
from icd.storage.bucket import Bucket
from icd.storage.durable import write_durably
from icd.storage.folder_lock import alone_in
from icd.teacher.foreign_weights import read_foreign, unwrapped
from icd.training import checkpoints
from icd.training.checkpoints import weights_digest
from icd.training.evaluation import evaluate
from icd.training.loop import Execution, evaluation_batches, train

logger = logging.getLogger(__name__)

Announce = Callable[[str], None]

_DIGITS = 16  # of a digest in folder names; 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """What is known of a teacher without loading it.

    Attributes:
        digest: SHA-256 of the weights; the teacher's identity.
        name: For people; unique in a store.
        arch: A row of ``MODELS``.
        stem: Its first layers.
        num_classes: Width of its head.
        data: Name of the data set it was trained or measured on.
        data_digest: Digest of those images and their split.
        val_top1: Top-1 accuracy on the validation part, percent.
        val_unseen: Whether that part was kept out of its training; unknown, so false, for imported weights.
        origin: ``trained`` or ``imported from FILE``.
        recipe: Key of the configuration that trained it.
        created: UTC time.
    """

    digest: str
    name: str
    arch: str
    stem: Stem
    num_classes: int
    data: str
    data_digest: str
    val_top1: float
    val_unseen: bool
    origin: str
    recipe: str | None
    created: str


class Ready(NamedTuple):
    """A teacher that can be asked: its network, the digest that identifies it, and a line for people."""

    network: Network
    digest: str
    summary: str


class TeacherStore:
    """A folder of teachers, each in ``<digest>/`` as ``teacher.json`` and ``weights.ckpt``.

    Where the root is a bucket, cards are brought here before each look, and weights when they are loaded.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self.folder, self.bucket = folder, bucket

    def all(self) -> list[Teacher]:
        """Every teacher, oldest first."""
        self._bring_cards()
        cards = []
        for path in self.folder.glob("*/teacher.json"):
            try:
                cards.append(Teacher(**json.loads(path.read_text())))
            except (OSError, ValueError, TypeError) as error:
                raise TeacherError(f"{path} must describe a teacher, but cannot be read: {error}") from error
        return sorted(cards, key=lambda card: (card.created, card.name))

    def find(self, reference: str) -> Teacher:
        """Look a teacher up by name or by the first digits of its digest (6 or more).

        Raises:
            TeacherError: If none fits, or more than one.
        """
        cards = self.all()
        fitting = [card for card in cards if card.name == reference]
        if not fitting and len(reference) >= 6:
            fitting = [card for card in cards if card.digest.startswith(reference.lower())]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise TeacherError(f"teacher {reference!r} must name one teacher, but {len(fitting)} digests start so")
        hint = did_you_mean(reference, [card.name for card in cards]) if cards else "the store is empty"
        raise TeacherError(f"no teacher {reference!r} in {self.folder}; {hint}; see 'icd teacher list'")

    def known(self, field: Literal["recipe", "digest"], value: str) -> Teacher | None:
        """Give the teacher that a configuration trained, or whose weights have a digest, if there is one."""
        return next((card for card in self.all() if getattr(card, field) == value), None)

    def add(self, card: Teacher, state: Mapping[str, Tensor]) -> Teacher:
        """Keep a teacher; the same weights again are the same teacher.

        Raises:
            StateError: If other weights already have the name.
        """
        for known in self.all():
            if known.digest == card.digest:
                if known.recipe is None and card.recipe is not None:
                    known = replace(known, recipe=card.recipe)
                    self._write(known)
                return known
            if known.name == card.name:
                raise StateError(
                    f"teacher name {card.name!r} is taken by {known.digest[:_DIGITS]}; choose another --name"
                )
        folder = self._folder(card.digest)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.save(folder / "weights.ckpt", {"weights": {name: t.detach().cpu() for name, t in state.items()}})
        self._publish(folder / "weights.ckpt")
        self._write(card)  # last: a teacher without its card does not exist
        return card

    def load(self, card: Teacher) -> Network:
        """Build a teacher's network and fill in its weights, digest checked."""
        path = self._folder(card.digest) / "weights.ckpt"
        if self.bucket is not None and not path.exists():
            self.bucket.download(self._name(path), path)
        state = checkpoints.load(path)["weights"]
        if weights_digest(state) != card.digest:
            raise TeacherError(f"teacher {card.name}: weights do not have the digest {card.digest[:_DIGITS]}")
        return fitted(state, card.arch, card.stem, card.num_classes, source=f"teacher {card.name}")

    def _write(self, card: Teacher) -> None:
        path = self._folder(card.digest) / "teacher.json"
        write_durably(path, (json.dumps(asdict(card), indent=1) + "\n").encode())
        self._publish(path)

    def _bring_cards(self) -> None:
        if self.bucket is None:
            return
        for name, stored in self.bucket.list("teachers").items():
            path = self.folder.parent / name
            if path.name == "teacher.json" and not (path.exists() and path.stat().st_size == stored.size):
                self.bucket.download(name, path)

    def _publish(self, path: Path) -> None:
        if self.bucket is not None:
            self.bucket.upload(self._name(path), path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.parent).as_posix()

    def _folder(self, digest: str) -> Path:
        return self.folder / digest[:_DIGITS]


def fitted(state: Mapping[str, Tensor], arch: str, stem: Stem, num_classes: int, *, source: str) -> Network:
    """Build a network and load weights that must be its own.

    Raises:
        TeacherError: If they are of another architecture or class count; one line naming both.
    """
    network = build_model(arch, num_classes=num_classes, stem=stem)
    wanted = network.state_dict()
    # Files from before torch 0.4.1 have no batch counters; nothing reads them.
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    state = dict(unwrapped(state, wanted))
    if isinstance(network, TimmNetwork):  # timm's own files know nothing of what it stands in here
        state = {name if name in wanted else f"network.{name}": tensor for name, tensor in state.items()}
    state = counters | state
    missing, surplus = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    other = sorted(n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape)
    head = head_name(network)
    if not missing and not surplus and other and all(name.startswith(head) for name in other):
        found = state[f"{head}.weight"]
        shape = " x ".join(str(size) for size in found.shape)
        raise TeacherError(
            f"{source} has {found.shape[0]} classes ({head}.weight {shape}), but {num_classes} are needed"
        )
    if missing or surplus or other:
        raise TeacherError(
            f"{source} does not fit {arch} (stem {stem}): {len(missing)} weights missing, {len(surplus)} unknown, "
            f"{len(other)} of another shape{_guess(state)}"
        )
    network.load_state_dict(state)
    return network


def head_name(network: Network) -> str:
    """Name of the classifier in the state dict."""
    return next(str(name) for name, module in network.named_modules() if module is network.head)


def _guess(state: Mapping[str, Tensor]) -> str:
    """Say which architecture the weights belong to, if it is one of ours."""
    shapes = {name: tensor.shape for name, tensor in state.items() if tensor.dim() > 1}
    last = next(reversed(shapes.values()), None)
    for arch, row in MODELS.items():
        for stem in row.stems:
            with torch.device("meta"):
                wanted = build_model(arch, num_classes=last[0] if last else 1, stem=stem).state_dict()
            if shapes == {name: tensor.shape for name, tensor in wanted.items() if tensor.dim() > 1}:
                return f"; its weights are those of {arch} (stem {stem})"
    return ""


def import_teacher(store: TeacherStore, path: Path, split: Split, config: TrialConfig, *, name: str | None) -> Teacher:
    """Bring a published weights file into the store, measured on the validation part of a data set.

    ``config`` names the architecture, as its student, and the test-time view.

    Raises:
        TeacherError: If the file cannot be read, does not fit, or holds a number that is not finite.
    """
    student, state = config.student, read_foreign(path)
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise TeacherError(f"{path} must hold finite weights, but {len(broken)} are not, {broken[0]} first")
    network = fitted(state, student.arch, student.stem, split.num_classes, source=str(path)).eval()
    network.to(memory_format=torch.channels_last)
    measured = evaluate(network, evaluation_batches(config, split, split.val, Execution()))
    share = 1 / split.num_classes  # that guessing gets right, but for two standard deviations
    if measured["top1"] <= 100 * (share + 2 * math.sqrt(share * (1 - share) / len(split.val))):
        logger.warning(
            "%s is no better than chance on the validation images of %s (top-1 %.2f %%): was it trained on these "
            "classes, in this order, with this normalisation?",
            *(path, split.name, measured["top1"]),
        )
    state = network.state_dict()
    digest = weights_digest(state)
    card = _card(network, digest, config, split, measured["top1"], name=name, origin=f"imported from {path.name}")
    return store.add(replace(card, val_unseen=False, recipe=None), state)


def recipe(data: DataConfig, teacher: TeacherConfig) -> TrialConfig:
    """The configuration that trains a teacher: its own training and seed, cross entropy alone, and its own plugins."""
    if teacher.training is None:
        raise IcdError("a teacher with weights 'train' has a training")
    config = TrialConfig(
        data=replace(data, train_on="train", measure_on="val"),  # whatever its students are shown
        student=NetworkConfig(arch=teacher.arch, stem=teacher.stem, pretrained=teacher.pretrained),
        method=CrossEntropy(),
        training=teacher.training,
        seed=teacher.seed,
    )
    return replace(config, plugins=used_plugins(config))


def train_teacher(
    store: TeacherStore,
    config: TrialConfig,
    split: Split,
    execution: Execution,
    name: str | None,
    announce: Announce = logger.info,
) -> Teacher:
    """Train a teacher unless the store already has the one this configuration gives.

    A training that was cut off continues from its checkpoint; one that another process is at is waited for.
    """
    if (known := store.known("recipe", config.key())) is not None:
        return known
    working = store.folder / ".training" / config.key()[:_DIGITS]
    with alone_in(working, announce, execution.stop, lambda: execution.progress(0, 0, 1)):
        if (known := store.known("recipe", config.key())) is not None:
            return known
        working.mkdir(exist_ok=True)
        trained = train(config, split, None, replace(execution, checkpoints=working))
        if not trained.finished:
            done = f"epoch {trained.epoch} of {config.training.epochs}"
            raise Interrupted(f"teacher training stopped after {done}; start again to continue")
        state, top1 = trained.network.state_dict(), trained.metrics["val/top1"]
        card = _card(trained.network, weights_digest(state), config, split, top1, name=name, origin="trained")
        card = store.add(card, state)
        shutil.rmtree(working)
        return card


def prepare(
    config: TrialConfig, split: Split, store: TeacherStore, execution: Execution, announce: Announce = logger.info
) -> Ready | None:
    """Give the teacher a configuration asks for, trained now if need be; None if it asks for none."""
    if (teacher := config.teacher) is None:
        return None
    if teacher.weights == "pretrained":
        return _pretrained(teacher, split)
    card = store.known("digest", teacher.digest) if teacher.digest else None
    if card is None and teacher.weights == "train":
        card = train_teacher(store, recipe(config.data, teacher), split, execution, None, announce)
        if execution.stop():
            raise Interrupted(f"stopped once teacher {card.name} was trained; start again to continue")
    card = card or store.find(teacher.weights)
    if card.arch != teacher.arch:
        raise TeacherError(f"teacher {card.name} is a {card.arch}, but the configuration says {teacher.arch}")
    if card.num_classes != split.num_classes:
        raise TeacherError(
            f"teacher {card.name} has {card.num_classes} classes, but {split.name} has {split.num_classes}"
        )
    _check_digest(teacher, card.name, card.digest)
    return Ready(store.load(card), card.digest, f"{card.name}, val top-1 {card.val_top1:.2f} %")


def _pretrained(teacher: TeacherConfig, split: Split) -> Ready:
    """Give a network with its published weights; its head must be the published one."""
    if split.num_classes != IMAGENET_CLASSES:
        rule, hint = pretrained_problem(split.num_classes)
        raise ConfigError(Problem(path="teacher.weights", rule=rule, value="pretrained", hint=hint))
    network = build_model(teacher.arch, num_classes=split.num_classes, stem=teacher.stem, pretrained=True)
    digest = weights_digest(network.state_dict())
    _check_digest(teacher, f"{teacher.arch} as published", digest)
    return Ready(network, digest, f"{teacher.arch}, published weights")


def _check_digest(teacher: TeacherConfig, name: str, digest: str) -> None:
    if teacher.digest not in (None, digest):
        raise TeacherError(
            f"teacher {name} has the digest {digest[:_DIGITS]}, but the configuration says {teacher.digest[:_DIGITS]}"
        )


def _card(
    network: Network, digest: str, config: TrialConfig, split: Split, top1: float, *, name: str | None, origin: str
) -> Teacher:
    student = config.student
    return Teacher(
        digest=digest,
        name=name or f"{student.arch}-{split.name}-{digest[:6]}",
        arch=student.arch,
        stem=student.stem,
        num_classes=network.head.out_features,
        data=split.name,
        data_digest=f"{split.digest}:{split.split_digest}",
        val_top1=top1,
        val_unseen=True,
        origin=origin,
        recipe=config.key(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
