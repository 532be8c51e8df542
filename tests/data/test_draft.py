"A first card is written from what lies in a folder, and it works."

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from taco.base import CardError, DataError
from taco.data.card import load_card, parse_card
from taco.data.find import read
from taco.data.formats.stack import write_series
from taco.data.guess.draft import draft, write_draft
from taco.data.guess.look import varying
from taco.data.guess.names import families, parts_of
from tests.data.formats.dicoms import segmentation
from tests.data.made import coco, told, voc, yolo
from tests.data.readers import toys as toys


def picture(path: Path, seed: int = 0, shape=(40, 48)) -> None:
    toys.save(path, np.random.default_rng(seed).integers(20, 200, shape).astype(np.uint8))


def mask(path: Path, values=(0, 255), shape=(40, 48)) -> None:
    array = np.zeros(shape, np.uint8)
    for n, value in enumerate(values[1:]):
        array[10 * n + 2 : 10 * n + 9, 5:30] = value
    toys.save(path, array)


def drafted(folder: Path, modality: str = "CT"):
    "The draft of a folder, its card with a modality put in, and all records that it reads."
    made = draft(folder)
    card = parse_card(
        made.text.replace('modality = "?"', f'modality = "{modality}"'), f"{made.name}.toml"
    )
    return made, card, list(read(card, folder.parent, "real"))


NAMES = {
    "folders": ("images/{}.png", "masks/{}.png"),
    "suffix": ("{}.png", "{}_mask.png"),
    "prefix": ("img_{}.png", "label_{}.png"),
    "a folder each": ("{}/image.png", "{}/mask.png"),
    "endings": ("x/{}.bmp", "x/{}.png"),
    "deep": ("data/raw/{}.png", "data/derivatives/seg/{}_manual.png"),
}


@pytest.mark.parametrize("way", ["folders", "suffix", "endings"])
def test_dark_images_hold_as_few_values_as_labels(tmp_path, way):
    folder = tmp_path / "toy"
    for n in range(4):
        dark = np.random.default_rng(n).integers(0, 30, (40, 48)).astype(np.uint8)
        toys.save(folder / NAMES[way][0].format(f"case{n}"), dark)
        mask(folder / NAMES[way][1].format(f"case{n}"))
    _, card, records = drafted(folder)
    assert len(records) == 4 and card.annotation == ["semantic"]
    for record in records:
        assert record.semantic.sum() == 7 * 25 and record.image.max() == pytest.approx(29 / 255)


def test_masks_alone_are_no_images(tmp_path):
    for n in range(4): mask(tmp_path / f"toy/masks/case{n}.png")
    with pytest.raises(DataError) as caught: draft(tmp_path / "toy")
    told(caught, "Labels are here, but no images", "4 .png", "images beside their labels")


@pytest.mark.parametrize("way", NAMES)
@pytest.mark.parametrize("values", [(0, 255), (0, 1, 2), (0, 128, 255)])
def test_images_and_masks_however_they_are_named(tmp_path, way, values):
    folder = tmp_path / "toy"
    for n in range(4):
        picture(folder / NAMES[way][0].format(f"case{n}"), n)
        mask(folder / NAMES[way][1].format(f"case{n}"), values)
    (folder / "README.md").write_text("Ultrasound of kidneys.")
    made, card, records = drafted(folder)
    assert len(records) == 4 and card.modality == ["ultrasound"] and not made.edits
    assert set(card.classes) == set(range(1, len(values)))
    for record in records:
        assert set(np.unique(record.semantic)) == set(range(len(values)))
        assert record.semantic[5, 10] == 1


def test_a_guess_says_from_what_and_the_unknown_asks(tmp_path):
    for n in range(3):
        picture(tmp_path / f"toy/images/{n}.png", n)
        mask(tmp_path / f"toy/masks/{n}.png")
    made = draft(tmp_path / "toy")
    assert any("modality" in edit for edit in made.edits) and 'modality = "?"' in made.text
    with pytest.raises(CardError, match="modality"):
        parse_card(made.text)
    assert "values of a few masks: 0, 255" in made.text and made.text.count("EDIT") >= 7
    assert "3 items found; 3 of 3 tried could be read" in made.tried


