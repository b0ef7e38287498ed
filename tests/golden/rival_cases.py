"""Our side of the golden numbers in ``rivals``; see ``cases.py``."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.losses import (
    AlphaBetaDivergence,
    BaseLoss,
    Correlations,
    DecoupledKD,
    KnowledgeDistillation,
    MultiLevel,
    RefinedLogits,
    TransformedTeacher,
)
from icd.losses.cells import loss_of_cells
from icd.losses.rows import standardized

Named = dict[str, Tensor]
_MLKD_STRONG = (3.0, 5.0)  # temperatures at which the strong view adds a plain KD beside T; the weak one has the rest
_MLKD_WEAK = (2.0, 6.0)


def loss_of(method: str, params: Mapping[str, Any]) -> BaseLoss:
    """The base loss of a method id such as ``lskd_dkd_total``."""
    if method.startswith("lskd_kd"):
        return KnowledgeDistillation(temperature=params["T"])
    if method.startswith("lskd_dkd"):
        return DecoupledKD(temperature=params["T"], alpha=params["alpha"], beta=params["beta"])
    if method in ("ttm", "wttm"):
        return TransformedTeacher(power=params["l"], weighted=method == "wttm")
    if method.startswith("rld"):
        weights = {"alpha": params["alpha"], "beta": params["beta"]}
        return RefinedLogits(temperature=params["T"], target_temperature=params["alpha_T"], **weights)
    if method == "abkd":
        return AlphaBetaDivergence(temperature=params["T"], alpha=params["alpha"], beta=params["beta"])
    return Correlations(temperature=params["tau"], beta=params["beta"], gamma=params["gamma"])


def rival(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> tuple[Named, Tensor]:
    """A loss on the logits of images, and with ``_total`` the authors' weighted sum with cross entropy."""
    student_BK, teacher_BK = inputs["z_s"], inputs["z_t"]
    labels_B = inputs.get("target", torch.zeros(len(student_BK), dtype=torch.int64))
    sides = (
        (standardized(student_BK), standardized(teacher_BK)) if params.get("logit_stand") else (student_BK, teacher_BK)
    )
    student_BPK, teacher_BPK = (side_BK.unsqueeze(1) for side_BK in sides)
    loss = loss_of_cells(loss_of(method, params), student_BPK, teacher_BPK, labels_B).mean()
    if not method.endswith("_total"):
        return {"loss": loss}, loss
    ce = params["ce_weight"] * F.cross_entropy(student_BK, labels_B)
    factor = params.get("kd_weight", 1.0) * min(params["epoch"] / params.get("warmup", 1), 1.0)
    kd = factor * loss
    return {"total": ce + kd, "loss_ce": ce, "loss_kd": kd}, ce + kd


def multi_level(method: str, params: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> tuple[Named, Tensor]:
    """MLKD's parts; with two views the authors add plain KD terms of both."""
    two_views = method == "mlkd"
    part = "_weak" if two_views else ""
    raw = inputs[f"z_s{part}"], inputs[f"z_t{part}"]
    seen = tuple(map(standardized, raw)) if params.get("logit_stand") else raw
    loss, weight = MultiLevel(temperature=params["T"]), params["kd_weight"]
    share_P, class_share_P = loss.shares(raw[1].unsqueeze(1))
    instance_BP, _, _ = loss.levels(*(side_BK.unsqueeze(1) for side_BK in seen))
    _, classes_P, images_P = loss.levels(*(side_BK.unsqueeze(1) for side_BK in raw))
    kd, cc, bc = share_P * instance_BP.mean(), class_share_P * classes_P, share_P * images_P
    ce = F.cross_entropy(raw[0], inputs["target"])
    if two_views:
        strong = inputs["z_s_strong"], inputs["z_t_strong"]
        for pair, temperatures in ((strong, (params["T"], *_MLKD_STRONG)), (raw, _MLKD_WEAK)):
            losses = (KnowledgeDistillation(temperature=temperature) for temperature in temperatures)
            kd = kd + sum(loss(*pair, inputs["target"]).mean() for loss in losses)
        ce = ce + F.cross_entropy(strong[0], inputs["target"])
    parts = {
        "loss_ce": params["ce_weight"] * ce,
        "loss_kd": weight * kd.sum(),
        "loss_cc": weight * cc.sum(),
        "loss_bc": weight * bc.sum(),
    }
    total = torch.stack(list(parts.values())).sum()
    return {**parts, "total": total}, total
