"""Boards, one file each: pictures for TensorBoard and the report; every one is a Lightning callback with a name of its own."""

from lam.viz.base import Board
from lam.viz.code_gallery import CodeGalleryBoard
from lam.viz.code_usage import CodeUsageBoard
from lam.viz.embedding import EmbeddingBoard
from lam.viz.leakage import LeakageBoard
from lam.viz.prediction import PredictionBoard
from lam.viz.rate import RateBoard
from lam.viz.rollout import RolloutBoard
from lam.viz.transfer import TransferBoard
from lam.viz.traversal import TraversalBoard

__all__ = [
    "Board",
    "CodeGalleryBoard",
    "CodeUsageBoard",
    "EmbeddingBoard",
    "LeakageBoard",
    "PredictionBoard",
    "RateBoard",
    "RolloutBoard",
    "TransferBoard",
    "TraversalBoard",
]
