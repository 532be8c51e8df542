"From volumes to records: planes, frames, slices, labels, and shipped cards on files of the published names."

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from taco.base import CardError, DataError
from taco.data.card import list_cards, load_card
from taco.data.find import check_readers, find, read
from taco.data.prepare import fit_square
from taco.data.record import Record
from tests.data.readers.bodies import (
    AFFINE,
    META,
    body,
    card,
    refused,
    volume_card,
    write_pair,
)


def test_planes_by_name_and_by_number(tmp_path):
    image, labels = write_pair(tmp_path)
    for plane, axis, cut in (
        ("sagittal", 0, lambda a: a[2, :, :]),
        ("coronal", 1, lambda a: a[:, 3, :]),
        ("axial", 2, lambda a: a[:, :, 2]),
    ):
        for name in (f'"{plane}"', axis):
            record = next(
                r
                for r in read(card(volume_card(axis=name, window="[0, 1000]")), tmp_path, "real")
                if r.slice == (2, 3, 2)[axis]
            )
            np.testing.assert_array_equal(record.semantic, cut(labels).T[::-1, ::-1])
            np.testing.assert_allclose(record.image[0], cut(image).T[::-1, ::-1] / 1000, atol=1e-6)
    assert record.spacing == (0.75, 0.5)
    for wrong, words in (
        ({"axis": '"saggital"'}, ("toy.toml", "Did you mean 'sagittal'")),
        ({"every": 0}, ("toy.toml", "every")),
        ({"spacing": "[1, 2]"}, ("toy.toml", "read.spacing")),
    ):
        with pytest.raises((DataError, CardError)) as error:
            list(read(card(volume_card(**wrong)), tmp_path, "real"))
        refused(error, *words)


@pytest.mark.parametrize("fit", ["cover", "contain"])
def test_a_ball_stays_round_in_every_plane(fit):
    y, x = np.mgrid[-19:20:2.5, -30:31]  # rows 2.5 mm apart, columns 1 mm
    ball = x**2 + y**2 < 225
    record = Record(ball[None].astype(np.float32), ball.astype(np.uint8), spacing=(2.5, 1.0))
    square = fit_square(record, 60, fit).semantic
    height, width = (
        np.ptp(np.flatnonzero(square.any(1))) + 1,
        np.ptp(np.flatnonzero(square.any(0))) + 1,
    )
    assert abs(height - width) <= 0.1 * width


def test_frames(tmp_path):
    image, labels = body(), np.ones((6, 8, 5), np.uint8)
    write_pair(tmp_path, image=np.stack([image, image + 1, image + 2], -1), labels=labels)
    with pytest.raises(DataError) as error:
        list(read(card(volume_card()), tmp_path, "real"))
    refused(error, "a_image.nii.gz", "frame", "0 … 2")
    records = list(read(card(volume_card(frame='"all"', window="[0, 1000]")), tmp_path, "real"))
    assert [r.key for r in records][::5] == ["a-t00-000", "a-t01-000", "a-t02-000"] and {
        r.subject for r in records
    } == {"a"}
    keys = [r.key for r in read(card(volume_card(frame="[2]")), tmp_path, "real")]
    assert keys[0] == "a-000"
    write_pair(
        tmp_path, image=np.stack([image] * 3, -1), labels=np.stack([labels, labels * 2, labels], -1)
    )
    records = list(read(card(volume_card(frame="[0, 1]")), tmp_path, "real"))
    assert {r.key[:5]: int(r.semantic.max()) for r in records} == {"a-t00": 1, "a-t01": 2}
    write_pair(tmp_path, image=np.stack([image] * 3, -1), labels=np.stack([labels] * 2, -1))
    with pytest.raises(DataError, match="other frames"):
        list(read(card(volume_card(frame="0")), tmp_path, "real"))


