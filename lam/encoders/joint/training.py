"""Training of joint embeddings: the next one is predicted under a small action, and all together are Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.data.clip import Clip
from lam.distributed import gather_rows
from lam.encoders.joint.network import Backbone, JointNetwork
from lam.encoders.joint.sigreg import draw_directions, sigreg
from lam.encoders.objectives import ActionPrediction, LatentPrediction, change_weighted_error
from lam.encoders.training import EncoderTraining
from lam.metrics.dimensionality import effective_rank
from lam.noise import splitmix64

_COLLAPSED_STD, _COLLAPSED_RANK = 0.1, 2.0
"""Standard deviation, which is to be 1, and effective rank below which embeddings have collapsed."""


class JointTraining(EncoderTraining):
    """Trains a joint embedding on windows of video.

    The next embedding is predicted from the present one and an action; gradients reach both, there is no moving average. What
    keeps embeddings apart is that they are to be Gaussian, by the regularization of LeJEPA (https://arxiv.org/abs/2511.08544)
    over the batches of all processes, as in LeWM. A latent action lets a state leave out whatever it can itself tell, also
    what an agent does; so pixels that change are redrawn. With recorded actions nothing of this is needed.

    Args:
        num_tokens: Tokens N of a state.
        dim: Width D of a token.
        backbone: What reads a picture: ``conv``, convolutions, or ``vit``, a transformer on patches.
        width: Channels of the hidden layers; of a ViT a multiple of 16.
        depth: Residual blocks after the halvings, or blocks of the transformer.
        num_halvings: Layers that halve the resolution; patches of a ViT have 2 ** num_halvings pixels a side.
        prediction: Weight of the squared error of predicted embeddings, whose numbers are to have variance 1.
        regularization: Weight of SIGReg, of which Gaussian embeddings have 1.06.
        directions: Directions from which it looks at each step.
        reconstruction: Weight of the squared error of pixels from 0 to 1; 0 draws nothing.
        change_weight: Additional weight of a pixel that changes.
        change_threshold: Change of a color from 0 to 1 from which on it counts.
        latent_dim: Numbers of the latent action.
        beta: Weight of its KL from N(0, 1), relative to the prediction.
        actions: Give the recorded actions in the place of latent ones: the labeled upper bound, with data.labels.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    kind = "joint"
    network: JointNetwork

    def __init__(
        self,
        num_tokens: int = 1,
        dim: int = 128,
        backbone: Backbone = "conv",
        width: int = 48,
        depth: int = 2,
        num_halvings: int = 3,
        prediction: float = 1.0,
        regularization: float = 0.1,
        directions: int = 256,
        reconstruction: float = 10.0,
        change_weight: float = 20.0,
        change_threshold: float = 0.1,
        latent_dim: int = 4,
        beta: float = 1e-4,
        actions: bool = False,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__(learning_rate)
        self.network = JointNetwork(num_tokens, dim, backbone, width, depth, num_halvings, draws=reconstruction > 0)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out of its types
        self.prediction, self.regularization, self.reconstruction = prediction, regularization, reconstruction
        self.directions, self.uses_labels = directions, actions
        self.change_weight, self.change_threshold = change_weight, change_threshold
        self.predictor: LatentPrediction | ActionPrediction
        if not actions:
            self.predictor = LatentPrediction(num_tokens * dim, latent_dim, beta)

    @override
    def setup(self, stage: str) -> None:
        """Build the prediction from recorded actions, of which there are as many numbers as the set has.

        Raises:
            ValueError: The set has none, or they are not read.
        """
        if not self.uses_labels:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in a connector
        statistics = data.index.action_statistics
        if statistics is None:
            raise ValueError(f"{data.index.path} has no recorded actions, and model.actions asks for them. Leave it out.")
        if not data.labels:
            raise ValueError("model.actions needs recorded actions in training. Add --data.labels true.")
        self.predictor = ActionPrediction(self.network.num_tokens * self.network.dim, statistics)

    @override
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute all terms on windows of frames."""
        size = clip.frames.shape[-1]
        embeddings = self.network.embed(clip.frames.flatten(0, 1)).unflatten(0, clip.frames.shape[:2])  # (B, F, N * D)
        losses = {
            "prediction": self.prediction * self.prediction_error(clip, embeddings),
            "regularization": self.regularization * self.gaussianity(embeddings),
        }
        if self.reconstruction:
            error = change_weighted_error(
                clip.frames, embeddings, lambda each: self.network.draw(each, size), self.change_weight, self.change_threshold
            )
            losses["reconstruction"] = self.reconstruction * error
        return losses

    def prediction_error(self, clip: Clip, embeddings: Tensor) -> Tensor:
        """Compute the squared error of the next embeddings of clips, (B, F, N * D), plus what a latent action costs."""
        action = clip.actions if self.uses_labels else splitmix64(clip.position + torch.initial_seed())
        error: Tensor = self.predictor(embeddings, action)
        return error

    def gaussianity(self, embeddings: Tensor) -> Tensor:
        """Compute SIGReg of the embeddings (B, F, N * D) of all processes, along directions that are new at every step."""
        key = splitmix64(torch.tensor([self.global_step + torch.initial_seed()], device=embeddings.device))
        return sigreg(gather_rows(embeddings), draw_directions(key, embeddings.shape[-1], self.directions))

    @override
    def describe_states(self, states: Tensor) -> tuple[dict[str, float], list[str]]:
        """Tell whether embeddings, (n, N * D), have collapsed to a point or a line."""
        std, rank = states.var(dim=0, correction=0).mean().sqrt().item(), effective_rank(states)
        said = f"standard deviation {std:.2g} (1 is aimed at), effective rank {rank:.1f} of {states.shape[1]}"
        lines = [f"states: {said}"]
        if std < _COLLAPSED_STD or rank < _COLLAPSED_RANK:
            lines.append(f"warning: states have collapsed: {said}. Raise model.regularization or train longer.")
        return {"state/std": std, "state/effective_rank": rank}, lines

    @override
    @torch.no_grad()
    def on_trained(self) -> None:
        """Measure location and scale of embeddings on training clips."""
        self.network.measure(self.training_frames(self.network.embed))