def test_subjects_splits_and_second_opinions(tmp_path):
    folder = tmp_path / "toy"
    for split, n in (("train", 1), ("train", 2), ("train", 3), ("test", 4)):
        for side in "LR":
            picture(folder / split / f"Image_{n:02d}{side}.png", n)
            for rater in ("1st", "2nd"):
                mask(folder / split / f"Image_{n:02d}{side}_{rater}HO.png")
    made, card, records = drafted(folder)
    assert len(records) == 8 and "1stHO" in card.read[0]["masks"]
    assert {(r.subject, r.split) for r in records} == {
        (f"Image_{n:02d}", "test" if n == 4 else "train") for n in range(1, 5)
    }
    assert any("2ndHO" in doubt for doubt in made.doubts)


def test_an_object_a_file_a_class_a_file_numbered_objects_and_colours(tmp_path):
    for n in range(3):
        picture(tmp_path / f"cells/{n}a/images/x{n}.png", n)
        for k in range(4):
            cell = np.zeros((40, 48), np.uint8)
            cell[10 * k : 10 * k + 6, 4:20] = 255
            toys.save(tmp_path / f"cells/{n}a/masks/m{n}{k}.png", cell)
        picture(tmp_path / f"lungs/images/p{n}.png", n)
        for k, side in enumerate(("left", "right")):
            lung = np.zeros((40, 48), np.uint8)
            lung[5:30, 4 + 20 * k : 20 + 20 * k] = 255
            toys.save(tmp_path / f"lungs/{side}Mask/p{n}.png", lung)
        picture(tmp_path / f"teeth/images/p{n}.png", n)
        teeth = np.zeros((40, 48), np.uint8)
        for k in range(10 + n):
            teeth[5:15, 4 * k : 4 * k + 2] = k + 1
        toys.save(tmp_path / f"teeth/labels/p{n}.png", teeth)
        picture(tmp_path / f"tissue/images/p{n}.png", n)
        colours = np.zeros((40, 48, 3), np.uint8)
        colours[:9], colours[20:] = (255, 0, 0), (0, 0, 255)
        toys.save(tmp_path / f"tissue/masks/p{n}.png", colours)
    _, card, records = drafted(tmp_path / "cells")
    assert card.read[0]["reader"] == "instances" and {
        len(np.unique(r.instances)) for r in records
    } == {5}
    _, card, records = drafted(tmp_path / "lungs")
    assert (
        len(records) == 3
        and set(np.unique(records[0].semantic)) == {0, 1, 2}
        and "leftMask" in str(card.classes)
    )
    _, card, records = drafted(tmp_path / "teeth")
    assert card.read[0]["objects"] is True and sorted(
        len(np.unique(r.instances)) for r in records
    ) == [11, 12, 13]
    _, card, records = drafted(tmp_path / "tissue")
    assert set(card.read[0]["colours"]) == {"#000000", "#0000ff", "#ff0000"} and set(
        np.unique(records[0].semantic)
    ) == {0, 1, 2}


def test_volumes(tmp_path):
    labels = np.zeros((12, 14, 10), np.uint8)
    labels[2:9, 3:9, 2:8], labels[4:6, 4:6, 4:6] = 1, 2
    for n in range(3):
        image = np.random.default_rng(n).integers(-1000, 900, labels.shape).astype(np.int16)
        for kind, array in (("imagesTr", image), ("labelsTr", labels)):
            (tmp_path / "toy" / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "toy" / kind / f"liver_{n}.nii.gz"
            )
    (tmp_path / "toy/dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}})
    )
    made, card, records = drafted(tmp_path / "toy")
    assert (
        card.modality == ["CT"] and card.classes == {1: "liver", 2: "tumour"} and len(records) == 18
    )
    assert "Hounsfield" in made.text and len({r.subject for r in records}) == 3


