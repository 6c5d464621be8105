"""Files of settings that build on others."""

from pathlib import Path

import pytest

from lam.runs.configs import expand_configs
from lam.runs.errors import SettingsError


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "bottlenecks").mkdir(parents=True)
    write("base", "trainer: {max_steps: 30000, precision: bf16-mixed, logger: {class_path: Logger}}\nmodel: {warmup: 0.1}")
    write("small", "extends: base.yaml\ntrainer: {max_steps: 400}\nmodel: {warmup: 0.1}")
    write("arm", "extends: small.yaml\ntrainer: {precision: 32-true}\ndata: {shards: shards/arm}")
    write("bottlenecks/vq", "model: {bottleneck: {class_path: VQ}}")
    return tmp_path / "experiments"


def write(name: str, text: str) -> None:
    Path(f"experiments/{name}.yaml").write_text(text)


def configs(*names: str) -> list[str]:
    return [f"--config=experiments/{name}.yaml" for name in names]


def test_a_setting_brings_the_files_it_builds_on(files):
    asked = ["fit", "--config", "experiments/arm.yaml", *configs("bottlenecks/vq"), "--name=a/b"]
    assert expand_configs(asked) == ["fit", *configs("base", "small", "arm", "bottlenecks/vq"), "--name=a/b"]


def test_the_base_given_first_is_harmless(files, capsys):
    assert expand_configs(configs("base", "arm")) == configs("base", "small", "arm")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("extends", [True, False])
def test_the_base_given_last_is_warned_of(extends, files, capsys):
    if not extends:
        write("arm", "trainer: {precision: 32-true, max_steps: 5}\nmodel: {warmup: 0.1}")
    assert expand_configs(configs("arm", "base"))[-2:] == configs("arm", "base")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    differ = "2 settings of an earlier one: trainer.max_steps, trainer.precision"
    assert f"experiments/base.yaml, the later file, overrides {differ}." in said


def test_overlays_are_not_warned_of(files, capsys):
    write("faster", "trainer: {max_steps: 3}")
    expand_configs(configs("arm", "bottlenecks/vq", "faster"))
    assert capsys.readouterr().err == ""


def test_what_cannot_be_read_is_said_in_one_line(files):
    with pytest.raises(SettingsError, match=r"No file of settings at experiments/arn.yaml. Nearby: experiments/arm.yaml"):
        expand_configs(configs("arn"))
    write("a", "extends: b.yaml")
    write("b", "extends: a.yaml")
    with pytest.raises(SettingsError, match="extends itself"):
        expand_configs(configs("a"))
    write("c", "{")
    with pytest.raises(SettingsError, match=r"c.yaml is not YAML"):
        expand_configs(configs("c"))
