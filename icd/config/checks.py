"""Rules between the parts of a trial: images and augmentation, networks and stems, scales and feature maps."""

from collections.abc import Iterable
from typing import Any

from icd.config.document import KeyPath
from icd.config.reader import Reader
from icd.config.training import TrainingConfig, preset_fields
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.data import DATASETS, views_problem
from icd.errors import ConfigError
from icd.losses import DecoupledKD, LocalRelations, NormalizedKD, RefinedLogits
from icd.methods import METHODS, CellDistillation, ContrastiveRepresentation, Method
from icd.models import MODELS, feature_size
from icd.models.torchvision_nets import IMAGENET_CLASSES

_NOT_PRETRAINED = "only torchvision's networks, and many of timm's, have published ImageNet weights here"


class TrialParts(Reader):
    """The parts of a trial that could be read; what is None could not, or is not there."""

    images: DataConfig | None = None
    student: NetworkConfig | None = None
    teacher: TeacherConfig | None = None
    method: Method | None = None
    training: TrainingConfig | None = None
    of_teacher: TrainingConfig | None = None

    @property
    def size(self) -> int | None:
        """Size of the images as the student sees them."""
        return self.training.augmentation.size if self.training and self.right(("training", "augmentation")) else None


def check_data(known: TrialParts) -> None:
    """Check paths, augmentations and numbers of classes against the data set."""
    images, note = known.images, known.note
    if images is None:
        return
    row = DATASETS[images.name]
    if row.needs_path and not images.path and known.right(("data", "path"), ("data", "name")):
        note(("data", "path"), f"{images.name} needs a path to its file or folder")
    for path, training in ((("training",), known.training), (("teacher", "training"), known.of_teacher)):
        where: KeyPath = (*path, "augmentation")
        if training is None or row.from_files or not known.right(where, ("data", "name")):
            continue
        if wrong := views_problem(images.name, training.augmentation, row.image_size):
            note(where, wrong.rule, value=wrong.value, hint=wrong.hint)
    if images.num_classes is not None and known.right(("data", "name")):
        for place, rule, value in class_problems(known.method, images.num_classes):
            note(place, rule, value=value)


def check_teacher(known: TrialParts) -> None:
    """Check whether there is a teacher where one is needed, and what it is made of."""
    note, method, teacher, training = known.note, known.method, known.teacher, known.of_teacher
    untaught = method and method.needs_teacher and known.document.data.get("teacher") is None
    if untaught and known.right(("method", "name"), ("teacher",)):
        name = next(name for name, cls in METHODS.items() if type(method) is cls)
        note(("teacher",), f"{name} needs a teacher, but the file names none")
    for role, field in (("student", "pretrained"), ("teacher", "pretrained"), ("teacher", "weights")):
        network: Any = getattr(known, role)
        asked = network is not None and getattr(network, field) in (True, "pretrained")
        if asked and known.right((role, "arch"), (role, field)) and not MODELS[network.arch].build_pretrained:
            known.refuse((role, field), _NOT_PRETRAINED, network.arch)
    if teacher is None:
        return
    classes = known.images.num_classes if known.images and known.right(("data", "name")) else None
    right = known.right(("teacher", "arch"), ("teacher", "weights"), ("teacher", "pretrained"))
    if right and teacher.weights == "pretrained" and classes not in (None, IMAGENET_CLASSES):
        rule, hint = pretrained_problem(classes)
        note(("teacher", "weights"), rule, value="pretrained", hint=hint)
    if right and teacher.pretrained and teacher.weights != "train":
        rule = f"pretrained says how weights: train begins, but weights is {teacher.weights!r}"
        note(("teacher", "pretrained"), rule, value=True)
    if teacher.weights != "train" or not known.right(("teacher", "weights")) or training is None:
        return
    views: KeyPath = ("teacher", "training", "augmentation")
    if known.size is not None and known.right(views) and training.augmentation.size != known.size:
        rule = f"teacher and student must see images of one size ({known.size})"
        hint = "give training.augmentation and teacher.training.augmentation one size"
        note(views, rule, value=training.augmentation.size, hint=hint)
    for name in ("precision", "channels_last"):
        if getattr(training, name) == "auto":  # timing chooses differently from day to day, and the weights with it
            rule = f"{name} of a teacher must be given, not chosen by timing"
            note(("teacher", "training", name), rule, value="auto")


