"""One function per golden method id: our losses and networks on the stored inputs.

Each takes a case's parameters and its input tensors (those that need a gradient already ask for it) and returns our
outputs under the names the folder uses. ``check.py`` compares them and adds the gradients.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from icd.losses import DecoupledKD, KnowledgeDistillation, LocalRelations, NormalizedKD
from icd.losses.base import BaseLoss
from icd.losses.cells import cell_logits, cluster_loss, paper_scale_weights, scale_loss
from icd.losses.contrastive import ContrastiveMemory
from icd.losses.relational import similarity_loss
from icd.methods import CellDistillation, Step
from icd.models import Stem, build_model
from tests.golden.hash_weights import fill_state_dict, hash_image
from tests.golden.rival_cases import multi_level, rival

SCALES_OF_CELLS = {1: (1,), 5: (1, 2), 17: (1, 4), 21: (1, 2, 4)}

STEMS: dict[str, Stem] = {"cifar": "conv3x3", "cub": "conv7x7_s2"}  # as the authors call them


class Result(NamedTuple):
    """Our outputs by name, and the scalar whose gradients the folder holds (None where it holds none)."""

    outputs: dict[str, Tensor]
    differentiate: Tensor | None = None


class StoredSide(NamedTuple):
    """A side whose logits and cells are stored, not computed."""

    logits_BK: Tensor
    cells_BPK: Tensor

    @property
    def features_BCHW(self) -> Tensor:
        raise NotImplementedError

    @property
    def block_BCHW(self) -> Tensor:
        raise NotImplementedError

    def cells(self, scales: Any, grid: Any) -> Tensor:
        return self.cells_BPK

    def cells_right(self, scales: Any, cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
        return cells_BPK.argmax(dim=2) == labels_B.unsqueeze(1)

    def logits_right(self, labels_B: Tensor) -> Tensor:
        return self.logits_BK.argmax(dim=1) == labels_B


def base_losses(method: str, params: Mapping[str, Any]) -> BaseLoss:
    """The base loss of a method id such as ``icd_dkd`` or ``sdd_nkd``."""
    if "dkd" in method:
        return DecoupledKD(temperature=params["T"], alpha=params["alpha"], beta=params["beta"])
    if "nkd" in method:
        gamma = params.get("nkd_gamma", params.get("gamma"))
        return NormalizedKD(temperature=params["T"], gamma=gamma, keep_target=method != "nkd_upstream")
    return KnowledgeDistillation(temperature=params["T"])


def parts(loss: DecoupledKD | LocalRelations, *rows: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of a loss, before ``alpha`` and ``beta``."""
    return replace(loss, alpha=1.0, beta=0.0)(*rows), replace(loss, alpha=0.0, beta=1.0)(*rows)


