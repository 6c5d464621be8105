"""Source ``frames``: folders of images, one folder a recording."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from data_prep.options import PreparationOptions
from data_prep.sources.base import Clock, Listing, Recording, Source, Stream
from data_prep.sources.image_files import ENDINGS, ImageFolder, natural_order, read_images


class Frames(Source):
    """Folders of images (jpg, png, webp, bmp), searched in depth: the images in a folder are the frames of a recording.

    So lie the extracted frames of Something-Something v2 and EPIC-KITCHENS. Frames follow each other in the natural order of
    their names (2 before 10) at an even rate, whatever their numbers. Hidden folders and links to folders are passed over.

    Args:
        src: Folder of such folders, or one of them.
        recorded_fps: Frames a second of the images, which they do not say; 12 is the rate of Something-Something v2.
    """

    preparation: ClassVar[PreparationOptions] = PreparationOptions(static_below=2.0, duplicates_below=4.0)

    def __init__(self, src: Path, recorded_fps: float = 12.0) -> None:
        self.src = Path(src)
        self.clock = Clock(recorded_fps)

    @override
    def find(self) -> Listing:
        """Return all folders with images in them."""
        if not self.src.is_dir():
            raise FileNotFoundError(f"No folder at {self.src}.")
        recordings: list[Recording] = []
        closed: list[OSError] = []
        for folder, below, _ in os.walk(self.src, onerror=closed.append):
            below[:] = sorted((name for name in below if not name.startswith(".")), key=natural_order)
            path = Path(folder)
            images = ImageFolder.scan(path)
            if images.files:
                name = path.relative_to(self.src).as_posix()  # . is the folder itself
                recordings.append(Recording(name, name, images.size, {"folder": folder}, state=images.state))
        if not recordings and not closed:
            raise FileNotFoundError(f"{self.src} has no images. Names must end in one of {' '.join(sorted(ENDINGS))}.")
        return Listing(recordings, [(str(error.filename), error.strerror or str(error)) for error in closed])

    @override
    def open(self, recording: Recording) -> Stream:
        """Return the images of a folder."""
        files = ImageFolder.scan(Path(recording.place["folder"])).files
        return Stream(read_images(files, self.clock.times(len(files))))
