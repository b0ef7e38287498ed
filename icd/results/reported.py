"""What papers report for their own runs: best epoch on the test set, seeds not fixed. Shown beside ours, never used.

Source: iCD (Xue et al., AAAI-26), table 1, CUB-200; SDD (CVPR 2024), table of CIFAR-100 pairs.
"""

from collections.abc import Mapping

_CUB: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("resnet32x4", "mobilenetv2"): {
        "SP": 48.49,
        "CRD": 57.45,
        "LDRLD": 60.99,
        "KD": 56.09,
        "SD-KD": 60.51,
        "iCD-KD": 61.17,
        "DKD": 59.94,
        "SD-DKD": 62.97,
        "iCD-DKD": 63.51,
        "NKD": 59.81,
        "SD-NKD": 62.69,
        "iCD-NKD": 63.55,
    },
    ("resnet32x4", "shufflenetv1"): {
        "SP": 61.83,
        "CRD": 62.28,
        "LDRLD": 65.19,
        "KD": 61.68,
        "SD-KD": 65.46,
        "iCD-KD": 65.88,
        "DKD": 64.51,
        "SD-DKD": 65.58,
        "iCD-DKD": 65.95,
        "NKD": 64.00,
        "SD-NKD": 65.50,
        "iCD-NKD": 67.10,
    },
    ("vgg13", "vgg8"): {
        "SP": 54.78,
        "CRD": 66.10,
        "LDRLD": 68.27,
        "KD": 64.18,
        "SD-KD": 67.32,
        "iCD-KD": 68.52,
        "DKD": 67.20,
        "SD-DKD": 68.67,
        "iCD-DKD": 68.31,
        "NKD": 67.16,
        "SD-NKD": 68.37,
        "iCD-NKD": 68.95,
    },
}

_CIFAR: Mapping[tuple[str, str], Mapping[str, float]] = {
    pair: dict(zip(("KD", "SD-KD", "DKD", "SD-DKD", "NKD", "SD-NKD"), values, strict=True))
    for pair, values in {
        ("resnet32x4", "shufflenetv1"): (74.07, 76.30, 76.45, 77.30, 75.31, 76.34),
        ("wrn_40_2", "shufflenetv1"): (74.83, 76.65, 76.70, 77.21, 75.96, 76.81),
        ("resnet50", "mobilenetv2"): (67.35, 69.55, 70.35, 71.36, 69.39, 70.25),
        ("vgg13", "mobilenetv2"): (67.37, 68.79, 69.71, 70.25, 68.72, 69.50),
        ("resnet32x4", "shufflenetv2"): (74.45, 76.67, 77.07, 78.05, 76.26, 77.07),
        ("resnet50", "vgg8"): (73.81, 74.89, 75.34, 75.86, 74.01, 74.62),
    }.items()
}

_REPORTED = {"cub200": _CUB, "cifar100": _CIFAR}


def reported(data: str, teacher: str, student: str, row: str) -> float | None:
    """Give a paper's top-1 for a row of its table; None where no paper has it."""
    return _REPORTED.get(data, {}).get((teacher, student), {}).get(row)
