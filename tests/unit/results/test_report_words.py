"""What a report says in words: recipes that work, and nothing that the numbers do not bear out."""

from dataclasses import replace
from pathlib import Path

import pytest

from icd.results.report.ablation_part import worth
from icd.results.report.blocks import Code, Table, Text
from icd.results.report.gather import Facts, gather
from icd.results.report.search_part import provenance, pruning
from tests.ablating import ablated, study_at
from tests.reports import confirmation, rich


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = tmp_path_factory.mktemp("words")
    rich(folder, 6)
    return gather(folder, "rich")


def test_the_recipe_exports_what_there_is(facts: Facts) -> None:
    def recipe(facts: Facts) -> list[str]:
        found = next(block for block in provenance(facts).blocks if isinstance(block, Code))
        return found.text.splitlines()

    root = facts.root_option
    assert root.startswith(" --root /")
    facts = replace(facts, root_option="")
    assert recipe(facts)[1] == "icd export rich -o best.yaml --unconfirmed"
    assert recipe(replace(facts, confirmation=confirmation(finished=False)))[1].endswith("--unconfirmed")
    assert recipe(replace(facts, confirmation=confirmation()))[1] == "icd export rich -o best.yaml"


def test_survivors_understate_the_correlations(facts: Facts) -> None:
    section = pruning(facts)
    assert section is not None
    note = section.blocks[-1]
    assert isinstance(note, Text)
    assert "err downwards" in note.text


def test_the_whole_configuration_has_its_number_of_seeds(facts: Facts, tmp_path: Path) -> None:
    section = worth(replace(facts, ablation=ablated(study_at(tmp_path))))
    assert section is not None
    table = next(block for block in section.blocks if isinstance(block, Table) and block.caption == "Arms")
    assert (table.rows[-1][0], table.rows[-1][2]) == ("whole", 3)
