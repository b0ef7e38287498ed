"""A plugin on a cluster of two raylets, of which the one that trains sees an empty folder where the plugin is."""

from pathlib import Path

import yaml

from tests.command import Command
from tests.integration.ray_nodes import cluster
from tests.support.plugins import sweep_document, write_plugin
from tests.tiny import write_images


def test_a_file_reaches_workers_that_have_no_way_to_it(tmp_path: Path, token: Path, command: Command) -> None:
    """From the plugin to a student that a trial file trains: each step is a command, and the cluster does the work."""
    mine = tmp_path / "mine"
    mine.mkdir()
    plugin = write_plugin(mine)
    images = write_images(tmp_path / "images.npz")
    sweep, best = mine / "sweep.yaml", tmp_path / "best.yaml"
    sweep.write_text(yaml.safe_dump(sweep_document(images, ["my_loss.py"], trials=2)))
    where = ["--root", tmp_path / "root"]

    def run(*words: object) -> str:
        said = command(*words)
        assert said.code == 0, (words, said.err)
        return said.out

    run("check-plugin", plugin)
    with cluster(token, mine, head_cpus=0) as (address, _):
        there = [*where, "--executor", "ray", "--address", address]
        assert "2 complete" in run("sweep", sweep, *there)
        confirmed = run("confirm", "mine", "--top", 1, "--seeds", 2, "--against", "KD", "--all-seeds", *there)
        assert "trial" in confirmed
    config = yaml.safe_load((tmp_path / "root/sweeps/mine/trials/0000/config.yaml").read_text())
    assert config["method"]["base_loss"].keys() == {"cosine"}
    assert config["plugins"][0]["source"] == plugin.read_text()
    plugin.unlink()
    run("export", "mine", "-o", best, "--force", *where)
    exported = yaml.safe_load(best.read_text())
    assert exported["method"]["base_loss"].keys() == {"cosine"}
    run("train", best, "--test", *where)  # a confirmed winner is measured on test images