def test_slices_that_a_card_asks_for(tmp_path):
    write_pair(tmp_path)
    keys = lambda **options: [r.slice for r in read(card(volume_card(**options)), tmp_path, "real")]
    assert (
        keys() == [1, 2, 3]
        and keys(slices='"all"') == [0, 1, 2, 3, 4]
        and keys(slices='"all"', every=2) == [0, 2, 4]
    )
    assert (
        keys(slices="[4, 2]") == [4, 2]
        and keys(number=2) == [1, 3]
        and keys(slices='"all"', masks=None) == [0, 1, 2, 3, 4]
    )
    for wrong, file in (("[9]", "a_image.nii.gz"), ('"foregruond"', "toy.toml")):
        with pytest.raises((DataError, CardError)) as error:
            keys(slices=wrong)
        refused(error, file, "slices")


def test_a_file_for_every_structure(tmp_path):
    image = body()
    organ, lesion = np.zeros((2, 6, 8, 5), np.uint8)
    organ[1:5, 1:6], lesion[2:4, 2:4] = 1, 1
    for name, structures in {
        "s1": {"organ": organ, "lesion": lesion},
        "s2": {"organ": organ},
    }.items():
        (tmp_path / name / "segmentations").mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / name / "ct.nii.gz")
        for structure, mask in structures.items():
            nibabel.save(
                nibabel.Nifti1Image(mask, AFFINE),
                tmp_path / name / "segmentations" / f"{structure}.nii.gz",
            )
    text = (
        'reader = "volumes"\nimages = "*/ct.nii.gz"\n[read.masks]\n'
        '1 = "*/segmentations/organ.nii.gz"\n2 = "*/segmentations/lesion.nii.gz"'
    )
    records = list(read(card(text), tmp_path, "real"))
    both = {r.subject: r.semantic for r in records if r.slice == 0}
    np.testing.assert_array_equal(both["s1"], np.where(lesion, 2, organ)[:, :, 0].T[::-1, ::-1])
    assert both["s2"].max() == 1
    for path in (tmp_path / "s2" / "segmentations").iterdir():
        path.unlink()
    with pytest.raises(DataError) as error:
        list(read(card(text), tmp_path, "real"))
    refused(error, "s2", "label volume of an image is missing")


def test_labels_that_do_not_fit(tmp_path):
    labels = np.zeros((6, 8, 5), np.int16)
    labels[2:5, 2:5, 1:4] = 500
    labels[3, 3, 2] = 421
    text = volume_card(values="{0 = 0, 500 = 1}")
    write_pair(tmp_path, labels=labels)
    with pytest.raises(DataError) as error:
        list(read(card(text), tmp_path, "real"))
    refused(
        error,
        "a_label.nii.gz",
        "0, 421, 500; first in axial slice 2",
        "500→1 (organ)",
        "Declare 421",
    )
    labels[3, 3, 2] = 500
    write_pair(tmp_path, labels=labels)
    assert {int(r.semantic.max()) for r in read(card(text), tmp_path, "real")} == {1}
    tilted = AFFINE.copy()
    tilted[0, 2] = (
        1.0  # same origin, same voxel sizes to a few per cent: the far corner is 4 mm off
    )
    for affine in (np.diag([0.5, 0.75, 3.5, 1.0]), tilted):
        write_pair(tmp_path, labels=labels, label_affine=affine)
        with pytest.raises(DataError) as error:
            list(read(card(text), tmp_path, "real"))
        refused(error, "a_label.nii.gz", "does not lie on its image", "mm off", "Resample")
    write_pair(tmp_path, labels=labels[:, :, :4])
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card(text), tmp_path, "real"))


def test_one_subject_in_several_tables_stays_in_one_split(tmp_path):
    for name in "abcd":
        write_pair(tmp_path, name)
    tables = "\n[[read]]\n".join(
        volume_card(axis=f'"{plane}"', tag=f'"{plane}"') for plane in ("axial", "coronal")
    )
    records = list(read(card(tables), tmp_path, "real"))
    splits = {}
    for record in records:
        splits.setdefault(record.subject, set()).add(record.split)
    assert sorted(splits) == list("abcd") and all(len(s) == 1 for s in splits.values())
    assert len({r.key for r in records}) == len(records)


