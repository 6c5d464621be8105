"""Time of each evaluation of a finished run: ``python benchmarks/evaluations.py runs/demo/noisy@1e-3/seed0``.

Validates the run several times in one process and prints for each evaluation its seconds (during the pass and at its end,
without loggers) the first time and the median of the others, and those of the whole pass. The first is what the first row of a
process costs, the others what the next rows of a table do, as probes of states are remembered between them
(``lam.metrics.memo``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lightning.pytorch import Callback

import lam.viz  # noqa: F401  visualizations are imported so that their short names work in YAML
from lam.evals import Evaluation
from lam.runs.cli import LamCLI, filter_known_warnings, run


def prepare(folder: Path, scratch: Path) -> LamCLI:
    """Validate the run for the first time and return its command line; results go to a scratch folder."""
    return run(
        [
            "validate",
            f"--config={folder / 'config.yaml'}",
            f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}",
            f"--trainer.logger.init_args.save_dir={scratch}",
            "--verbose=false",
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def seconds_of(cli: LamCLI) -> dict[str, float]:
    """Return the seconds of each evaluation in the last pass."""
    callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it elsewhere
    evaluations = [callback for callback in callbacks if isinstance(callback, Evaluation)]
    return {evaluation.name: float(evaluation.results.curves["seconds"]) for evaluation in evaluations}


def measure(cli: LamCLI) -> dict[str, float]:
    """Return the seconds of each evaluation in one more pass, and of the pass."""
    start = time.perf_counter()
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    total = time.perf_counter() - start
    return seconds_of(cli) | {"whole pass": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run, runs/<setting>/<row>/seed<k>")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    filter_known_warnings()
    sys.argv = sys.argv[:1]  # LightningCLI warns when it is given arguments while the process has its own
    with tempfile.TemporaryDirectory() as scratch:
        cli = prepare(options.run, Path(scratch))
        first = seconds_of(cli)
        passes = [measure(cli) for _ in range(options.repeats)]
    medians = {name: statistics.median(each[name] for each in passes) for name in passes[0]}
    print(f"{'':16} {'first':>8}   {'later':>8}")
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"{name:16} {f'{first[name]:.2f}' if name in first else '':>8}   {seconds:8.2f} s")


if __name__ == "__main__":
    main()
