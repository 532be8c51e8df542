"Volumes through a card: slices, orientation, spacing, and what is refused."

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from taco.base import DataError
from taco.data.find import read
from tests.data.made import BY_SUBJECT, CARD, CLASSES, disc, make_card, told

VOLUMES = '\n[[read]]\nreader = "volumes"\nimages = "img/*.nii.gz"\nmasks = "lab/*.nii.gz"\nwindow = [0, 100]\n'


def write_volume(
    root: Path, name: str = "v1", affine=None, values=None, mask_affine=None
) -> tuple[np.ndarray, np.ndarray]:
    affine = np.diag([1.0, 1.5, 3.0, 1.0]) if affine is None else affine
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 24, 10), np.int16)
    labels[4:12, 5:15, 3:7] = 1
    voxels = (labels * 60 + rng.integers(0, 20, labels.shape)).astype(np.float32)
    for folder, array, place in (
        ("img", values if values is not None else voxels, affine),
        ("lab", labels, affine if mask_affine is None else mask_affine),
    ):
        (root / "toy" / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, place), root / "toy" / folder / f"{name}.nii.gz")
    return voxels, labels


def test_volumes_slices_orientation_and_spacing(tmp_path):
    voxels, labels = write_volume(tmp_path)
    card = make_card(tmp_path, CARD + CLASSES + VOLUMES + BY_SUBJECT)
    records = list(read(card, tmp_path))
    assert (
        [r.slice for r in records] == [3, 4, 5, 6]
        and {r.subject for r in records} == {"v1"}
        and {r.split for r in records} == {"train"}
    )
    assert records[0].spacing == (1.5, 1.0)
    np.testing.assert_array_equal(records[1].semantic, labels[:, :, 4].T[::-1, ::-1])
    np.testing.assert_allclose(
        records[1].image[0], voxels[:, :, 4].T[::-1, ::-1].clip(0, 100) / 100, rtol=1e-5
    )
    # the same body stored from right to left and from feet to head gives the same pictures
    flipped = np.diag([-1.0, 1.5, 3.0, 1.0])
    flipped[0, 3] = 19
    write_volume(tmp_path, values=voxels[::-1].copy(), affine=flipped)
    nibabel.save(
        nibabel.Nifti1Image(labels[::-1].copy(), flipped), tmp_path / "toy" / "lab" / "v1.nii.gz"
    )
    for a, b in zip(records, read(card, tmp_path)):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.semantic, b.semantic)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("elsewhere", ("v1.nii.gz", "mask", "lie")),
        ("four dimensions", ("v1.nii.gz", "frame")),
        ("nan", ("v1.nii.gz", "NaN")),
        ("truncated", ("v1.nii.gz", "NIfTI")),
        ("no mask", ("v1.nii.gz", "mask")),
    ],
)
def test_bad_volumes(tmp_path, fault, words):
    voxels, _ = write_volume(tmp_path)
    path = tmp_path / "toy" / "img" / "v1.nii.gz"
    if fault == "elsewhere":
        write_volume(tmp_path, mask_affine=np.diag([1.0, 1.5, 3.5, 1.0]))
    elif fault == "four dimensions":
        write_volume(tmp_path, values=np.stack([voxels] * 3, -1))
    elif fault == "nan":
        voxels[0, 0, 0] = np.nan
        write_volume(tmp_path, values=voxels)
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    else:
        (tmp_path / "toy" / "lab" / "v1.nii.gz").unlink()
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, CARD + CLASSES + VOLUMES + BY_SUBJECT), tmp_path))
    told(error, *words)


def test_a_frame_of_four_dimensions_and_a_stack_of_pages(tmp_path):
    voxels, labels = write_volume(tmp_path)
    write_volume(tmp_path, values=np.stack([voxels * 0, voxels], -1))
    card = make_card(tmp_path, CARD + CLASSES + VOLUMES + "frame = 1\n" + BY_SUBJECT)
    np.testing.assert_allclose(
        next(read(card, tmp_path)).image[0],
        voxels[:, :, 3].T[::-1, ::-1].clip(0, 100) / 100,
        rtol=1e-5,
    )

    pages = np.stack([disc(n)[0] for n in range(4)])
    masks = np.stack([disc(n)[1] for n in range(4)])
    tifffile.imwrite(tmp_path / "toy" / "a-volume.tif", pages, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "toy" / "a-labels.tif", (masks * 255).astype(np.uint8), photometric="minisblack"
    )
    text = (
        CARD
        + CLASSES
        + '\n[[read]]\nreader = "volumes"\nimages = "*-volume.tif"\nmasks = "*-labels.tif"\nvalues = {0 = 0, 255 = 1}\n'
        + BY_SUBJECT
    )
    records = list(read(make_card(tmp_path, text), tmp_path))
    assert [r.slice for r in records] == [0, 1, 2, 3] and records[0].spacing is None
    np.testing.assert_array_equal(records[2].semantic, masks[2])
    np.testing.assert_allclose(records[2].image[0], pages[2] / 255, rtol=1e-6)
