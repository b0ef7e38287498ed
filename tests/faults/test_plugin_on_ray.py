"""A plugin on a cluster of two raylets, of which the one that trains sees an empty folder where the plugin is."""

from pathlib import Path

import yaml

from icd import search
from tests.integration.ray_nodes import cluster
from tests.support.plugins import sweep_document, write_plugin
from tests.tiny import write_images


def test_a_file_reaches_workers_that_have_no_way_to_it(tmp_path: Path, token: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    plugin = write_plugin(mine)
    document = sweep_document(write_images(tmp_path / "images.npz"), [str(plugin)], trials=2)
    with cluster(token, mine, head_cpus=0) as (address, _):
        result = search.sweep(document, root=tmp_path / "root", executor="ray", address=address)
    assert [record.state for record in result.records] == ["complete", "complete"]
    config = yaml.safe_load((tmp_path / "root/sweeps/mine/trials/0000/config.yaml").read_text())
    assert config["method"]["base_loss"].keys() == {"cosine"}
    assert config["plugins"][0]["source"] == plugin.read_text()