@pytest.mark.parametrize(
    "reader, text, end",
    [
        ("voc", voc(), "xml"),
        ("yolo", yolo(), "txt"),
        ("table", "10 12 1\n30 20 2\n12 44 1\n", "txt"),
    ],
)
def test_marks_of_one_image(tmp_path, reader, text, end):
    for n in range(3):
        picture(tmp_path / f"toy/images/{n}.png", n, (60, 80))
        path = tmp_path / f"toy/labels/{n}.{end}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    made, card, records = drafted(tmp_path / "toy")
    assert card.read[0]["reader"] == reader and len(records) == 3
    for record in records:
        if reader == "table":
            assert record.points.shape == (3, 2) and record.point_classes.tolist() == [1, 2, 1]
            np.testing.assert_allclose(record.points[0], [10.5 / 80, 12.5 / 60], atol=1e-6)
        else:
            np.testing.assert_allclose(
                record.boxes[0], [10 / 80, 12 / 60, 30 / 80, 32 / 60], atol=1e-4
            )


def test_marks_of_many_images(tmp_path):
    picture(tmp_path / "coco/a.png", 0, (60, 80))
    (tmp_path / "coco/all.json").write_text(coco())
    _, card, records = drafted(tmp_path / "coco")
    assert card.read[0]["reader"] == "coco" and list(card.classes.values()) == [
        "red",
        "white",
        "blue",
    ]
    assert records[0].box_classes.tolist() == [1, 2]
    for n in range(2):
        picture(tmp_path / f"csv/images/{n}.jpg", n, (60, 80))
    rows = [
        "filename,width,height,class,xmin,ymin,xmax,ymax",
        "0.jpg,80,60,red,10,12,30,32",
        "1.jpg,80,60,white,1,2,5,9",
    ]
    (tmp_path / "csv/boxes.csv").write_text("\n".join(rows))
    _, card, records = drafted(tmp_path / "csv")
    assert card.read[0]["reader"] == "table" and [r.box_classes.tolist() for r in records] == [
        [1],
        [2],
    ]
    np.testing.assert_allclose(records[1].boxes[0], [1 / 80, 2 / 60, 5 / 80, 9 / 60], atol=1e-6)


@pytest.mark.parametrize("reader, count", [("crops", 2), ("hdf5", 12), ("npz", 2), ("dicom", 12)])
def test_other_layouts(tmp_path, reader, count):
    (tmp_path / "toy").mkdir()
    toys.TOYS[reader](tmp_path / "toy")
    (tmp_path / "toy/toy_48.npz").unlink(missing_ok=True)
    made, card, records = drafted(tmp_path / "toy")
    assert card.read[0]["reader"] == reader and len(records) == count, made.text
    if reader == "dicom":
        assert card.modality == ["CT"] and card.read[0]["series"] is True


def test_channels_of_a_mask_that_overlap(tmp_path):
    planes = np.zeros((40, 48, 4), np.uint8)
    planes[5:30, 5:30, 0], planes[20:39, 20:40, 3] = 255, 255
    for n in range(2):
        picture(tmp_path / f"toy/img/{n}.png", n)
        (tmp_path / "toy/mask").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"toy/mask/{n}.tiff", planes)
    _, card, records = drafted(tmp_path / "toy")
    assert card.read[0]["reader"] == "channels" and card.read[0]["channels"] == {
        str(n): n + 1 for n in range(4)
    }
    assert [records[0].semantic[y, x] for y, x in ((6, 6), (25, 25), (35, 35))] == [1, 4, 4]


def test_images_alone_and_folders_as_classes(tmp_path):
    for kind in ("benign", "malignant"):
        for n in range(3):
            picture(tmp_path / f"toy/{kind}/{n}.jpg", n)
    made, card, records = drafted(tmp_path / "toy")
    assert (
        card.annotation == ["none"]
        and {r.attributes["kind"] for r in records} == {0, 1}
        and len(records) == 6
    )


def test_folders_without_a_layout_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.docx").write_text("x")
    for name, parts in (
        ("none", ("no such folder",)),
        ("empty", ("empty",)),
        ("texts", ("no known layout", "1 .docx")),
    ):
        with pytest.raises(DataError) as error:
            draft(tmp_path / name)
        told(error, name, *parts)


