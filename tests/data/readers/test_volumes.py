"Volumes through a card: slices, orientation, spacing, and what is refused."

import json
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import CardError, DataError
from taco.data.find import read
from taco.data.readers.catalogue import READERS
from taco.data.readers.source import Source, example_card
from tests.data.made import BY_SUBJECT, CARD, CLASSES, disc, make_card, told
from tests.data.readers.bodies import refused

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


# What files and cards say together.


def toy(text: str, classes=("organ", "lesion"), **more) -> object:
    return example_card(text, classes, **more)


def of(card, root) -> list:
    source = Source(card, card.read[0], root)
    return [r for item in READERS[card.read[0]["reader"]].items(source) for r in item.load()]


def table(**options) -> str:
    lines = {
        "reader": "volumes",
        "images": "*_image.nii",
        "masks": "*_label.nii",
        "slices": "all",
    } | options
    return "[[read]]\n" + "\n".join(
        f"{k} = {json.dumps(v) if not isinstance(v, dict) else inline(v)}"
        for k, v in lines.items()
        if v is not None
    )


def inline(values: dict) -> str:
    return "{" + ", ".join(f'"{k}" = {json.dumps(v)}' for k, v in values.items()) + "}"


def save(root, name: str, voxels, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), root / name)


GREY = np.random.default_rng(0).integers(0, 100, (16, 16, 4)).astype(np.int16)


def shown(labels) -> list:
    "The slices as view_slice draws them."
    return [labels[:, :, k].T[::-1, ::-1] for k in range(labels.shape[2])]


@pytest.mark.parametrize("outside", [np.nan, 0.3])
@pytest.mark.parametrize("masks", ["*_label.nii", {"1": "*_label.nii"}])
def test_nan_and_soft_edges_are_no_foreground(tmp_path, outside, masks):
    labels = np.full(GREY.shape, outside, np.float32)
    labels[4:8, 4:8] = 1
    save(tmp_path, "a_image.nii", GREY)
    save(tmp_path, "a_label.nii", labels)
    with pytest.raises(DataError) as error:
        of(toy(table(masks=masks)), tmp_path)
    soft = "whole numbers" if isinstance(masks, str) else "0 and one other value"
    said = "not numbers" if np.isnan(outside) else soft
    refused(error, "a_label.nii", said, "threshold")
    records = of(toy(table(masks=masks, threshold=0.5)), tmp_path)  # the fix
    assert sum(int(r.semantic.sum()) for r in records) == 64


@pytest.mark.parametrize("more", [{}, {"tolerance": 0.01}])
def test_labels_kept_as_bytes_with_a_slope(tmp_path, more):
    labels = np.zeros(GREY.shape, np.float64)
    for value in (1, 2, 3):
        labels[2 * value : 2 * value + 2, 4:8] = value
    image = nibabel.Nifti1Image(labels, np.eye(4))
    image.header.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "a_label.nii")
    assert (
        0
        < np.abs(np.asanyarray(nibabel.load(tmp_path / "a_label.nii").dataobj) - labels).max()
        < 1e-6
    )
    save(tmp_path, "a_image.nii", GREY)
    records = of(toy(table(**more), ("a", "b", "c")), tmp_path)
    for record, wanted in zip(records, shown(labels)):
        np.testing.assert_array_equal(record.semantic, wanted)


def test_threshold_of_masks_of_one_class(tmp_path):
    labels = np.zeros(GREY.shape, np.uint8)
    labels[4:8, 4:8], labels[8:10, 4:8] = 255, 60
    save(tmp_path, "a_image.nii", GREY)
    save(tmp_path, "a_label.nii", labels)
    count = lambda **more: sum(
        int((r.semantic == 2).sum())
        for r in of(toy(table(masks={"2": "*_label.nii"}, **more)), tmp_path)
    )
    assert count(threshold=127) == 64 and count(threshold=50) == 96


