"""Where a LeRobot data set keeps its episodes, and what is in them.

Layouts v2.0 and v2.1 have files for each episode, v3.0 joins episodes in larger files and lists where each begins
(huggingface/lerobot@7427f31, src/lerobot/datasets/utils.py, dataset_metadata.py and dataset_reader.py).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VERSIONS = ("v2.0", "v2.1", "v3.0")


@dataclass(frozen=True)
class CameraSegment:
    """Where the frames that a camera saw of an episode are.

    Attributes:
        file: The video, or the parquet file that holds the pictures.
        start: Where in the video it begins, seconds; None for all of the video.
        end: Where it ends, seconds.
    """

    file: Path
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class LeRobotEpisode:
    """Episode that the metadata list.

    Attributes:
        index: Its number.
        length: Its frames.
        rows: The parquet file with its rows, None where it is not there.
        views: What each camera saw, of those whose files are there.
    """

    index: int
    length: int
    rows: Path | None
    views: dict[str, CameraSegment]


class LeRobotMetadata:
    """Metadata of a data set.

    Args:
        src: Folder of the data set.

    Raises:
        FileNotFoundError: It has no meta/info.json.
        ValueError: It has another layout.
    """

    def __init__(self, src: Path) -> None:
        self.src = src
        if not (src / "meta/info.json").is_file():
            raise FileNotFoundError(
                f"{src} has no meta/info.json, which every LeRobot data set has. Give the folder that has it."
            )
        info = _read_json(src / "meta/info.json")
        if missing := [name for name in ("codebase_version", "fps", "features", "data_path") if name not in info]:
            raise ValueError(f"{src}/meta/info.json has no {', '.join(missing)}, expected that of a LeRobot data set.")
        self.version: str = info["codebase_version"]
        if self.version not in VERSIONS:
            raise ValueError(
                f"{src} has LeRobot layout {self.version}, expected one of {' '.join(VERSIONS)}. "
                "Convert it with the scripts of the lerobot package."
            )
        self.fps = float(info["fps"])
        self.features: dict[str, dict[str, Any]] = info["features"]
        self.data_path: str = info["data_path"]
        self.video_path: str | None = info.get("video_path")
        modality = src / "meta/modality.json"
        self.groups: dict[str, dict[str, Any]] = _read_json(modality).get("action", {}) if modality.is_file() else {}

    def cameras(self) -> list[str]:
        """Return names of the features that are videos or pictures, without depth."""
        return [name for name, each in self.features.items() if each["dtype"] in ("video", "image") and not _is_depth(each)]

    def episodes(self, cameras: list[str]) -> Iterator[LeRobotEpisode]:
        """Yield the episodes that the metadata list, with the places of what some cameras saw.

        Raises:
            FileNotFoundError: There is no list of episodes.
            ValueError: It cannot be read.
        """
        found = self._joined(cameras) if self.version == "v3.0" else self._separate(cameras)
        try:
            yield from found
        except (json.JSONDecodeError, KeyError, pa.ArrowException) as error:
            raise ValueError(f"{self.src}/meta: the list of episodes cannot be read ({error!r}). Copy it again.") from error

    def _separate(self, cameras: list[str]) -> Iterator[LeRobotEpisode]:
        """Yield episodes of layouts v2.0 and v2.1."""
        rows = self._by_name(self.data_path)
        videos = {name: self._by_name(self.video_path, name) for name in self._videos(cameras)}
        with (self.src / "meta/episodes.jsonl").open() as lines:
            for each in map(json.loads, lines):
                index: int = each["episode_index"]
                file = rows.get(_name(self.data_path, index))
                views = {name: files.get(_name(self.video_path, index)) for name, files in videos.items()}
                views |= {name: file for name in cameras if name not in videos}
                yield LeRobotEpisode(
                    index, each["length"], file, {name: CameraSegment(path) for name, path in views.items() if path}
                )

    def _joined(self, cameras: list[str]) -> Iterator[LeRobotEpisode]:
        """Yield episodes of layout v3.0."""
        videos = self._videos(cameras)
        columns = ["episode_index", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
        columns += [f"videos/{name}/{each}" for name in videos for each in _VIDEO_COLUMNS]
        is_here = functools.cache(Path.is_file)  # a file holds many episodes
        tables = sorted((self.src / "meta/episodes").glob("*/*.parquet"))
        if not tables:
            raise FileNotFoundError(f"{self.src}/meta/episodes has no list of episodes. Copy it again.")
        for row in (row for table in tables for row in pq.read_table(table, columns=columns).to_pylist()):
            file = self._file(self.data_path, row, "data")
            views = {name: CameraSegment(file) for name in cameras if name not in videos}
            for name in videos:
                if row[f"videos/{name}/chunk_index"] is not None:  # lerobot fills it in once the video has been encoded
                    span = row[f"videos/{name}/from_timestamp"], row[f"videos/{name}/to_timestamp"]
                    views[name] = CameraSegment(self._file(self.video_path, row, f"videos/{name}", name), *span)
            length = row["dataset_to_index"] - row["dataset_from_index"]
            views = {name: view for name, view in views.items() if is_here(view.file)}
            yield LeRobotEpisode(row["episode_index"], length, file if is_here(file) else None, views)

    def _videos(self, cameras: list[str]) -> list[str]:
        return [name for name in cameras if self.features[name]["dtype"] == "video"]

    def _file(self, template: str | None, row: dict[str, Any], what: str, camera: str = "") -> Path:
        numbers = {name: row[f"{what}/{name}"] for name in ("chunk_index", "file_index")}
        return self.src / str(template).format(video_key=camera, **numbers)

    def _by_name(self, template: str | None, camera: str = "") -> dict[str, Path]:
        """Return files of a template by their last name, which has the episode's number; the chunk is not needed."""
        # GR00T's demonstration data write {episode_index} where {episode_chunk} is meant, so no chunk is worked out
        pattern = re.sub(r"\{[^}]*\}", "*", str(template).replace("{video_key}", camera))
        return {file.name: file for file in self.src.glob(pattern)}


_VIDEO_COLUMNS = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Copy it again.") from error


def _name(template: str | None, episode: int) -> str:
    return PurePosixPath(str(template)).name.format(episode_index=episode)


def _is_depth(feature: dict[str, Any]) -> bool:
    details = (feature.get("info") or {}) | (feature.get("video_info") or {})
    return bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
