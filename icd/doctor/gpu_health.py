"""What GPUs say of their health: ``python -m icd.doctor.gpu_health`` prints it as JSON.

A product of two matrices is compared with the CPU's in float64: a GPU that computes wrongly is worse than none.
"""

import json
import subprocess
import sys
from typing import Any

_SIDE = 512


def driver_rows() -> list[dict[str, Any]]:
    """Ask ``nvidia-smi``; none where there is no driver.

    Raises:
        RuntimeError: If there is one that fails.
    """
    words = ["nvidia-smi", "--query-gpu=name,ecc.errors.uncorrected.volatile.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        raise RuntimeError(f"nvidia-smi ended with code {done.returncode}: {said[:160]}")
    return parse_rows(done.stdout)


def parse_rows(text: str) -> list[dict[str, Any]]:
    """Read what ``nvidia-smi`` prints; a number it does not know ([N/A]) is None."""
    rows = [line.rsplit(", ", 1) for line in text.splitlines() if line.strip()]
    return [{"name": name, "ecc_errors": int(count) if count.isdigit() else None} for name, count in rows]


def product_error(device: str) -> float:
    """Give the largest error of a float32 product on a device, over the largest value of the product."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_SIDE, _SIDE, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    found = (left.to(device) @ right.to(device)).double().cpu()
    return float((found - exact).abs().max() / exact.abs().max())


def health() -> dict[str, Any]:
    """Look at all GPUs that this process may use.

    Returns:
        ``driver``: rows of ``nvidia-smi``, of all GPUs of the machine; ``torch``: for each that torch sees its name,
        free and total memory and the error of a product, or what went wrong; ``error`` where nothing could be asked.
    """
    found: dict[str, Any] = {"error": "", "driver": [], "torch": []}
    try:
        found["driver"] = driver_rows()
    except (RuntimeError, ValueError) as error:
        found["error"] = str(error)
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        row: dict[str, Any] = {"name": torch.cuda.get_device_name(index), "error": ""}
        try:
            free, total = torch.cuda.mem_get_info(index)
            row |= {"free_mb": free >> 20, "total_mb": total >> 20, "product_error": product_error(f"cuda:{index}")}
        except RuntimeError as error:  # out of memory, a dead context, an image for another GPU
            row["error"] = " ".join(str(error).split())[:160]
        found["torch"].append(row)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(health()) + "\n")