def test_healthy_volumes(tmp_path):
    labels = np.zeros(GREY.shape, np.uint8)
    save(tmp_path, "well_image.nii", GREY)
    save(tmp_path, "well_label.nii", labels)
    labels[4:9, 4:9, 2] = 1
    save(tmp_path, "ill_image.nii", GREY)
    save(tmp_path, "ill_label.nii", labels)
    keys = lambda **more: [r.key for r in of(toy(table(slices="foreground", **more)), tmp_path)]
    assert keys() == ["ill-002", "well-000", "well-001", "well-002", "well-003"]
    assert keys(number=1) == ["ill-002", "well-000"]
    assert keys(every=3) == ["ill-002", "well-000", "well-003"]
    assert keys(healthy="skip") == ["ill-002"]


def test_volumes_without_labels(tmp_path):
    for name in ("a_image.nii", "a_label.nii", "b_image.nii"):
        save(tmp_path, name, (GREY > 50).astype(np.uint8))
    read = lambda masks="*_label.nii", **more: of(toy(table(masks=masks, **more)), tmp_path)
    with pytest.raises(DataError) as error:
        read()
    refused(error, "b_image.nii", "unlabelled")
    for masks in ("*_label.nii", {"1": "*_label.nii"}):
        kept = {r.key: r.semantic for r in read(masks, unlabelled="keep")}
        assert kept["b-000"] is None and kept["a-000"].any() and len(kept) == 8
        empty = {r.key: r.semantic for r in read(masks, unlabelled="empty")}
        assert not empty["b-000"].any() and len(empty) == 8
        assert {r.key[0] for r in read(masks, unlabelled="skip")} == {"a"}


def test_spacing_of_the_card_and_of_the_file(tmp_path):
    save(tmp_path, "a_image.nii", GREY, np.diag([0.5, 0.75, 3, 1]))
    read = lambda **more: of(toy(table(masks=None, **more)), tmp_path)[0].spacing
    assert read() == read(spacing=[0.5, 0.75, 3]) == (0.75, 0.5)
    with pytest.raises(DataError) as error:
        read(spacing=[0.5, 0.5, 3])
    refused(error, "a_image.nii", "spacing", "Take spacing out of toy.toml")
    for wrong in ([0, 1, 1], [1, 1], "size", [1, -1, 1]):
        with pytest.raises(CardError):
            read(spacing=wrong)
    tifffile.imwrite(
        tmp_path / "b.tif", GREY.astype(np.uint8), resolution=(2, 1), photometric="minisblack"
    )
    stack = lambda **more: of(toy(table(images="*.tif", masks=None, **more)), tmp_path)[0].spacing
    with pytest.raises(DataError) as error:
        stack()
    refused(error, "b.tif", "not square", "Declare spacing")
    assert stack(spacing=[1, 2, 5]) == (2, 1)


def test_one_slice_is_shown_in_the_plane_it_has(tmp_path):
    plane = np.arange(20 * 24, dtype=np.int16).reshape(20, 24)
    standing = np.array([[0.5, 0, 0, 0], [0, 0, 3.0, 0], [0, 0.75, 0, 0], [0, 0, 0, 1]])
    save(tmp_path, "a_image.nii", plane, np.diag([0.5, 0.75, 1, 1]))
    save(tmp_path, "b_image.nii", plane[..., None], standing)
    flat, upright = of(toy(table(masks=None, window=[0, 479])), tmp_path)
    for record in (flat, upright):
        np.testing.assert_allclose(record.image[0] * 479, plane.T[::-1, ::-1], atol=1e-3)
        assert record.spacing == (0.75, 0.5) and record.slice == 0
    assert flat.attributes == {} and upright.attributes == {"slice_mm": 3.0}
    with pytest.raises(DataError) as error:
        of(toy(table(masks=None, images="b_*.nii", axis="axial")), tmp_path)
    refused(error, "b_image.nii", "one slice", "coronal")
    assert of(toy(table(masks=None, images="b_*.nii", axis="acquired")), tmp_path)[
        0
    ].image.shape == (1, 24, 20)


def test_a_tilted_gantry_and_a_sheared_picture(tmp_path):
    tilted = np.diag([1.0, 1, 3, 1])
    tilted[1, 2] = 1.0  # each slice lies a little further to the front
    save(tmp_path, "a_image.nii", GREY, tilted)
    assert len(of(toy(table(masks=None)), tmp_path)) == 4
    with pytest.raises(DataError) as error:
        of(toy(table(masks=None, axis="sagittal")), tmp_path)
    refused(error, "a_image.nii", "right angles")


