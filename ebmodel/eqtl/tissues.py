"""GTEx's tissues: their names, abbreviations, official colours and how many samples have genotypes.

Names are those of the files of release v8, colours those of the GTEx portal (brain regions share one), counts the
samples with genotypes that release v8 mapped eQTLs in: 49 tissues, 15,201 samples. 32 tissues have at least 200, those
of Section 7. Tissues that are not GTEx's have names, labels and colours too, made from what they are called.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from zlib import crc32

__all__ = ["TISSUES", "Tissue", "abbreviate", "colour", "label", "well_sampled"]

_TABLE = """
Adipose_Subcutaneous                  ADPSBQ  #FF6600 581 Adipose – Subcutaneous
Adipose_Visceral_Omentum              ADPVSC  #FFAA00 469 Adipose – Visceral (Omentum)
Adrenal_Gland                         ADRNLG  #33DD33 233 Adrenal Gland
Artery_Aorta                          ARTAORT #FF5555 387 Artery – Aorta
Artery_Coronary                       ARTCRN  #FFAA99 213 Artery – Coronary
Artery_Tibial                         ARTTBL  #FF0000 584 Artery – Tibial
Brain_Amygdala                        BRNAMY  #EEEE00 129 Brain – Amygdala
Brain_Anterior_cingulate_cortex_BA24  BRNACC  #EEEE00 147 Brain – Anterior cingulate cortex (BA24)
Brain_Caudate_basal_ganglia           BRNCDT  #EEEE00 194 Brain – Caudate (basal ganglia)
Brain_Cerebellar_Hemisphere           BRNCHB  #EEEE00 175 Brain – Cerebellar Hemisphere
Brain_Cerebellum                      BRNCHA  #EEEE00 209 Brain – Cerebellum
Brain_Cortex                          BRNCTXA #EEEE00 205 Brain – Cortex
Brain_Frontal_Cortex_BA9              BRNCTXB #EEEE00 175 Brain – Frontal Cortex (BA9)
Brain_Hippocampus                     BRNHPP  #EEEE00 165 Brain – Hippocampus
Brain_Hypothalamus                    BRNHPT  #EEEE00 170 Brain – Hypothalamus
Brain_Nucleus_accumbens_basal_ganglia BRNNCC  #EEEE00 202 Brain – Nucleus accumbens (basal ganglia)
Brain_Putamen_basal_ganglia           BRNPTM  #EEEE00 170 Brain – Putamen (basal ganglia)
Brain_Spinal_cord_cervical_c-1        BRNSPC  #EEEE00 126 Brain – Spinal cord (cervical c-1)
Brain_Substantia_nigra                BRNSNG  #EEEE00 114 Brain – Substantia nigra
Breast_Mammary_Tissue                 BREAST  #33CCCC 396 Breast – Mammary Tissue
Cells_Cultured_fibroblasts            FIBRBLS #AAEEFF 483 Cells – Cultured fibroblasts
Cells_EBV-transformed_lymphocytes     LCL     #CC66FF 147 Cells – EBV-transformed lymphocytes
Colon_Sigmoid                         CLNSGM  #EEBB77 318 Colon – Sigmoid
Colon_Transverse                      CLNTRN  #CC9955 368 Colon – Transverse
Esophagus_Gastroesophageal_Junction   ESPGEJ  #8B7355 330 Esophagus – Gastroesophageal Junction
Esophagus_Mucosa                      ESPMCS  #552200 497 Esophagus – Mucosa
Esophagus_Muscularis                  ESPMSL  #BB9988 465 Esophagus – Muscularis
Heart_Atrial_Appendage                HRTAA   #9900FF 372 Heart – Atrial Appendage
Heart_Left_Ventricle                  HRTLV   #660099 386 Heart – Left Ventricle
Kidney_Cortex                         KDNCTX  #22FFDD  73 Kidney – Cortex
Liver                                 LIVER   #AABB66 208 Liver
Lung                                  LUNG    #99FF00 515 Lung
Minor_Salivary_Gland                  SLVRYG  #99BB88 144 Minor Salivary Gland
Muscle_Skeletal                       MSCLSK  #AAAAFF 706 Muscle – Skeletal
Nerve_Tibial                          NERVET  #FFD700 532 Nerve – Tibial
Ovary                                 OVARY   #FFAAFF 167 Ovary
Pancreas                              PNCREAS #995522 305 Pancreas
Pituitary                             PTTARY  #AAFF99 237 Pituitary
Prostate                              PRSTTE  #DDDDDD 221 Prostate
Skin_Not_Sun_Exposed_Suprapubic       SKINNS  #0000FF 517 Skin – Not Sun Exposed (Suprapubic)
Skin_Sun_Exposed_Lower_leg            SKINS   #7777FF 605 Skin – Sun Exposed (Lower leg)
Small_Intestine_Terminal_Ileum        SNTTRM  #555522 174 Small Intestine – Terminal Ileum
Spleen                                SPLEEN  #778855 227 Spleen
Stomach                               STMACH  #FFDD99 324 Stomach
Testis                                TESTIS  #AAAAAA 322 Testis
Thyroid                               THYROID #006600 574 Thyroid
Uterus                                UTERUS  #FF66FF 129 Uterus
Vagina                                VAGINA  #FF5599 141 Vagina
Whole_Blood                           WHLBLD  #FF00BB 670 Whole Blood
"""


class Tissue(NamedTuple):
    """A tissue of GTEx v8."""

    name: str
    """As in names of files: ``"Adipose_Subcutaneous"``."""
    abbreviation: str
    """GTEx's: ``"ADPSBQ"``."""
    colour: str
    """GTEx's: ``"#FF6600"``."""
    samples: int
    """Samples with genotypes."""
    label: str
    """For readers: ``"Adipose – Subcutaneous"``."""

    @property
    def group(self) -> str:
        """What related tissues share: ``"Adipose"``. The two kinds of cells are not related."""
        organ = self.label.split(" – ")[0]
        return self.label if organ == "Cells" else organ


def _tissue(line: str) -> Tissue:
    name, abbreviation, colour, samples, label = line.split(maxsplit=4)
    return Tissue(name, abbreviation, colour, int(samples), label)


TISSUES: Final[Mapping[str, Tissue]] = MappingProxyType(
    {tissue.name: tissue for tissue in map(_tissue, _TABLE.strip().splitlines())}
)
"""Tissues of GTEx v8 by name, in alphabetic order."""


def well_sampled(least: int = 200) -> tuple[str, ...]:
    """Names of GTEx's tissues with at least so many samples; 200 gives the 32 of Section 7."""
    return tuple(name for name, tissue in TISSUES.items() if tissue.samples >= least)


def colour(name: str) -> str:
    """Colour of a tissue, ``"#RRGGBB"``: GTEx's, or else a hue that depends on the name alone."""
    if name in TISSUES:
        return TISSUES[name].colour
    rgb = colorsys.hls_to_rgb(crc32(name.encode()) / 2**32, 0.55, 0.6)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)


def abbreviate(name: str) -> str:
    """GTEx's abbreviation of a tissue; other tissues keep their names, which alone are sure to differ."""
    return TISSUES[name].abbreviation if name in TISSUES else name


def label(name: str) -> str:
    """A tissue's name for readers: ``"Adipose – Subcutaneous"``; other tissues lose their underscores."""
    return TISSUES[name].label if name in TISSUES else name.replace("_", " ")