def row_loss(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    base_loss = base_losses(method, params)
    labels_B = inputs.get("target", torch.zeros(len(inputs["z_s"]), dtype=torch.int64))
    loss = base_loss(inputs["z_s"], inputs["z_t"], labels_B).mean()
    outputs = {"loss": loss}
    if isinstance(base_loss, DecoupledKD):
        tckd_B, nckd_B = parts(base_loss, inputs["z_s"], inputs["z_t"], labels_B)
        outputs |= {"tckd": tckd_B.mean(), "nckd": nckd_B.mean()}
    return Result(outputs, loss)


def scale_decoupled(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    student_BPK, teacher_BPK = inputs["p_s"].transpose(1, 2), inputs["p_t"].transpose(1, 2)
    labels_B = inputs["target"]
    right_B = teacher_BPK[:, 0].argmax(dim=1) == labels_B
    loss = scale_loss(base_losses(method, params), student_BPK, teacher_BPK, labels_B, right_B)
    return Result({"loss": loss}, loss)


def clustering(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    student_BPK, teacher_BPK = inputs["p_s"].transpose(1, 2), inputs["p_t"].transpose(1, 2)
    scales = SCALES_OF_CELLS[params["cells"]]
    loss = params["gamma"] * cluster_loss(student_BPK, teacher_BPK, scales, paper_scale_weights(scales))
    return Result({"loss": loss + 0 * student_BPK.sum()}, loss + 0 * student_BPK.sum())


def training_total(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    """A whole step's loss as the training loop sums it, through ``CellDistillation``."""
    plain = method == "dkd_total"
    kd_family = "kd_weight" in params
    spec = CellDistillation(
        base_loss=base_losses(method, params),
        scales=(1,) if plain else tuple(params["M"]),
        ce_weight=params["ce_weight"],
        base_weight=params.get("kd_weight", 1.0),
        warmup_epochs=0.0 if kd_family else params["warmup"],
        cluster_weight=params["gamma"] if method.startswith("icd") else 0.0,
    )
    student = StoredSide(inputs["z_s"], inputs["p_s"].transpose(1, 2))
    teacher = StoredSide(inputs["z_t"], inputs["p_t"].transpose(1, 2))
    step = Step(inputs["target"], torch.arange(len(inputs["target"])), params["epoch"], 0)
    terms = spec.terms(student, teacher, step)
    total = torch.stack(list(terms.values())).sum()
    names = {"ce": "loss_ce", "base": "loss_kd", "cluster": "loss_cluster"}
    outputs = dict.fromkeys(names.values(), torch.zeros((), dtype=total.dtype))  # terms with weight 0 are left out
    return Result(outputs | {"total": total} | {names[name]: term for name, term in terms.items()}, total)


def local_relations(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    base_loss = LocalRelations(temperature=params["T"], k=params["k"], alpha=params["alpha"], beta=params["beta"])
    local_B, rest_B = parts(base_loss, inputs["z_s"], inputs["z_t"], inputs["target"])
    spec = CellDistillation(base_loss=base_loss, scales=(1,), ce_weight=params["ce_weight"])
    student = StoredSide(inputs["z_s"], inputs["z_s"].unsqueeze(1))
    teacher = StoredSide(inputs["z_t"], inputs["z_t"].unsqueeze(1))
    terms = spec.terms(student, teacher, Step(inputs["target"], inputs["target"], 1, 0))
    loss = terms["ce"] + terms["base"]
    outputs = {
        "loss": loss,
        "local": local_B.mean(),
        "rntk": rest_B.mean(),
        "trainloop_loss": params["ce_weight"] * loss,
    }
    return Result(outputs, loss)


def similarity(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    loss = similarity_loss(inputs["f_s"], inputs["f_t"])
    return Result({"loss": loss}, loss)


def contrastive(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    dtype = inputs["f_s"].dtype
    memory = ContrastiveMemory(
        inputs["f_s"].shape[1],
        inputs["f_t"].shape[1],
        params["n_data"],
        width=inputs["mem1"].shape[1],
        temperature=params["T"],
        momentum=params["momentum"],
    )
    partition = memory.partition
    memory.to(dtype)
    memory.partition = torch.tensor([params[name] or 0.0 for name in ("Z_v1", "Z_v2")], dtype=partition.dtype)
    memory.temperature = torch.tensor(params["T"], dtype=torch.float32)
    memory.student_memory, memory.teacher_memory = inputs["mem1"].clone(), inputs["mem2"].clone()
    for layer, name in ((memory.student_embedding, "embed_s"), (memory.teacher_embedding, "embed_t")):
        # Not nn.Parameter: the stored gradients are those of the inputs themselves.
        del layer.weight, layer.bias
        for part, key in (("weight", "w"), ("bias", "b")):
            setattr(layer, part, inputs[f"{name}_{key}"])
    loss_s, loss_t = memory(inputs["f_s"], inputs["f_t"], inputs["index"], inputs["contrast_idx"])
    outputs = {
        "loss": loss_s + loss_t,
        "loss_s": loss_s,
        "loss_t": loss_t,
        "Z_v1": memory.partition[0],
        "Z_v2": memory.partition[1],
        "mem1_after": memory.student_memory[inputs["index"]],
        "mem2_after": memory.teacher_memory[inputs["index"]],
    }
    return Result(outputs, loss_s + loss_t)


def pooling(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    head = nn.Linear(inputs["W"].shape[1], inputs["W"].shape[0]).to(inputs["W"].dtype)
    with torch.no_grad():
        head.weight.copy_(inputs["W"])
        head.bias.copy_(inputs["b"])
    cells_BPK = cell_logits(inputs["feat"], head, params["M"])
    return Result({"z": head(inputs["feat"].mean(dim=(2, 3))), "p": cells_BPK.transpose(1, 2)})


ARCHITECTURES = {"MobileNetV2": "mobilenetv2", "ShuffleV1": "shufflenetv1", "ShuffleV2": "shufflenetv2"}


def network(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor], dtype: torch.dtype) -> Result:
    """A whole network in eval mode, weights and image by integer hash; also checks size and feature map."""
    name = ARCHITECTURES.get(params["arch"], params["arch"].lower())
    model = build_model(name, num_classes=params["num_classes"], stem=STEMS[params["dataset"]]).double().eval()
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != params["param_count"]:
        raise AssertionError(f"{name} must have {params['param_count']} parameters, but has {count}")
    fill_state_dict(model)
    image = torch.from_numpy(hash_image(tuple(params["input"]))).to(dtype)
    model = model.to(dtype)
    with torch.no_grad():
        output = model(image)
        cells_BPK = cell_logits(output.features_BCHW, model.head, params["M"])
    if list(output.features_BCHW.shape[1:]) != params["feature"]:
        raise AssertionError(f"{name}: feature map {params['feature']} expected, but got {output.features_BCHW.shape}")
    pooled_BC = output.features_BCHW.mean(dim=(2, 3))
    return Result({"z": output.logits_BK, "p": cells_BPK.transpose(1, 2), "pooled": pooled_BC})


def of_rivals(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Result:
    run = multi_level if method.startswith("mlkd") else rival
    return Result(*run(method, params, inputs))


_RIVALS = ("lskd_kd", "lskd_dkd", "lskd_kd_total", "lskd_dkd_total", "ttm", "wttm", "rld", "rld_total", "abkd", "dist")

Runner = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], Result]

RUNNERS: Mapping[str, Runner] = {
    "kd": row_loss,
    "dkd": row_loss,
    "nkd": row_loss,
    "nkd_upstream": row_loss,
    "sdd_kd": scale_decoupled,
    "sdd_dkd": scale_decoupled,
    "sdd_nkd": scale_decoupled,
    "icd": clustering,
    "icd_kd": training_total,
    "icd_dkd": training_total,
    "icd_nkd": training_total,
    "sd_kd_total": training_total,
    "dkd_total": training_total,
    "ldrld": local_relations,
    "sp": similarity,
    "crd": contrastive,
    "spp": pooling,
    **dict.fromkeys((*_RIVALS, "mlkd", "mlkd_noaug"), of_rivals),
}


def run_case(case: Mapping[str, Any], arrays: Mapping[str, np.ndarray], dtype: torch.dtype) -> dict[str, Tensor]:
    """Give every output of a case, gradients included, computed in ``dtype``."""
    method, params = case["method"], case["params"]
    if method == "arch":
        return network(method, params, {}, dtype).outputs
    gradients = [name.removeprefix("grad_") for name in case["outputs"] if name.startswith("grad_")]
    inputs = {}
    for name, spec in case["inputs"].items():
        tensor = torch.from_numpy(arrays[spec["key"]])
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        inputs[name] = tensor.requires_grad_(name in gradients)
    result = RUNNERS[method](method, params, inputs)
    outputs = dict(result.outputs)
    if gradients and result.differentiate is not None:
        values = torch.autograd.grad(
            result.differentiate, [inputs[name] for name in gradients], allow_unused=True, materialize_grads=True
        )
        outputs |= {f"grad_{name}": value for name, value in zip(gradients, values, strict=True)}
    return outputs