SLICER = {
    "space": "left-posterior-superior",
    "space directions": np.diag([-1.0, -1, 1]),
    "space origin": [0, 0, 0],
}


def segmented(root, layers: int = 1, names=("organ", "lesion")) -> tuple:
    "An image and its .seg.nrrd; the lesion lies within the organ, with value 1, the organ has 2 (or 1 on layer 0)."
    organ, lesion = np.zeros((2, *GREY.shape), np.uint8)
    organ[2:12, 2:12], lesion[4:6, 4:6] = 1, 1
    values = (2, 1) if layers == 1 else (1, 1)
    header = {}
    for n, (name, value) in enumerate(zip(names, values)):
        header |= {
            f"Segment{n}_Name": name,
            f"Segment{n}_LabelValue": str(value),
            f"Segment{n}_Layer": str(n if layers > 1 else 0),
        }
    nrrd.write(str(root / "a_image.nrrd"), GREY, SLICER)
    if layers == 1:
        nrrd.write(
            str(root / "a.seg.nrrd"),
            np.where(lesion, 1, organ * 2).astype(np.uint8),
            SLICER | header,
        )
    else:
        steps = np.vstack([np.full(3, np.nan), SLICER["space directions"]])
        kinds = {"kinds": ["list"] + ["domain"] * 3, "space directions": steps}
        nrrd.write(str(root / "a.seg.nrrd"), np.stack([organ, lesion]), SLICER | kinds | header)
    return organ, lesion


def test_segments_are_read_by_their_names(tmp_path):
    read = lambda **more: of(
        toy(table(images="*_image.nrrd", masks="*.seg.nrrd", **more)), tmp_path
    )
    for layers in (1, 2):
        organ, lesion = segmented(tmp_path, layers)
        with pytest.raises(DataError) as error:
            read()
        refused(error, "a.seg.nrrd", "segments", '"organ" = 1, "lesion" = 2')
        for record, wanted in zip(
            read(segments={"organ": 1, "lesion": 2}), shown(np.where(lesion, 2, organ))
        ):
            np.testing.assert_array_equal(record.semantic, wanted)
        left_out = read(
            segments={"Organ": 2, "lesion": 0}
        )  # what lies below shows through, where it has a layer
        assert int(left_out[0].semantic.sum()) == 2 * (96 if layers == 1 else 100)
        with pytest.raises(DataError) as error:
            read(segments={"organ": 1})
        refused(error, "a.seg.nrrd", "lesion")
    segmented(
        tmp_path, 1, ("left", "right")
    )  # names that the card does not have: values are classes
    assert sorted(np.unique(read()[0].semantic)) == [0, 1, 2]
    save(tmp_path, "b_image.nii", GREY)
    save(tmp_path, "b_label.nii", (GREY > 50).astype(np.uint8))
    with pytest.raises(DataError) as error:
        of(toy(table(segments={"organ": 1})), tmp_path)
    refused(error, "b_label.nii", "lists no segments")


def test_series_and_channels_of_stacks(tmp_path):
    stack = GREY.astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a_image.tif") as file:
        for part in (stack, 255 - stack):
            file.write(part, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "b_image.tif",
        np.stack([stack, 255 - stack], 1),
        imagej=True,
        metadata={"axes": "ZCYX"},
    )
    read = lambda name, **more: of(
        toy(table(images=f"{name}_image.tif", masks=None, window=[0, 255], **more)), tmp_path
    )
    for name, option in (("a", "series"), ("b", "channel")):
        with pytest.raises(DataError) as error:
            read(name)
        refused(error, f"{name}_image.tif", option)
        for n, wanted in enumerate((stack, 255 - stack)):
            np.testing.assert_allclose(
                read(name, **{option: n})[5].image[0] * 255, wanted[5], atol=1e-3
            )


PAGES = np.random.default_rng(0).integers(0, 255, (12, 20, 24)).astype(np.uint8)


def sliced(root, first: int = 1, step: int = 1, name: str = "p1/img_{}.png", pages=PAGES):
    for k, page in enumerate(pages):
        path = root / name.format(first + k * step)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(page).save(path)


def stack_table(**more) -> str:
    return table(
        **{"images": "*/img_*.png", "masks": "*/seg_*.png", "stack": True, "window": [0, 255]}
        | more
    )


