"""Where a run is slower than its machine could make it, one line says so, decided by what the hardware can do."""

import logging
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator

import lam.runs.terminal.hardware as hardware
from lam.runs.cli import run
from lam.runs.sweep import worker
from lam.runs.sweep.worker import StepProgress
from lam.runs.terminal.hardware import hardware_hint
from tests.tiny import arguments, make_world


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with or without a GPU, and what it can do."""

    def machine(gpu: tuple[int, int] | None = None, flags: str = "avx2", built_for: str | None = None, card: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card 9000")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags} sse\n")
        monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(hardware, "NVIDIA", tmp_path if card else tmp_path / "none")

    return machine


def hint(accelerator: type, precision: str) -> str:
    trainer = SimpleNamespace(accelerator=accelerator(), precision=precision)
    return hardware_hint(trainer) or ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "there", "said"),
    [
        ("32-true", {"gpu": (9, 0)}, ["Card 9000", "not used", "--trainer.accelerator auto"]),
        ("32-true", {"card": True}, ["built without CUDA", "pytorch.org"]),
        ("32-true", {"card": True, "built_for": "12.8"}, ["built for CUDA 12.8", "nvidia-smi"]),
        ("bf16-mixed", {}, ["none was found", "emulates bf16-mixed", "--trainer.precision 32-true", "All rows"]),
        ("bf16-mixed", {"flags": "avx512_bf16"}, ["No GPU is used, as none was found."]),
        ("32-true", {"flags": "avx512_bf16 amx_bf16"}, ["none was found", "(amx_bf16)", "--trainer.precision bf16-mixed"]),
        ("32-true", {}, ["No GPU is used, as none was found."]),
    ],
)
def test_on_a_processor(precision, there, said, machine):
    machine(**there)
    found = hint(CPUAccelerator, precision)
    assert [words for words in said if words not in found] == []
    assert "\n" not in found


def test_where_the_system_does_not_say_what_a_processor_can_do_nothing_is_claimed(machine, monkeypatch):
    machine()
    monkeypatch.setattr(hardware, "CPUINFO", Path("/nowhere"))
    assert hint(CPUAccelerator, "bf16-mixed") == "No GPU is used, as none was found."


@pytest.mark.parametrize(
    ("precision", "capability", "tf32", "said"),
    [
        ("32-true", (9, 0), "highest", ["without TF32", "Card 9000", "bf16-mixed", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1"]),
        ("32-true", (9, 0), "high", []),
        ("32-true", (7, 5), "highest", []),
        ("bf16-mixed", (9, 0), "highest", []),
        ("bf16-mixed", (7, 5), "highest", ["no bfloat16 arithmetic", "--trainer.precision 16-mixed"]),
        ("16-mixed", (7, 5), "highest", []),
    ],
)
def test_on_a_gpu(precision, capability, tf32, said, machine, monkeypatch):
    machine(capability)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: tf32)
    monkeypatch.setattr(CUDAAccelerator, "__init__", lambda self: None)
    found = hint(CUDAAccelerator, precision)
    assert bool(found) == bool(said)
    assert [words for words in said if words not in found] == []


def test_a_fit_says_it_once(machine, tmp_path, caplog, monkeypatch):
    machine()
    monkeypatch.setattr("sys.argv", ["lam"])
    shards = make_world(tmp_path / "world")
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        run(["fit", *arguments(shards, tmp_path, steps=1), "--trainer.callbacks=[]", "--trainer.limit_val_batches=0"])
    said = [record.getMessage() for record in caplog.records if "GPU is used" in record.getMessage()]
    assert said == ["lam: No GPU is used, as none was found."]


def test_of_the_rows_of_a_sweep_the_first_says_it(machine, monkeypatch, capsys):
    machine()
    monkeypatch.setattr(worker, "_planned", multiprocessing.Value("q", 0))
    trainer = SimpleNamespace(accelerator=CPUAccelerator(), precision="32-true", max_steps=5, global_step=0)
    for _ in range(3):
        StepProgress().on_train_start(trainer, None)  # type: ignore[arg-type]
    assert capsys.readouterr().err == "lam: No GPU is used, as none was found.\n"
