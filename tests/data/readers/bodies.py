"Volumes made for the tests of scans, volumes and DICOM, and cards for them."

from pathlib import Path

import nibabel
import numpy as np

from taco.data.card import parse_card

HEAD = """name = "toy"
title = "Toy"
modality = "MR"
anatomy = "none"
annotation = "{}"
channels = 1
labels_from = "made here"
licence = "none"
permits = "tests"
citation = "none"
homepage = "none"
split = {{rule = "subject"}}
classes = {{1 = "organ", 2 = "lesion"}}

[[read]]
"""
AFFINE = np.diag([0.5, 0.75, 3.0, 1.0])
META = """ObjectType = Image
NDims = 3
DimSize = 6 8 5
ElementType = MET_SHORT
ElementSpacing = 0.5 0.75 3
TransformMatrix = -1 0 0 0 -1 0 0 0 1
Offset = 0 0 0
"""
SPACE = {
    "space": "left-posterior-superior",
    "space directions": np.diag([-0.5, -0.75, 3.0]),
    "space origin": [0, 0, 0],
}


def card(text: str, annotation: str = "semantic"):
    return parse_card(HEAD.format(annotation) + text, "toy.toml")


def body() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (6, 8, 5)).astype(np.int16)


def refused(error, *words):
    message = str(error.value)
    for word in words:
        assert word in message, (word, message)
    assert error.value.fix and error.value.file


def volume_card(**options) -> str:
    lines = {
        "reader": '"volumes"',
        "images": '"*_image.nii.gz"',
        "masks": '"*_label.nii.gz"',
    } | options
    return "\n".join(f"{k} = {v}" for k, v in lines.items() if v is not None)


def write_pair(
    folder: Path, name: str = "a", image=None, labels=None, label_affine=AFFINE
) -> tuple[np.ndarray, np.ndarray]:
    image = body() if image is None else image
    if labels is None:
        labels = np.zeros((6, 8, 5), np.uint8)
        labels[1:4, 2:6, 1:4] = 1
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), folder / f"{name}_image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, label_affine), folder / f"{name}_label.nii.gz")
    return image, labels