@pytest.mark.parametrize("first, step", [(1, 1), (0, 1), (98, 1), (10, 5)])
def test_a_file_a_slice(tmp_path, first, step):
    labels = (PAGES > 128).astype(np.uint8)
    sliced(tmp_path, first, step)
    sliced(tmp_path, first, step, "p1/seg_{}.png", labels)
    records = of(toy(stack_table(spacing=[0.5, 0.75, 3])), tmp_path)
    assert [r.key for r in records] == [f"p1-{k:03d}" for k in range(12)] and [
        r.slice for r in records
    ] == list(range(12))
    for k, record in enumerate(records):  # 2 before 10
        np.testing.assert_allclose(record.image[0] * 255, PAGES[k], atol=1e-3)
        np.testing.assert_array_equal(record.semantic, labels[k])
    assert records[0].spacing == (0.75, 0.5) and records[0].attributes == {"slice_mm": 3.0}
    coronal = of(toy(stack_table(axis="coronal")), tmp_path)
    assert coronal[0].image.shape == (1, 12, 24)
    assert [r.slice for r in of(toy(stack_table(every=5)), tmp_path)] == [0, 5, 10]


def test_a_file_a_slice_by_groups_classes_and_values(tmp_path):
    for name in ("p1", "p2"):
        sliced(tmp_path, 1, 1, name + "_s{}_img.tif")
        sliced(tmp_path, 1, 1, name + "_s{}_one.png", (PAGES > 200) * np.uint8(255))
        sliced(tmp_path, 1, 1, name + "_s{}_two.png", (PAGES < 50) * np.uint8(255))
    text = stack_table(
        images=r"re:(?P<id>p\d)_s(?P<slice>\d+)_img\.tif",
        masks={
            "1": r"re:(?P<id>p\d)_s(?P<slice>\d+)_one\.png",
            "2": r"re:(?P<id>p\d)_s(?P<slice>\d+)_two\.png",
        },
    )
    records = of(toy(text), tmp_path)
    assert len(records) == 24 and {r.key[:2] for r in records} == {"p1", "p2"}
    np.testing.assert_array_equal(records[3].semantic, np.where(PAGES[3] < 50, 2, PAGES[3] > 200))
    one = stack_table(images="*_s*_img.tif", masks="*_s*_one.png")
    with pytest.raises(DataError):
        of(toy(one), tmp_path)
    values = of(toy(one + "\nvalues = {0 = 0, 255 = 2}"), tmp_path)
    np.testing.assert_array_equal(values[14].semantic, (PAGES[2] > 200) * 2)
    high = of(toy(one + "\nthreshold = 254"), tmp_path)
    np.testing.assert_array_equal(high[14].semantic, PAGES[2] > 200)


