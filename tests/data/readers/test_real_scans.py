"Real volumes of several formats in their original layout, read through cards alone. Skipped where there are none."

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from taco.base import DataError
from taco.data.card import load_card
from taco.data.find import find, read
from taco.data.prepare import fit_square
from tests.data.test_real_files import CARDS, edges, extract

# extract → volumes, subjects, label values, splits
SCANS = {
    "msd_spleen_crop": (1, 1, {0, 1}, {"train"}),
    "sct_spinalcord_mr": (4, 4, {0, 1, 2}, {"test"}),
    "brats2015_deepmedic": (2, 1, {0, 1, 2, 3, 4}, {"train"}),
    "pyradiomics_nrrd": (4, 4, {0, 1, 2, 3, 4, 5}, {"train", "test"}),
    "totalseg_example": (2, 2, None, {"train", "test"}),
}


def card_of(name: str) -> Path:
    return CARDS / f"{name}.toml"


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_read_with_their_labels_and_honest_splits(shared_data, name):
    volumes, subjects, values, parts = SCANS[name]
    found = find(card_of(name), extract(shared_data, name), "real")
    assert len(found.items) == volumes and len({i.subject for i in found.items}) == subjects
    seen, splits, scores, keys = set(), {}, [], []
    for record in read(card_of(name), shared_data / name, "real"):
        splits.setdefault(record.subject, set()).add(record.split)
        seen |= set(np.unique(record.semantic).tolist())
        keys.append(record.key)
        small = fit_square(record, 128)
        assert small.spacing[0] == pytest.approx(
            small.spacing[1], rel=0.02
        )  # square in millimetres
        image, labels = small.image[0], small.semantic
        if labels.any():
            scores.append(
                [
                    edges(image, m)
                    for m in (
                        labels,
                        labels[:, ::-1],
                        labels[::-1],
                        labels.T,
                        np.roll(labels, 12, (0, 1)),
                    )
                ]
            )
    assert seen == (values if values is not None else {0, *load_card(card_of(name)).classes})
    assert len(keys) == len(set(keys))
    assert all(len(s) == 1 for s in splits.values()) and set.union(*splits.values()) == parts
    assert set(splits) == {
        i.subject for i in found.items
    }  # small as its label may be, no labelled volume is left out
    right, *wrong = np.mean(scores, 0)
    assert all(right > 1.08 * w for w in wrong), (right, wrong)


def test_voxels_are_those_of_an_nrrd_file(shared_data):
    "Against pynrrd and the header by hand: x runs to the left and y to the front, so a picture is upside down."
    folder = extract(shared_data, "pyradiomics_nrrd") / "data"
    record = next(
        r
        for r in read(card_of("pyradiomics_nrrd"), shared_data / "pyradiomics_nrrd", "real")
        if r.subject == "brain1"
    )
    labels, header = nrrd.read(str(folder / "brain1_label.nrrd"))
    assert header["space"] == "left-posterior-superior" and np.diag(
        header["space directions"]
    ) == pytest.approx([0.78125, -0.78125, 6.5])
    np.testing.assert_array_equal(record.semantic, labels[:, :, record.slice].T[::-1])
    assert record.spacing == pytest.approx((0.78125, 0.78125))


def test_a_file_with_another_order_of_axes_gives_the_plane_that_was_asked_for(shared_data):
    "t2 is stored from front to back, bottom to top, left to right; sagittal slices follow its third axis."
    folder = extract(shared_data, "sct_spinalcord_mr")
    stored = nibabel.load(folder / "t2" / "t2_seg-manual.nii.gz")
    assert nibabel.aff2axcodes(stored.affine) == ("P", "S", "R")
    record = next(
        r for r in read(card_of("sct_spinalcord_mr"), folder, "real") if r.subject == "t2"
    )
    np.testing.assert_array_equal(
        record.semantic, np.asarray(stored.dataobj)[:, :, record.slice].T[::-1]
    )  # feet down, nose to the left


def test_both_contrasts_of_a_patient_share_labels_and_subject(shared_data):
    folder = extract(shared_data, "brats2015_deepmedic")
    records = list(read(card_of("brats2015_deepmedic"), folder, "real"))
    flair, t1c = ([r for r in records if f"-{tag}-" in r.key] for tag in ("flair", "t1c"))
    assert len(flair) == len(t1c) == 12 and {r.subject for r in records} == {"brats_2013_pat0006_1"}
    for a, b in zip(flair, t1c):
        np.testing.assert_array_equal(a.semantic, b.semantic)
        assert a.slice == b.slice and (a.image != b.image).any()


def test_an_undeclared_organ_is_named_with_its_slice(shared_data):
    folder = extract(shared_data, "totalseg_example")
    card = load_card(card_of("totalseg_example"))
    card.classes.pop(4)
    with pytest.raises(DataError) as error:
        list(read(card, folder, "real"))
    message = str(error.value)
    labels = np.asarray(
        nibabel.load(folder / "tests" / "reference_files" / "example_seg.nii.gz").dataobj
    )
    first = np.flatnonzero((labels == 4).any((0, 1)))[0]
    assert (
        "example_seg.nii.gz" in message
        and f"first in axial slice {first}" in message
        and "Declare 4 under values" in message
    )


def test_masks_of_another_contrast_are_refused(shared_data):
    folder = extract(shared_data, "sct_spinalcord_mr")
    card = load_card(card_of("sct_spinalcord_mr"))
    card.read = [
        card.read[0]
        | {
            "masks": r"re:(?P<id>t)2/t2_seg-manual\.nii\.gz",
            "images": r"re:(?P<id>t)1/t1w\.nii\.gz",
        }
    ]
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card, folder, "real"))
