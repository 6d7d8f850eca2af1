"""GTEx's tissues are those of release v8, and tissues of other studies have names and colours too."""

from __future__ import annotations

import re

from ebmodel.eqtl.tissues import TISSUES, abbreviate, colour, label, well_sampled


def test_tissues_are_those_of_release_v8() -> None:
    # Totals that the GTEx Consortium (Science 369:1318, 2020) gives: 15,201 samples of 49 tissues
    assert len(TISSUES) == 49
    assert sum(tissue.samples for tissue in TISSUES.values()) == 15_201
    assert max(TISSUES.values(), key=lambda tissue: tissue.samples).name == "Muscle_Skeletal"
    assert min(TISSUES.values(), key=lambda tissue: tissue.samples).samples == 73
    assert list(TISSUES) == sorted(TISSUES)


def test_the_32_tissues_of_section_7() -> None:
    assert len(well_sampled()) == 32
    assert {"Artery_Tibial", "Artery_Coronary", "Artery_Aorta", "Esophagus_Muscularis"} <= set(well_sampled())
    assert well_sampled(600) == ("Muscle_Skeletal", "Skin_Sun_Exposed_Lower_leg", "Whole_Blood")


def test_every_tissue_is_told_apart() -> None:
    for of in (abbreviate, label):
        assert len({of(name) for name in TISSUES}) == 49
    assert all(re.fullmatch(r"#[0-9A-F]{6}", colour(name)) for name in TISSUES)
    assert {colour(name) for name, tissue in TISSUES.items() if tissue.group == "Brain"} == {"#EEEE00"}
    assert colour("Adipose_Subcutaneous") == "#FF6600"
    assert label("Adipose_Subcutaneous") == "Adipose – Subcutaneous"


def test_groups_hold_related_tissues() -> None:
    of = [tissue.group for tissue in TISSUES.values()]
    assert [of.count(group) for group in ("Brain", "Artery", "Esophagus", "Cells")] == [13, 3, 3, 0]


def test_tissues_of_other_studies() -> None:
    assert abbreviate("my_tissue_1") == "my_tissue_1"
    assert label("my_tissue_1") == "my tissue 1"
    assert re.fullmatch(r"#[0-9A-F]{6}", colour("my_tissue_1"))
    assert colour("my_tissue_1") == colour("my_tissue_1") != colour("my_tissue_2")
