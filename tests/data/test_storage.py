import functools
import http.server
import io
import itertools
import multiprocessing
import os
import shutil
import threading
import time

import fsspec
import pytest

from lam.data import storage
from lam.data.corruption import CorruptionError
from lam.data.datamodule import ClipDataModule
from lam.data.mixture import open_index
from lam.data.storage import Cache
from lam.io.trust import trust
from tests.data.shards import frame_of, write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20, 15, 8, 11], val=[10, 13])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(storage, "RETRY_DELAYS", (0.0, 0.0))


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, fails the first ``failures`` requests, and remembers what was asked for."""

    def __init__(self, folder, failures=0):
        self.asked, self.failures = [], failures
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path.lstrip("/"))
        if len(self.server.asked) <= self.server.failures:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def commands_are_trusted():
    trust("pipe:")


def rows(shards, cache, batches=3, **settings):
    data = ClipDataModule(shards, frames=3, batch_size=4, **{"num_workers": 0, "cache": cache, **settings})
    clips = [*itertools.islice(data.train_dataloader(), batches), *data.val_dataloader()]
    return [frame_of(clip.frames.numpy()).tolist() for clip in clips]


def in_memory(folder):
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/lam-shards", recursive=True)
    return "memory://lam-shards"


PLACES = {
    "pipe": lambda folder: f"pipe:cat {folder}/{{name}}",
    "file": lambda folder: f"file://{folder}",
    "memory": in_memory,
    "chained": lambda folder: f"local://{folder}",
}


@pytest.mark.parametrize("place", PLACES)
def test_any_address_gives_the_same_clips(folder, tmp_path, place):
    url = PLACES[place](folder)
    assert rows(url, tmp_path / "cache") == rows(folder, None)
    assert open_index(url).digest == open_index(folder).digest
    assert open_index(url).name == {"memory": "lam-shards"}.get(place, "shards")


def test_http_is_fetched_once(folder, tmp_path):
    with Server(folder) as server:
        first = rows(server.url, tmp_path / "cache")
        assert sorted(server.asked) == sorted(path.name for path in folder.iterdir() if path.is_file())
        server.asked.clear()
        assert rows(server.url, tmp_path / "cache", num_workers=2) == first == rows(folder, None)
        assert set(server.asked) == {"index.json", "shards.parquet"}


def test_a_failing_network_is_asked_again(folder, tmp_path):
    with Server(folder, failures=2) as server:
        assert rows(server.url, tmp_path / "cache") == rows(folder, None)
        assert server.asked[:3] == ["index.json"] * 3


def test_a_wrong_address(folder, tmp_path):
    with Server(folder) as server, pytest.raises(OSError, match=r"/nowhere: index\.json could not be read in 3 attempts"):
        rows(server.url + "/nowhere", tmp_path)
    with pytest.raises(OSError, match=r"pipe:false: index\.json could not be read in 3 attempts"):
        rows("pipe:false", tmp_path)


def test_a_shard_that_cannot_be_fetched_is_no_damage(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "train-000000-000.tar").unlink()
    with pytest.raises(OSError, match=r"train-000000-000\.tar could not be read in 3 attempts"):
        rows(f"file://{copy}", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize("name", ["train-000000-000.tar", "train-000000-000.parquet"])
def test_a_shard_that_has_changed_is_damage(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[800] ^= 1
    (copy / name).write_bytes(data)
    with (
        pytest.warns(UserWarning, match="Another window"),
        pytest.raises(CorruptionError, match=rf"{name} are not those that were"),
    ):
        rows(f"file://{copy}", tmp_path / "cache")


def test_a_url_needs_a_cache(folder):
    with pytest.raises(ValueError, match=r"Set data\.cache to a folder on a local disk"):
        ClipDataModule(f"file://{folder}", frames=3, batch_size=4)


@pytest.mark.parametrize("name", ["../secret", "a;rm -rf b", "$(id)", "/etc/passwd", "-x"])
def test_names_do_not_reach_the_shell(name):
    with pytest.raises(ValueError, match="expected letters"):
        storage.open_url("pipe:cat {name}", name)


def cached(cache, name, size=2**20):
    """Opens a file whose hash is all one digit, and that holds it, of a size."""
    with cache.open(name * 64, size, lambda file: file.write(name.encode() * size)) as file:
        return file.read(1).decode()


def test_those_used_longest_ago_make_room(tmp_path):
    cache = Cache(tmp_path, 3.5 / 1024)  # three files
    for age, name in enumerate(["a", "b", "c"]):
        assert cached(cache, name) == name
        os.utime(tmp_path / (name * 64), (1000 + age, 1000 + age))
    cached(cache, "a")  # used now
    (tmp_path / "precious.txt").write_bytes(bytes(2**20))  # a folder of one's own, by mistake
    kept = (tmp_path / ("b" * 64)).open("rb")
    cached(cache, "d")
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {"a" * 64, "c" * 64, "d" * 64, "precious.txt"}
    assert kept.read(1) == b"b"  # what is open stays readable
    kept.close()
    with pytest.raises(ValueError, match=r"cache_gib 0\.0034.* does not hold a shard of 4194304 bytes"):
        cached(cache, "e", 4 * 2**20)


def test_what_a_killed_process_left_is_removed(tmp_path):
    cache = Cache(tmp_path, 2.5 / 1024)
    for name, age in (("0" * 64, 7200), ("1" * 64, 60)):
        (tmp_path / f".{name}.part").write_bytes(bytes(2**20))
        os.utime(tmp_path / f".{name}.part", (time.time() - age,) * 2)
    cached(cache, "a")
    assert {path.name for path in tmp_path.iterdir() if "lock" not in path.name} == {f".{'1' * 64}.part", "a" * 64}


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(file: io.BufferedWriter):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Cache(tmp_path, 1).open("a" * 64, 10, fail)
    assert not [path for path in tmp_path.iterdir() if "lock" not in path.name]


def read_all(url, cache, queue):
    queue.put(rows(url, cache, batches=20, cache_gib=60000 / 2**30))


def test_two_processes_share_a_cache_that_is_too_small(folder, tmp_path):
    context, shards = multiprocessing.get_context("fork"), sorted(folder.glob("*.tar"))
    sizes = [path.stat().st_size for path in shards]
    assert sum(sizes) > 2 * 60000 and max(sizes) < 60000
    queue = context.Queue()
    processes = [context.Process(target=read_all, args=(f"file://{folder}", tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=10)
    assert found[0] == found[1] == rows(folder, None, batches=20)
    held = [path for path in tmp_path.iterdir() if "lock" not in path.name]
    assert not [path for path in held if path.suffix == ".part"]


def test_two_processes_fetch_once(folder, tmp_path):
    context = multiprocessing.get_context("fork")
    with Server(folder) as server:
        queue = context.Queue()
        processes = [context.Process(target=lambda: queue.put(rows(server.url, tmp_path))) for _ in range(2)]
        for process in processes:
            process.start()
        found = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(timeout=10)
        assert found[0] == found[1]
        tars = [name for name in server.asked if name.endswith(".tar")]
    assert len(tars) == len(set(tars)) == 4
