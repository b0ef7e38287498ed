"""Every network golden: names, parameter count, feature shape, logits, region logits and pooled features."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from icd.models import MODELS, Stem, build_model
from tests.golden.hash_weights import fill_state_dict, hash_image
from tests.model_contract import head_of

GOLDENS = Path(__file__).parent / "authors"
CASES = json.loads((GOLDENS / "index.json").read_text())["cases"]
NETWORKS = [case for case in CASES if case["method"] == "arch"]
# What the authors' data sets are to their networks: the first layers.
STEMS: dict[str, Stem] = {"cifar": "conv3x3", "cub": "conv7x7_s2"}
KEYS = {row.paper_name or arch: arch for arch, row in MODELS.items()}

# Far below the stored 1e-6: only the order of additions may differ.
TOLERANCE = 1e-12


def region_logits(head: torch.nn.Linear, features_BCHW: Tensor) -> Tensor:
    """Pool over a 4x4 grid and its coarser forms, as methods.md 4.1 says; [B, K, 21]."""
    fine = F.adaptive_avg_pool2d(features_BCHW, 4)
    grids = (fine.mean((2, 3), keepdim=True), F.avg_pool2d(fine, 2), fine)
    cells_BCN = torch.cat([grid.flatten(2) for grid in grids], dim=2)
    regions: Tensor = head(cells_BCN.transpose(1, 2)).transpose(1, 2)
    return regions


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case["id"])
def test_network_gives_the_numbers_of_the_authors(case: dict[str, Any]) -> None:
    params = case["params"]
    network = build_model(KEYS[params["arch"]], num_classes=params["num_classes"], stem=STEMS[params["dataset"]])
    network.double().eval()
    fill_state_dict(network)
    with torch.inference_mode():
        output = network(torch.from_numpy(hash_image(tuple(params["input"]))))
        regions = region_logits(head_of(network), output.features_BCHW)
        pooled = output.features_BCHW.mean((2, 3))

    assert sum(parameter.numel() for parameter in network.parameters()) == params["param_count"]
    assert list(output.features_BCHW.shape[1:]) == params["feature"]
    with np.load(GOLDENS / case["file"]) as stored:
        for name, computed in (("z", output.logits_BK), ("p", regions), ("pooled", pooled)):
            expected = stored[case["outputs"][name]["key"]]
            assert computed.shape == expected.shape
            error = np.abs(computed.numpy() - expected).max() / np.abs(expected).max()
            assert error < TOLERANCE, name


def test_a_network_without_a_golden_is_named_in_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "methods.md").read_text()
    named = text.partition("no numbers of the authors")[2].partition(".\n`python")[0]
    compared = {KEYS[case["params"]["arch"]] for case in NETWORKS}
    assert set(re.findall(r"`(\w+)`", named)) == set(MODELS) - compared
    assert f"{len(compared)} of the {len(MODELS)} networks. The other {len(MODELS) - len(compared)} have" in text
