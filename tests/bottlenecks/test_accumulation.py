"""Gradients that accumulate: a bottleneck sees the latents of all micro-batches of an optimizer step."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import lam.bottlenecks
import lam.bottlenecks.base
from lam.bottlenecks.base import StepLatents
from lam.bottlenecks.codebook import CODEBOOK_LR_SCALE, nearest
from lam.models.forward import AdaLN
from lam.models.inverse import ChannelPair
from lam.models.latent_action import LatentActionModel
from tests.evals.toy import ToyEncoder, clips

MICRO_BATCHES, CLIPS, FRAMES, LATENTS = 16, 25, 5, 2
ASSIGNMENTS = CLIPS * (FRAMES - 1) * LATENTS  # of a micro-batch: 200


class Watch(pl.Callback):
    """Remembers the latents of each optimizer step, and the bottleneck's state after it."""

    def __init__(self):
        self.latents, self.steps = [], []

    def on_fit_start(self, trainer, model):
        model.bottleneck.register_forward_pre_hook(lambda _, arguments: self.latents.append(arguments[0].detach().clone()))

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if trainer.global_step > len(self.steps):
            state = {name: value.detach().clone() for name, value in model.bottleneck.state_dict().items()}
            self.steps.append((torch.cat(self.latents), state))
            self.latents = []


class Model(LatentActionModel):
    """A latent action model that asks nothing of a data module, since clips come without one."""

    def setup(self, stage):
        pass


def fit(name, steps, **keywords):
    """Train through Lightning with 16 micro-batches a step; each step's latents and state, and the model."""
    torch.manual_seed(0)
    model = Model(
        ToyEncoder(),
        lambda *shape: ChannelPair(*shape, width=8, depth=1, heads=1),
        lambda dim, latents: getattr(lam.bottlenecks, name)(dim, latents, **keywords),
        lambda *shape: AdaLN(*shape, width=8, depth=1, heads=1),
        lambda groups: SGD(groups, lr=0.01),
        nn.L1Loss(reduction="none"),
        latent_dim=6,
        num_latents=LATENTS,
    )
    model.copy_error.fill_(0.1)
    batches = [clips(CLIPS, FRAMES, seed=i) for i in range(steps * MICRO_BATCHES)]
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=MICRO_BATCHES,
        callbacks=[watch],
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    )
    trainer.fit(model, DataLoader(batches, batch_size=None))
    return watch.steps, model


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("name", ["VQ", "NSVQ", "DiVeQ", "RVQ", "FSQ", "Sparse", "Noisy"])
def test_all_micro_batches_of_a_step_are_seen(name):
    steps, model = fit(name, steps=2, **({"num_codes": 7} if name in ("VQ", "NSVQ", "DiVeQ", "RVQ") else {}))
    assert len(steps) == 2
    (first, after_first), (_, after_second) = steps
    assert len(first) == MICRO_BATCHES * CLIPS
    # the scale is that of all latents of the first step
    rows = first.flatten(0, 1)
    mean = rows.mean(dim=0)
    torch.testing.assert_close(after_first["standardize.shift"], mean)
    torch.testing.assert_close(
        after_first["standardize.scale"], model.bottleneck.standardize.std / (rows - mean).square().mean().sqrt()
    )
    if "usage.finished" in after_second:
        counts = after_second["usage.finished"].sum(dim=1)
        assert (counts == MICRO_BATCHES * ASSIGNMENTS).all()  # 3,200 of each codebook
    if name == "FSQ":  # whose channels' statistics are those of all latents too
        latent = (first - after_first["standardize.shift"]) * after_first["standardize.scale"]
        channels = latent @ after_first["to_channels.weight"].T
        torch.testing.assert_close(channels.mean(dim=(0, 1)), after_first["standardize_channels.shift"])
        expected = 1 / channels.std(dim=(0, 1), correction=0)
        torch.testing.assert_close(expected, after_first["standardize_channels.scale"])
    if name in ("VQ", "NSVQ", "DiVeQ"):
        standardized = ((first - after_first["standardize.shift"]) * after_first["standardize.scale"]).flatten(0, 2)
        codes = CODEBOOK_LR_SCALE * after_first["codebook"]
        owner = nearest(codes, standardized)
        assert (codes - standardized[owner]).norm(dim=1).max() < 0.2
        assert (owner < 15 * ASSIGNMENTS).any()  # not all of the last micro-batch


def test_so_many_latents_are_kept_and_all_codes(monkeypatch):
    monkeypatch.setattr(lam.bottlenecks.base, "_MOST_TRANSITIONS", 100)
    seen = StepLatents()
    for i in range(16):
        z = torch.arange(i * 40, (i + 1) * 40).view(10, 4, 1, 1).float()
        seen.add(z, z[..., 0].long())
        assert sum(map(len, seen.latents)) <= 100
    z, codes = seen.take()
    assert z.flatten().tolist() == list(range(0, 640, 8))
    assert codes.flatten().tolist() == list(range(640))
    assert not seen.latents
    seen.add(torch.zeros(300, 1, 1, 1), None)  # one batch is kept whole, and the stride starts again
    assert seen.take()[0].shape == (300, 1, 1)
