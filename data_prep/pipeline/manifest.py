"""The command that writes the manifest of a folder of sets."""

from __future__ import annotations

from pathlib import Path

from lam.data.manifest import make_manifest
from lam.io import write_json


def manifest(root: Path, out: Path) -> int:
    """Write which worlds, clips and splits lie in a folder of sets, as one JSON file with one hash, and print the hash.

    Args:
        root: Folder of the folders of shards.
        out: The file.

    Returns:
        Exit code.
    """
    content = make_manifest(root)
    write_json(out, content, indent=1)
    print(f"{out}: {len(content['worlds'])} sets, sha256 {content['sha256']}.")
    return 0