def check_maps(known: TrialParts) -> None:
    """Compare image size and scales with the feature map of both networks."""
    size, method = known.size, known.method
    for role, network in (("student", known.student), ("teacher", known.teacher)):
        if network is None or size is None or not known.right((role, "arch"), (role, "stem")):
            continue
        if role == "teacher" and method and not method.needs_teacher:
            continue
        try:
            _, height, width = feature_size(network.arch, network.stem, size)
        except ConfigError:
            rule = f"images must be large enough to leave {network.arch} (the {role}) a feature map"
            known.note(("training", "augmentation"), rule, value=size)
            continue
        if not isinstance(method, CellDistillation) or not known.right(("method", "scales"), ("method", "name")):
            continue
        if method.scales != (1,) and not method.allow_repeated_cells and max(method.scales) > min(height, width):
            whose = f"the {role}, {height} x {width} for {network.arch}"
            known.note(
                ("method", "scales"),
                f"every scale must be at most the feature map of {whose} at {size} pixels",
                value=method.scales,
                hint="drop that scale, or set method.allow_repeated_cells: true as the authors did",
            )


def class_problems(method: Method | None, num_classes: int) -> list[tuple[KeyPath, str, object]]:
    """What a method asks of the number of classes, with its place; known for some data sets only after reading them."""
    base_loss = getattr(method, "base_loss", None)
    if isinstance(base_loss, LocalRelations) and base_loss.k > num_classes:
        return [
            (("method", "base_loss", "ldrld", "k"), f"k <= number of classes ({num_classes}) must hold", base_loss.k)
        ]
    if isinstance(method, ContrastiveRepresentation) and num_classes < 2:
        return [(("method",), "CRD contrasts an image with those of other classes and needs two at least", num_classes)]
    return []


def idle_fields(method: Method | None, num_classes: int) -> list[str]:
    """Name the fields of a base loss that change nothing with so many classes; known for some data after reading."""
    loss = getattr(method, "base_loss", None)
    if isinstance(loss, DecoupledKD) and num_classes == 2:
        return ["dkd.beta"]  # one class beside the target is sure of itself
    if isinstance(loss, NormalizedKD) and num_classes == 2 and not loss.keep_target:
        return ["nkd.gamma", "nkd.temperature"]
    if isinstance(loss, RefinedLogits) and num_classes == 2:
        return ["rld.beta"]  # no class, or one, is below the label
    if isinstance(loss, LocalRelations) and loss.k == num_classes - 1:
        return ["ldrld.beta"]  # one class is left outside the top
    return []


def pretrained_problem(num_classes: object) -> tuple[str, str]:
    """Say why torchvision's classifier cannot teach so many classes, and what can be done."""
    rule = f"a pretrained teacher needs data of its {IMAGENET_CLASSES} classes, not {num_classes}: a new head is random"
    return rule, "fine-tune it here (pretrained: true, weights: train), or bring one in with 'icd teacher import'"


def notes_of(configs: Iterable[TrialConfig], num_classes: int | None = None) -> list[str]:
    """Give the advice on several trials, such as the ends of a space; what differs in its number alone once."""
    by_rate = sorted(configs, key=lambda config: -config.training.lr)  # the largest rate is the one to name
    first: dict[tuple[str, str], str] = {}
    for line in (line for config in by_rate for line in advice(config, num_classes)):
        first.setdefault((line.split(" ")[0], line.partition(": ")[2]), line)
    return list(first.values())


def advice(config: TrialConfig, num_classes: int | None = None) -> list[str]:
    """What is allowed but probably not meant; ``num_classes`` where the data were read."""
    lines = []
    method, training = config.method, config.training
    family = MODELS[config.student.arch].family
    preset = DATASETS[config.data.name].preset
    usual = preset_fields(preset, family, {})["lr"]  # the authors'
    if training.lr > 2 * usual:
        lines.append(f"training.lr {training.lr:g}: the {preset} preset trains {config.student.arch} with {usual:g}")
    if getattr(training.augmentation, "flip", False) and not DATASETS[config.data.name].horizontal_flip:
        lines.append(
            f"training.augmentation.flip: a mirrored image of {config.data.name} is not of its class; set flip: false"
        )
    if isinstance(method, CellDistillation):
        if method.warmup_epochs > training.epochs:
            lines.append(
                f"method.warmup_epochs {method.warmup_epochs:g}: longer than the training ({training.epochs} epochs), "
                "so the base term never reaches its weight"
            )
        if method.cluster_weight and not method.has_cluster_term:
            lines.append("method.cluster_weight: scale 1 alone has a 1 x 1 Gram matrix, so the cluster term is zero")
    classes = num_classes or config.data.num_classes
    for field in idle_fields(method, classes) if classes else ():
        lines.append(f"method.base_loss.{field}: cannot matter with {classes} classes, so any value gives the same")
    return lines
