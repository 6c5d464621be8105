"""Visualizations for TensorBoard and the report, one file each; every one is a Lightning callback with a name of its own."""

from lam.viz.base import Visualization
from lam.viz.code_gallery import CodeGalleryVisualization
from lam.viz.code_usage import CodeUsageVisualization
from lam.viz.embedding import EmbeddingVisualization
from lam.viz.leakage import LeakageVisualization
from lam.viz.prediction import PredictionVisualization
from lam.viz.rate import RateVisualization
from lam.viz.rollout import RolloutVisualization
from lam.viz.transfer import TransferVisualization
from lam.viz.traversal import TraversalVisualization

__all__ = [
    "CodeGalleryVisualization",
    "CodeUsageVisualization",
    "EmbeddingVisualization",
    "LeakageVisualization",
    "PredictionVisualization",
    "RateVisualization",
    "RolloutVisualization",
    "TransferVisualization",
    "TraversalVisualization",
    "Visualization",
]
