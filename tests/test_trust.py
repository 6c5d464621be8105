"""Settings of other people run nothing: no module of theirs is imported and no command, unless a person trusts it by name."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import lam
from lam.cli import main
from lam.control.closed_loop import ClosedLoop  # noqa: F401  so that it is known by its short name
from lam.data.datamodule import ClipDataModule
from lam.data.mixture import open_index
from lam.io.trust import UntrustedError, check_import, take_trust, trust, trust_typed
from lam.runs.cli import run
from lam.runs.errors import SettingsError
from lam.runs.provenance import short
from lam.runs.sweep.knobs import bottleneck_class
from lam.simulators import find_simulator
from tests.tiny import arguments, make_world

MODULE = '''
from pathlib import Path
from lam.bottlenecks import Identity

Path(__file__).with_suffix(".ran").touch()


class Mine(Identity):
    """Lets everything through."""
'''


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("data") / "world")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that a person may or may not know, which leaves a file when it is imported."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"mine_{abs(hash(str(tmp_path)))}.py"
    path.write_text(MODULE)
    yield path
    sys.modules.pop(path.stem, None)


def ran(module: Path) -> bool:
    return module.with_suffix(".ran").exists()


def overlay(folder: Path, bottleneck: object) -> str:
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump({"model": {"bottleneck": bottleneck}}))
    return f"--config={path}"


FORMS = {
    "class_path": lambda name: {"class_path": f"{name}.Mine"},
    "its path alone": lambda name: f"{name}.Mine",
    "YAML in a text": lambda name: f"{{class_path: {name}.Mine}}",
}
"""Ways in which YAML can name a class."""


@pytest.mark.parametrize("form", FORMS)
def test_a_module_that_settings_name_is_refused_before_it_is_imported(module, shards, tmp_path, form):
    words = ["fit", *arguments(shards, tmp_path / "runs"), overlay(tmp_path, FORMS[form](module.stem))]
    with pytest.raises(SettingsError, match=rf"{module.stem}\.Mine\. It was not imported.*add --trust {module.stem}"):
        run(words)
    assert not ran(module)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "path", ["subprocess.Popen", "os.system", "torch.hub.load", "torch.load", "lam.cli.sys.exit", "jsonargparse.ArgumentParser"]
)
def test_known_libraries_give_only_their_parts(module, shards, tmp_path, path):
    with pytest.raises(SettingsError, match=r"was not imported|no class is named|lists what there is"):
        run(["fit", *arguments(shards, tmp_path / "runs"), overlay(tmp_path, {"class_path": path})])


def test_ones_own_part_works_typed_or_trusted_and_its_run_says_how_to_load_it(module, shards, tmp_path, monkeypatch, capsys):
    name, runs = module.stem, tmp_path / "runs"
    typed = [f"--model.bottleneck={name}.Mine"]
    assert type(run(["fit", *arguments(shards, runs, name="tiny/typed"), *typed]).model.bottleneck).__name__ == "Mine"
    folder = runs / "tiny" / "typed" / "seed0"
    hashes = [(folder / f"{each}.json").read_bytes() for each in ("started", "trained")]

    monkeypatch.setenv("LAM_TRUST", "")  # another day
    sys.modules.pop(name)
    module.with_suffix(".ran").unlink()
    with pytest.raises(UntrustedError, match=rf"names? {name}\.Mine\. .*add --trust {name} \(in Python lam\.io\.trust\.trust"):
        lam.load(folder)
    validate = ["validate", f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    with pytest.raises(SystemExit) as left:
        main(validate)
    assert left.value.code == 2
    assert f"--trust {name}" in capsys.readouterr().err
    assert not ran(module)

    main([*validate, "--trust", name])
    assert (folder / "metrics.json").exists()
    assert ran(module)
    assert type(lam.load(folder).world.bottleneck).__name__ == "Mine"
    assert [(folder / f"{each}.json").read_bytes() for each in ("started", "trained")] == hashes

    # the promise of one file and one YAML, outside of the package
    main(
        ["fit", *arguments(shards, runs, name="tiny/yaml"), overlay(tmp_path, {"class_path": f"{name}.Mine"}), "--trust", name]
    )
    assert (runs / "tiny" / "yaml" / "seed0" / "trained.json").exists()


def test_whoever_reads_settings_without_parsers_imports_nothing_either(module):
    assert short({"class_path": f"{module.stem}.Mine", "init_args": {"dim": 3}}) == {"class": "Mine", "dim": 3}
    for read in (bottleneck_class, find_simulator):
        with pytest.raises(UntrustedError, match=rf"add --trust {module.stem}"):
            read(f"{module.stem}.Mine")
    with pytest.raises(UntrustedError, match=rf"add --trust {module.stem}"):
        find_simulator(f"gym:{module.stem}:Env-v0")
    assert not ran(module)


def test_data_prep_imports_nothing_that_its_settings_name(module, shards, tmp_path, capsys):
    from data_prep.cli import main as data_prep

    config = tmp_path / "features.yaml"
    config.write_text(f"encoder: {{class_path: {module.stem}.Mine}}\n")
    assert data_prep(["features", str(shards), str(tmp_path / "out"), "--config", str(config)]) == 2
    assert f"--trust {module.stem}" in capsys.readouterr().err
    assert not ran(module)


def test_a_command_in_settings_is_not_run(module, shards, tmp_path):
    mark = tmp_path / "ran"
    url = f"pipe:touch {mark}; cat {shards}/{{name}}"
    for place in (url, {url: 1.0}):
        config = tmp_path / "evil.yaml"
        config.write_text(yaml.safe_dump({"data": {"shards": place, "cache": str(tmp_path / "cache")}}))
        words = [word for word in arguments(shards, tmp_path / "runs") if "data.shards" not in word]
        with pytest.raises(ValueError, match=r"data from a command.*not run.*--trust pipe:"):
            run(["fit", *words, f"--config={config}"])
    with pytest.raises(UntrustedError, match="not run"):
        open_index(url)
    with pytest.raises(UntrustedError, match="not run"):
        ClipDataModule(str(shards), frames=3, batch_size=2, plain_stream=f"/data/a.tar::pipe:touch {mark}").train_dataloader()
    assert not mark.exists()

    run(["fit", *words, f"--data.shards={url}", f"--data.cache={tmp_path / 'cache'}"])  # typed
    assert mark.exists()
    mark.unlink()
    with pytest.raises(UntrustedError, match="not run"):  # what was typed, and no other command
        open_index(f"pipe:touch {mark}; echo")
    trust("pipe:")
    assert open_index(f"pipe:touch {mark}; cat {shards}/{{name}}").digest == open_index(shards).digest


@pytest.mark.parametrize(
    ("words", "trusted"),
    [
        (["--trust", "a,b", "fit", "--trust=c"], "a b c"),
        (["--model.bottleneck", "one.Two"], "one"),
        (["--model.bottleneck=one.two.Three"], "one"),
        (["--trainer.callbacks=[{class_path: x.Y}, {'class_path': 'z.W'}]"], "x z"),
        (["--config", "evil.Yaml"], ""),
        (["--config=evil.Yaml", "-c", "class_path: evil.X"], ""),
        (["--data.shards", "evil.tar"], ""),
        (["--config={model: {bottleneck: {class_path: mine.X}}}"], "mine"),
    ],
)
def test_which_words_trust(monkeypatch, words, trusted):
    monkeypatch.setenv("LAM_TRUST", "")
    trust_typed(take_trust(words))
    for name in ("a", "b", "c", "one", "x", "z", "evil", "mine"):
        if name in trusted.split():
            check_import(f"{name}.Part", "It")
        else:
            with pytest.raises(UntrustedError):
                check_import(f"{name}.Part", "It")


def test_trust_wants_the_name_of_a_package():
    with pytest.raises(ValueError, match=r"--trust got '', expected the name of a package"):
        take_trust(["fit", "--trust"])
    with pytest.raises(ValueError, match=r"--trust got 'a\.b'"):
        take_trust(["--trust", "a.b"])


def test_processes_of_a_sweep_trust_what_it_trusts(module):
    trust(module.stem)
    program = f"from lam.io.trust import check_import; check_import('{module.stem}.Mine', 'It')"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert shutil.which("true") is None or not ran(module)


def test_a_callers_own_parsers_import_as_before(module, shards, tmp_path):
    from jsonargparse import ArgumentParser

    with pytest.raises(SettingsError):
        run(["fit", *arguments(shards, tmp_path / "runs"), overlay(tmp_path, f"{module.stem}.Mine")])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--kind", type=type)
    assert parser.parse_args([f"--kind={module.stem}.Mine"]).kind.__name__ == "Mine"


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("address", ["{}", "file://{}"])
@pytest.mark.parametrize("words", [[], ["--weights_only=false"], ["--config={trainer: {plugins: [TorchCheckpointIO]}}"]])
def test_a_checkpoint_is_never_unpickled(module, shards, tmp_path, address, words):
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "hyper": Payload(mark)}, path)
    with pytest.raises((pickle.UnpicklingError, RuntimeError, ValueError, ImportError)):
        run(["fit", *arguments(shards, tmp_path / "runs"), f"--ckpt_path={address.format(path)}", *words])
    assert not mark.exists()
