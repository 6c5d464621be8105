"""Predictions in a file: the latent actions that ``lam predict`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np

from lam.bottlenecks.base import BottleneckOutput
from lam.data.clip import Clip
from lam.distributed import rank, world_size
from lam.io import AtomicFile, atomic_file
from lam.models.base import WorldModel


class LatentWriter(pl.Callback):
    """Writes one line a transition to Parquet while ``lam predict`` runs: key, source, time, z, codes, bits.

    ``time`` is when the transition starts, in seconds from the start of the source; z is flat, latent token by latent token;
    codes and bits are empty for latents that have none. Several processes write a file each, ending in
    ``-<rank>-of-<processes>.parquet``.

    The file appears when all is written.

    Args:
        path: File to write; latents.parquet in the run's folder if not given.
        npz: Also write the same columns as arrays to a .npz file beside it.
    """

    def __init__(self, path: Path | None = None, npz: bool = False) -> None:
        self.path = path
        self.npz = npz
        self._writer: Any = None  # a pyarrow.parquet.ParquetWriter, which is imported when it is needed

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it in a connector
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._target = self.path or Path(trainer.log_dir or ".", "latents.parquet")
        if world_size() > 1:
            self._target = self._target.with_stem(f"{self._target.stem}-{rank()}-of-{world_size()}")
        self._schema = pa.schema(
            {
                "key": pa.string(),
                "source": pa.string(),
                "time": pa.float64(),
                "z": pa.list_(pa.float32()),
                "codes": pa.list_(pa.int64()),
                "bits": pa.float32(),
            }
        )
        self._whole = AtomicFile(self._target)
        self._writer = pq.ParquetWriter(self._whole.file, self._schema)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: BottleneckOutput,
        batch: Clip,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append a batch."""
        if self._writer is None:
            return
        import pyarrow as pa

        transitions = outputs.z.shape[1]
        assert isinstance(pl_module, WorldModel)
        step = pl_module.encoder.frames_per_state
        starts = batch.times[:, step - 1 :: step][:, :transitions]
        count = starts.numel()
        columns = {
            "key": [key for key in batch.key for _ in range(transitions)],
            "source": [source for source in batch.source for _ in range(transitions)],
            "time": starts.flatten().tolist(),
            "z": list(outputs.z.float().flatten(2).flatten(0, 1).cpu().numpy()),
            "codes": [None] * count if outputs.codes is None else outputs.codes.flatten(0, 1).tolist(),
            "bits": [None] * count if outputs.rate_bits is None else outputs.rate_bits.float().flatten().tolist(),
        }
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the file and write the arrays beside it if asked."""
        if self._writer is None:
            return
        self._writer.close()
        self._whole.commit()
        self._writer = None
        if self.npz:
            _write_npz(self._target)
        print(f"Latent actions are in {self._target}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the file of an earlier pass as it was."""
        if self._writer is not None:
            self._writer.close()
            self._whole.discard()
            self._writer = None


def _write_npz(path: Path) -> None:
    """Write the columns of a Parquet file as arrays into a .npz file beside it; strings as fixed-width text, no pickles."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(str(path)).read(use_threads=False).to_pandas()
    arrays = {name: table[name].to_numpy() for name in ("time", "bits")}
    arrays |= {name: table[name].to_numpy(dtype=str) for name in ("key", "source")}
    arrays |= {name: np.stack(table[name].to_list()) for name in ("z", "codes") if table[name].notna().all() and len(table)}
    with atomic_file(path.with_suffix(".npz")) as file:
        np.savez(file, **arrays)