def test_stacks_with_holes_doubles_and_other_sizes(tmp_path):
    def said(error_type, *words, **more):
        with pytest.raises(error_type) as error:
            of(toy(stack_table(**more)), tmp_path)
        refused(error, *words)

    sliced(tmp_path)
    sliced(tmp_path, name="p1/seg_{}.png", pages=(PAGES > 9).astype(np.uint8))
    (tmp_path / "p1/seg_5.png").unlink()
    said(DataError, "other numbers", "5")
    (tmp_path / "p1/img_5.png").unlink()
    said(DataError, "img_1.png", "missing", "1, 2, 3, 4, 6", "steps of 1")
    Image.fromarray(PAGES[4]).save(tmp_path / "p1/img_5.png")
    said(DataError, "other numbers", masks="*/seg_*.png")
    Image.fromarray((PAGES[4] > 9).astype(np.uint8)).save(tmp_path / "p1/seg_5.png")
    assert len(of(toy(stack_table()), tmp_path)) == 12
    Image.fromarray(PAGES[4]).save(tmp_path / "p1/img_05.png")
    said(CardError, "toy.toml", "twice", "img_05.png")
    (tmp_path / "p1/img_05.png").unlink()
    Image.fromarray(PAGES[0, :9]).save(tmp_path / "p1/img_5.png")
    said(DataError, "several sizes", "(9, 24) uint8")
    Image.fromarray(PAGES[4].astype(np.uint16)).save(tmp_path / "p1/img_5.png")
    said(DataError, "several sizes or types")
    Image.fromarray(np.stack([PAGES[4], PAGES[4] // 2, PAGES[4]], -1)).save(
        tmp_path / "p1/img_5.png"
    )
    said(DataError, "img_5.png", "grey")
    Image.fromarray(PAGES[4]).save(tmp_path / "p1/img_x.png")
    said(CardError, "no number", "img_x.png")


def test_stacks_without_masks_and_masks_without_stacks(tmp_path):
    sliced(tmp_path)
    for word, wanted in (("keep", None), ("empty", 0)):
        found = of(toy(stack_table(unlabelled=word)), tmp_path)
        assert len(found) == 12 and (found[0].semantic is None) == (wanted is None)
    assert of(toy(stack_table(unlabelled="skip")), tmp_path) == []
    assert len(of(toy(stack_table(masks=None)), tmp_path)) == 12
    with pytest.raises(DataError, match="label volume of an image is missing"):
        of(toy(stack_table()), tmp_path)
    sliced(tmp_path, name="p1/seg_{}.png", pages=(PAGES > 9).astype(np.uint8))
    sliced(tmp_path, name="p2/seg_{}.png", pages=(PAGES > 9).astype(np.uint8))
    with pytest.raises(DataError, match="image of a mask is missing"):
        of(toy(stack_table()), tmp_path)


def test_image_and_label_that_say_their_place_in_other_ways(tmp_path):
    "The same grid from two sides; a sform beside a qform that differs; a qform here and a sform there."
    image = np.random.default_rng(0).integers(-1000, 300, (10, 12, 6)).astype(np.int16)
    image[2:5, 3:9, 1:4] = 2000
    labels = (image == 2000).astype(np.uint8)
    affine = np.diag([-0.8, 0.9, 3, 1.0])
    affine[:3, 3] = 50, -60, 7
    other = affine.copy()
    other[:3, 1] *= -1
    other[:3, 3] += affine[:3, 1] * 11
    save(tmp_path, "a_image.nii", image, affine)
    save(tmp_path, "a_label.nii", labels[:, ::-1].astype(np.int32), other)
    reversed_x = affine.copy()
    reversed_x[0] *= -1
    both = nibabel.Nifti1Image(image, affine)
    both.set_sform(affine, 1)
    both.set_qform(reversed_x, 1)
    nibabel.save(both, tmp_path / "b_image.nii")
    save(tmp_path, "b_label.nii", labels.astype(np.float64), affine)
    records = of(toy(table(window=[-1000, 2000])), tmp_path)
    assert len(records) == 12
    for record in records:
        np.testing.assert_array_equal(record.image[0] == 1, record.semantic == 1)
        np.testing.assert_allclose(record.spacing, (0.9, 0.8), rtol=1e-6)
    both.set_sform(None, 0)
    nibabel.save(both, tmp_path / "b_image.nii")
    with pytest.raises(DataError) as error:
        of(toy(table(window=[-1000, 2000])), tmp_path)
    refused(error, "b_label.nii", "does not lie on its image", "92.8 mm off")


def test_values_of_masks_of_one_class(tmp_path):
    "Which numbers of a mask are its class; others are undeclared, and said so."
    labels = np.zeros(GREY.shape, np.uint8)
    labels[4:8, 4:8], labels[8:10, 4:8] = 7, 9
    save(tmp_path, "a_image.nii", GREY)
    save(tmp_path, "a_label.nii", labels)
    read = lambda **more: of(toy(table(masks={"2": "*_label.nii"}, **more)), tmp_path)
    with pytest.raises(DataError) as error:
        read()
    refused(error, "a_label.nii", "0, 7, 9", "values")
    assert sum(int((r.semantic == 2).sum()) for r in read(threshold=4)) == 96  # the fix
    values = {"0": 0, "7": 1, "9": 0}
    assert sum(int((r.semantic == 2).sum()) for r in read(values=values)) == 64
    with pytest.raises(DataError) as error:
        read(values={"0": 0, "7": 1})
    refused(error, "a_label.nii", "9")
    assert (
        sum(int((r.semantic == 2).sum()) for r in read(values={"0": 0, "8": 1}, tolerance=1)) == 96
    )
