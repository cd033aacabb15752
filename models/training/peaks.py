"""What devices can do at most, which is what a training's speed is a share of."""

PEAKS: dict[str, float] = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
}
"""Part of a GPU's name, the longer ones first where one holds another, to its dense bfloat16 operations per second. Source: NVIDIA's data
sheets "A100 Tensor Core GPU", "H100 Tensor Core GPU" (the larger figure is the SXM form's) and "H200 Tensor Core GPU"; those printed "with
sparsity" are halved."""


def peak_of(stated: float, device: str) -> tuple[float, str]:
    """Return a device's most operations per second, and, where that is not known, 0 and why.

    Args:
        stated: 10^12 operations per second, as a setting says; 0 where it does not.
        device: Of torch.
    """
    if stated:
        return stated * 1e12, ""
    if not device.startswith("cuda"):
        return 0.0, "the peak of a CPU is not known; give it as loop.peak_tflops"
    import torch

    name = torch.cuda.get_device_name(device)
    found = next((peak for part, peak in PEAKS.items() if part in name), 0.0)
    return found, "" if found else f"the peak of {name} is not known; give it as loop.peak_tflops"
