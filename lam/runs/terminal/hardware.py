"""Hints on the hardware: where a run is slower than this machine could make it, said in one line."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator

NVIDIA = Path("/dev/nvidia0")
"""Exists where a driver has found a card, whether PyTorch can use it or not."""

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux says what a processor can do."""

ALIKE = "All rows of a table need the same"


def hardware_hint(trainer: pl.Trainer) -> str | None:
    """Say that no accelerator is used, or arithmetic that this one is slow in; None where there is nothing to say.

    Decided by what the hardware can do, not by its name. Numbers of 32 bits without TF32 are a GPU's slowest, bfloat16 is
    emulated by processors and GPUs that have no arithmetic for it.

    Args:
        trainer: The trainer of the run.
    """
    precision = str(trainer.precision)
    if isinstance(trainer.accelerator, CPUAccelerator):
        return unused_accelerator(trainer) or _on_processor(precision)
    if isinstance(trainer.accelerator, CUDAAccelerator):
        return _on_cuda(precision)
    return None


def unused_accelerator(trainer: pl.Trainer) -> str | None:
    """Say which accelerator there is that a trainer does not use."""
    if not isinstance(trainer.accelerator, CPUAccelerator):
        return None
    if torch.cuda.is_available():
        return f"This machine has a GPU, {torch.cuda.get_device_name(0)}, that is not used. Set --trainer.accelerator auto."
    if torch.backends.mps.is_available():
        return "This machine has a GPU (MPS) that is not used. Set --trainer.accelerator auto."
    if NVIDIA.exists():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        remedy = (
            "look whether nvidia-smi finds its driver" if torch.version.cuda else "install a build with it, see pytorch.org"
        )
        return f"This machine has an NVIDIA GPU that is not used: PyTorch {torch.__version__} {built}; {remedy}."
    return None


def _on_processor(precision: str) -> str:
    """Say what is slow on this processor, and in any case that no GPU was found."""
    none, arithmetic = "No GPU is used, as none was found", _bfloat16_arithmetic()
    if precision.startswith("bf16") and arithmetic == "":
        return (
            f"{none}, and this processor emulates {precision} at about a third of the speed. Set --trainer.precision 32-true. "
            f"{ALIKE}."
        )
    if precision.startswith("32") and arithmetic:
        return (
            f"{none}. This processor has bfloat16 arithmetic ({arithmetic}), with which large models may be faster: "
            f"--trainer.precision bf16-mixed. {ALIKE}."
        )
    return f"{none}."


def _bfloat16_arithmetic() -> str | None:
    """Return a processor's instructions for bfloat16; empty where it has none, None where the system does not say."""
    if not CPUINFO.exists():
        return None
    there = set(CPUINFO.read_text().split())
    return next((name for name in ("amx_bf16", "avx512_bf16", "svebf16", "bf16") if name in there), "")


def _on_cuda(precision: str) -> str | None:
    """Say what is slow on this GPU."""
    name, native = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0) >= (8, 0)
    if precision.startswith("bf16") and not native and torch.version.hip is None:
        return f"{name} has no bfloat16 arithmetic and emulates {precision}. Set --trainer.precision 16-mixed. {ALIKE}."
    if precision.startswith("32") and native and torch.get_float32_matmul_precision() == "highest":
        return (
            f"{precision} without TF32 is the slowest arithmetic of {name}. Set --trainer.precision bf16-mixed, or "
            f"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 in the environment. {ALIKE}."
        )
    return None