PUBLISHED = {
    "mmwhs": (
        [
            "ct_train_1001_image.nii.gz",
            "ct_train_1001_label.nii.gz",
            "mr_train_1001_image.nii.gz",
            "mr_train_1001_label.nii.gz",
        ],
        [205, 420, 500, 550, 600, 820, 850],
        2,
    ),
    "acdc": (
        [
            "training/patient001/patient001_frame01.nii.gz",
            "training/patient001/patient001_frame01_gt.nii.gz",
            "training/patient001/patient001_4d.nii.gz",
            "training/patient001/patient001_frame12.nii.gz",
            "training/patient001/patient001_frame12_gt.nii.gz",
        ],
        [1, 2, 3],
        1,
    ),
    "hvsmr": (
        [
            "cropped/pat0_cropped.nii.gz",
            "cropped/pat0_cropped_seg.nii.gz",
            "cropped/pat0_cropped_norm.nii.gz",
            "cropped/pat0_cropped_seg_endpoints.nii.gz",
        ],
        [1, 2, 3, 4, 5, 6, 7, 8],
        1,
    ),
    "promise12": (
        [
            "TrainingData_Part1/Case00.mhd",
            "TrainingData_Part1/Case00_segmentation.mhd",
            "TrainingData_Part1/Case01.mhd",
            "TrainingData_Part1/Case01_segmentation.mhd",
        ],
        [1],
        2,
    ),
}


def write_published(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = body()
    if any(word in path.name for word in ("label", "_gt", "seg")):
        voxels = np.resize(np.array([0, *values], np.int16), voxels.shape)
    if path.suffix == ".mhd":
        path.write_text(META + f"ElementDataFile = {path.stem}.raw\n")
        path.with_suffix(".raw").write_bytes(voxels.tobytes("F"))
    else:
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_cards_read_the_published_names(tmp_path, name):
    files, values, subjects = PUBLISHED[name]
    for file in files:
        write_published(tmp_path / name / file, values)
    found = find(name, tmp_path)
    assert found.source == "real" and len({i.subject for i in found.items}) == subjects
    records = list(read(name, tmp_path))
    assert set(np.unique([r.semantic.max() for r in records])) <= set(load_card(name).classes)
    assert {v for r in records for v in np.unique(r.semantic).tolist()} == {
        0,
        *load_card(name).classes,
    }


@pytest.mark.parametrize(
    "name, parts, spacing",
    [
        ("epfl", {"training": "train", "testing": "test"}, 5e-6),
        ("isbi2012", {"train": "train"}, 4e-6),
    ],
)
def test_stacks_of_electron_micrographs_by_their_published_names(tmp_path, name, parts, spacing):
    pages = np.random.default_rng(0).integers(0, 255, (6, 20, 30)).astype(np.uint8)
    masks = (pages > 100).astype(np.uint8) * 255
    (tmp_path / name).mkdir()
    for part in parts:
        image, label = (
            (f"{part}.tif", f"{part}_groundtruth.tif")
            if name == "epfl"
            else ("train-volume.tif", "train-labels.tif")
        )
        shown = pages + (part == "testing")  # other pictures than those of the training
        tifffile.imwrite(tmp_path / name / image, shown, photometric="minisblack")
        tifffile.imwrite(tmp_path / name / label, masks, photometric="minisblack")
    records = list(read(name, tmp_path))
    assert {r.split for r in records} == set(parts.values()) and records[0].spacing == (
        spacing,
        spacing,
    )
    wanted = masks[records[0].slice] == (
        255 if name == "epfl" else 0
    )  # mitochondria are white, membranes black
    np.testing.assert_array_equal(records[0].semantic, wanted)


def test_every_shipped_card_has_options_that_its_reader_knows():
    for name in list_cards():
        check_readers(load_card(name))
    with pytest.raises(CardError, match="Did you mean 'series'"):
        check_readers(card('reader = "dicom"\nimages = "*.dcm"\nserie = true', "none"))
