"""Files that are written whole or not at all, and that nothing is written otherwise."""

import ast
import os
import socket
import subprocess
import sys

import pytest

from lam.io import AtomicFile, HashingFile, atomic_file, hash_file, write_json, write_text
from tests.test_imports import MODULES

ELSEWHERE = {  # writes that are whole by other means, each with its reason
    "lam.data.storage": "a cache, in which files are named by their hashes and locked while they are fetched",
    "data_prep.pipeline.job": "the lock of a job, which says what is being read",
    "lam.io": "the writer",
}


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "new"
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]


def test_a_library_may_close_what_it_wrote_to(tmp_path):
    with atomic_file(tmp_path / "file") as file:
        file.write(b"all")
        file.close()
    assert (tmp_path / "file").read_bytes() == b"all"


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    script = f"import os\nfrom pathlib import Path\nfrom lam.io import write_text\nwrite_text(Path({str(path)!r}), 'theirs')"
    mine = AtomicFile(path)
    mine.file.write(b"mine")
    subprocess.run([sys.executable, "-c", script], check=True)
    assert path.read_text() == "theirs"
    mine.commit()
    assert path.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_by_the_next_writer_of_that_file(tmp_path):
    path = tmp_path / "file"
    script = (
        "import os\nfrom pathlib import Path\nfrom lam.io import AtomicFile\n"
        f"AtomicFile(Path({str(path)!r})).file.write(b'half')\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    others = tmp_path / ".file.another-host-7-7.part"
    alive = tmp_path / f".file.{socket.gethostname()}-{os.getppid()}-7.part"
    for one in (others, alive):
        one.write_text("of someone who still writes")
    assert len(list(tmp_path.iterdir())) == 3
    write_text(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, others, alive])


def test_a_hash_made_while_writing_is_that_of_the_file(tmp_path):
    with atomic_file(tmp_path / "file") as file:
        hashed = HashingFile(file)
        hashed.write(b"a" * 1000)
        hashed.write(b"b")
    assert hashed.sha256 == hash_file(tmp_path / "file")
    assert hashed.written == hashed.tell() == 1001


def test_json_is_sorted_and_ends_with_a_line(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]}, indent=None)
    assert (tmp_path / "a.json").read_text() == '{"a": [2], "b": 1}\n'


OPENED = ("file", "buffer", "sink", "hashed")
"""Parts of the names that open files and memory have in this code."""


def writes(tree: ast.AST) -> list[str]:
    """Calls that write to a file by its path."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call, name = ast.unparse(node.func), ast.unparse(node.func).rpartition(".")[2]
        method = isinstance(node.func, ast.Attribute)
        given = [*node.args, *(word.value for word in node.keywords)]
        modes = [one.value.strip("bt+") for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        to_a_path = not any(part in ast.unparse(one) for one in node.args for part in OPENED)
        if (
            (method and name in ("write_text", "write_bytes"))
            or (name == "open" and to_a_path and any(mode in ("w", "a", "x") for mode in modes))
            or (name in ("to_csv", "to_parquet", "to_json") and node.args)
            or (name in ("savefig", "savez", "savetxt", "ParquetWriter") and to_a_path)
            or (call in ("pq.write_table", "torch.save", "np.save", "json.dump", "yaml.dump", "pickle.dump") and to_a_path)
            or (method and name == "save" and node.args and to_a_path and "_record" not in call)
        ):
            found.append(ast.unparse(node)[:100])
    return found


def test_everything_is_written_by_the_one_writer():
    found = {name: writes(ast.parse(path.read_text())) for name, path in MODULES.items()}
    assert {name: calls for name, calls in found.items() if calls and name not in ELSEWHERE} == {}
    assert all(found[name] for name in ELSEWHERE)


def test_the_look_for_other_writes_finds_them():
    bad = (
        *("path.write_text(x)", "open(p, 'w')", "p.open('wb')", "t.to_csv(path)", "f.savefig(path)", "np.savez(path, a=1)"),
        *("pq.write_table(t, p)", "image.save(p)"),
    )
    good = ("open(p)", "t.to_csv(index=False)", "f.savefig(file)", "write_text(path, x)", "index.save()")
    assert [len(writes(ast.parse(one))) for one in (*bad, *good)] == [1] * len(bad) + [0] * len(good)
