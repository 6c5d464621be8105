"""Boards, one file each: pictures for TensorBoard and the report; every one is a Lightning callback with a name of its own."""

from lam.boards.base import Board
from lam.boards.code_gallery import CodeGalleryBoard
from lam.boards.code_usage import CodeUsageBoard
from lam.boards.embedding import EmbeddingBoard
from lam.boards.episodes import EpisodeBoard
from lam.boards.leakage import LeakageBoard
from lam.boards.plan import PlanBoard
from lam.boards.prediction import PredictionBoard
from lam.boards.rate import RateBoard
from lam.boards.rollout import RolloutBoard
from lam.boards.transfer import TransferBoard
from lam.boards.traversal import TraversalBoard

__all__ = [
    "Board",
    "CodeGalleryBoard",
    "CodeUsageBoard",
    "EmbeddingBoard",
    "EpisodeBoard",
    "LeakageBoard",
    "PlanBoard",
    "PredictionBoard",
    "RateBoard",
    "RolloutBoard",
    "TransferBoard",
    "TraversalBoard",
]