def test_a_card_is_written_once_under_the_name_of_its_file(tmp_path):
    folder = tmp_path / "My Data (v2)"
    for n in range(2):
        picture(folder / f"images/{n}.png", n)
        mask(folder / f"masks/{n}.png")
    (folder / "about.txt").write_text("Chest X-ray")
    made, path = write_draft(folder, tmp_path / "mine.toml")
    card = load_card(path)
    assert (card.name, card.read[0]["folder"]) == ("mine", "My Data (v2)") and len(
        list(read(card, tmp_path, "real"))
    ) == 2
    with pytest.raises(CardError, match="already"):
        write_draft(folder, path)


def test_names_in_parts():
    assert parts_of("a/x_1_mask.png", {"x_1", "x_1_mask"}).suffix == "_mask"
    assert (
        varying(["a1", "a22"]) == r"a\d+"
        and varying(["a.b"]) == r"a\.b"
        and "|" in varying(["a1", "b1"])
    )
    assert families(Path(), []) == []


def scan(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def test_tables_with_numbers_of_their_own(tmp_path):
    "A CT and an MR whose labels count otherwise: one name is one class, and each table says its modality."
    folder, noise = tmp_path / "toy", np.random.default_rng(0)
    scan(folder / "case_ct.nii.gz", noise.integers(-1000, 900, (12, 14, 10)).astype(np.int16))
    scan(folder / "case_mr.nii.gz", noise.integers(0, 900, (13, 15, 10)).astype(np.int16))
    ct, mr = np.zeros((12, 14, 10), np.uint8), np.zeros((13, 15, 10), np.uint8)
    ct[1:6, 1:6], ct[7:11, 7:13] = 1, 2
    mr[7:11, 7:13], mr[1:6, 1:6], mr[1:3, 9:13] = 2, 1, 3
    scan(folder / "case_ct_seg.nii.gz", ct)
    scan(folder / "case_mr_seg.nii.gz", mr)
    lists = {"all": {"1": "liver", "2": "aorta", "3": "lung"}, "all_mr": {"1": "aorta", "2": "liver", "3": "spine"}}
    (folder / "names.json").write_text(json.dumps(lists))
    made, card, records = drafted(folder)
    assert card.modality == ["CT", "MR"] and not made.edits and "under 'all_mr'" in made.text
    assert card.classes == {1: "liver", 2: "aorta", 3: "spine"}
    for record in records:
        sizes = [int((record.semantic == n).sum()) for n in (1, 2, 3)]
        assert sizes == ([25, 24, 0] if record.modality == "CT" else [24, 25, 8]), record.key
    assert {r.modality for r in records} == {"CT", "MR"} and len(records) == 20
    (folder / "names.json").unlink()  # nothing tells: asked, not guessed by name
    made, card, _ = drafted(folder)
    assert card.classes == {n: f"class {n}" for n in (1, 2, 3)}
    assert any("translate it by values" in doubt for doubt in made.doubts)


def test_a_table_knows_the_patient(tmp_path):
    folder = tmp_path / "toy"
    for n in range(6):
        picture(folder / f"images/film{n}.png", n)
        mask(folder / f"masks/film{n}.png")
    rows = ["patientid,age,filename", *(f"p{n // 2},40,film{n}.png" for n in range(6)), "p9,50,elsewhere.png"]
    (folder / "about.csv").write_text("\n".join(rows))
    made, card, records = drafted(folder)
    assert card.read[0]["subject"] == dict(table="about.csv", row="filename", column="patientid")
    assert len({r.subject for r in records}) == 3 and any("3 in 6 images" in guess for guess in made.guesses)
    assert [r.subject for r in records] == ["p0", "p0", "p1", "p1", "p2", "p2"]
    (folder / "about.csv").write_text("\n".join(rows[:4]))  # three films are not in it
    assert "subject" not in drafted(folder)[1].read[0]


def test_what_is_left_is_named(tmp_path):
    for n in range(4):
        picture(tmp_path / f"toy/case{n}.png", n)
        mask(tmp_path / f"toy/case{n}_mask.png")
    mask(tmp_path / "toy/case2_mask_1.png")
    made, _, records = drafted(tmp_path / "toy")
    assert len(records) == 4 and any("case2_mask_1.png" in doubt for doubt in made.doubts)


def test_outlines_of_coco_become_masks(tmp_path):
    picture(tmp_path / "toy/a.png", 0, (60, 80))
    notes = [dict(id=n, image_id=1, category_id=4, bbox=[x, 10, 20, 10], area=200, iscrowd=0,
                  segmentation=[[x, 10, x + 20, 10, x + 20, 20, x, 20]]) for n, x in enumerate((5, 40))]
    content = dict(images=[dict(id=1, file_name="a.png", width=80, height=60)], annotations=notes,
                   categories=[dict(id=4, name="cell")])
    (tmp_path / "toy/all.json").write_text(json.dumps(content))
    _, card, (record,) = drafted(tmp_path / "toy")
    assert card.annotation == ["semantic", "instances", "boxes"] and len(record.boxes) == 2
    assert (record.semantic == 1).sum() == 400 and len(np.unique(record.instances)) == 3
    del notes[0]["segmentation"]
    (tmp_path / "toy/all.json").write_text(json.dumps(content))
    made, card, (record,) = drafted(tmp_path / "toy")
    assert card.annotation == ["boxes"] and record.semantic is None and "1 of them with outlines" in made.guesses[0]


def test_a_table_of_diagnoses(tmp_path):
    for n in range(4): picture(tmp_path / f"toy/images/p{n}.png", n)
    rows = ["image,diagnosis,age,sha256", *(f"p{n},{'nevus melanoma'.split()[n % 2]},{30 + n},{n}ab" for n in range(4))]
    (tmp_path / "toy/labels.csv").write_text("\n".join(rows))
    made, card, records = drafted(tmp_path / "toy")
    assert card.annotation == ["none"] and list(card.read[0]["attributes"]) == ["diagnosis", "age"]
    assert [r.attributes for r in records][:2] == [dict(diagnosis="nevus", age=30), dict(diagnosis="melanoma", age=31)]


@pytest.mark.parametrize("image, label", [("CT", "SEG/1-1.dcm"), (".", "seg.dcm"), ("1-CT-7", "2-SEG-{}/1.dcm")])
def test_a_series_and_its_segmentation(image, label, tmp_path):
    left, right = np.zeros((2, 20, 24), np.uint8)
    left[4:16, 2:9], right[4:16, 14:21] = 1, 1
    for n in range(3):
        place = tmp_path / f"toy/P{n}" / image
        paths = write_series(place, np.full((24, 20, 4), 50 * n), (0.5, 1.0, 3.0), PatientID=f"P{n}")
        if n == 2: continue  # nobody has drawn on it
        target = tmp_path / f"toy/P{n}" / label.format(n)
        target.parent.mkdir(exist_ok=True)
        segmentation(target, np.stack([left, right]), [1, 2], {1: "left lung", 2: "right lung"}, paths[1:3])
    made, card, records = drafted(tmp_path / "toy")
    assert card.modality == ["CT"] and card.classes == {1: "left lung", 2: "right lung"}, made.text
    assert not made.edits and "1 series have no such file" in made.text
    drawn = {n: sum(int((r.semantic == n).sum()) for r in records if r.semantic is not None) for n in (1, 2)}
    assert drawn == {1: 2 * 84, 2: 2 * 84} and len({r.subject for r in records}) == 3


def test_segmentations_that_no_folder_leads_to_are_left_out_and_named(tmp_path):
    for n in range(2):
        paths = write_series(tmp_path / f"toy/{n}", np.zeros((24, 20, 4), int), (0.5, 1.0, 3.0), PatientID=f"P{n}")
        (tmp_path / "toy/labels").mkdir(exist_ok=True)
        segmentation(tmp_path / f"toy/labels/s{n}.dcm", np.ones((1, 20, 24), np.uint8), [1], {1: "lung"}, paths[:1])
    made, card, records = drafted(tmp_path / "toy")
    assert len(records) == 8 and card.annotation == ["none"] and "labels/s0.dcm" in made.doubts[0] and not made.edits
