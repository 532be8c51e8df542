"What is known of whole images: in names, in folders, in tables."

import json

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError, StoreError
from taco.data.card import load_card
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.record import Record
from taco.data.store import Store
from tests.data.made import HEIGHT, VOC, WIDTH, card_of, failures, films, picture, refused, write


@pytest.mark.parametrize(
    "name, images, masks",
    [
        (
            "montgomery",
            "CXR_png/MCUCXR_000{}_{}.png",
            ("ManualMask/leftMask/MCUCXR_000{}_{}.png", "ManualMask/rightMask/MCUCXR_000{}_{}.png"),
        ),
        ("shenzhen", "CXR_png/CHNCXR_000{}_{}.png", ("masks/CHNCXR_000{}_{}_mask.png",)),
    ],
)
def test_tuberculosis_stands_in_the_file_name(tmp_path, name, images, masks):
    for n, sick in ((1, 0), (2, 1), (3, 1), (4, 0)):
        picture(tmp_path / name / images.format(n, sick))
        for place, mask in enumerate(masks):
            path = tmp_path / name / mask.format(n, sick)
            path.parent.mkdir(parents=True, exist_ok=True)
            lung = np.zeros((HEIGHT, WIDTH), np.uint8)
            lung[10:50, 10 + 40 * place : 30 + 40 * place] = 255
            Image.fromarray(lung).save(path)
    records = list(read(name, tmp_path, "real"))
    assert [r.attributes for r in records] == [{"tuberculosis": v} for v in (0, 1, 1, 0)]
    store = Store.open(pack(name, tmp_path, tmp_path / "out", 32, source="real", workers=2))
    assert store.attribute("tuberculosis").tolist() == [int(key[-1]) for key in store.table.key]
    with pytest.raises(StoreError, match="tuberculosis"):
        store.attribute("tuberclosis")


def test_melanoma_stands_in_the_challenge_table(tmp_path):
    for n in (0, 1, 2):
        picture(tmp_path / f"isic2016/P/ISIC_000000{n}.jpg")
        picture(tmp_path / f"isic2016/P/ISIC_000000{n}_Segmentation.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[20:40, 20:40] = 255
        Image.fromarray(mask).save(tmp_path / f"isic2016/P/ISIC_000000{n}_Segmentation.png")
    note = tmp_path / "isic2016/ISBI2016_ISIC_Part3B_Training_GroundTruth.csv"
    note.write_text("ISIC_0000000,benign\nISIC_0000001,malignant\nISIC_0000002,\n")
    records = list(read("isic2016", tmp_path, "real"))
    assert [r.attributes for r in records] == [
        {"melanoma": 0},
        {"melanoma": 1},
        {},
    ]  # an empty cell is unknown
    note.write_text("ISIC_0000000,benign\nISIC_0000001,unsure\nISIC_0000002,benign\n")
    refused(DataError, load_card("isic2016"), tmp_path, "melanoma", "'unsure'", "benign, malignant")
    note.write_text("ISIC_0000000,benign\nISIC_0000002,benign\n")
    refused(DataError, load_card("isic2016"), tmp_path, "GroundTruth.csv", "no row", "ISIC_0000001")
    note.write_text("ISIC_0000000,benign\nISIC_0000000,malignant\n")
    refused(DataError, load_card("isic2016"), tmp_path, "two things of one image", "line 2")


def test_folders_tables_and_types(tmp_path):
    films(tmp_path, "benign_1", "malign_2")
    write(tmp_path, "ages.csv", "name;age;grade;site\nbenign_1;41;2.5;back\nmalign_2;;3.;7a\n")
    by_table = ", ".join(
        f'{name} = {{table = "ages.csv", row = "name", column = "{name}", separator = ";"}}'
        for name in ("age", "grade", "site")
    )
    lines = f"{VOC}attributes = {{kind = {{pattern = '(benign|malign)_'}}, {by_table}}}\n"
    assert [r.attributes for r in read(card_of(lines), tmp_path)] == [
        dict(kind="benign", age=41, grade=2.5, site="back"),
        dict(kind="malign", grade=3.0, site="7a"),
    ]
    refused(
        DataError,
        card_of(VOC + "attributes = {kind = {pattern = '(benign)_'}}\n"),
        tmp_path,
        "kind",
        "malign_2.png",
        "does not fit",
    )
    refused(
        DataError,
        card_of(VOC + 'attributes = {age = {table = "age.csv", row = "name", column = "age"}}\n'),
        tmp_path,
        "table of attributes is missing",
        "optional = true",
    )


def test_one_bad_attribute_is_one_failed_item(tmp_path):
    films(tmp_path, "a", "b", "c")
    write(tmp_path, "ages.csv", "name,age\na,4\nc,5\n")
    card = card_of(
        VOC + 'attributes = {age = {table = "ages.csv", row = "name", column = "age"}}\n'
    )
    with pytest.raises(DataError, match="no row"):
        pack(card, tmp_path, tmp_path / "out", 32)
    store = Store.open(pack(card, tmp_path, tmp_path / "out", 32, skip_bad=True))
    assert (
        len(store) == 2
        and store.parts[0].manifest["skipped"][0]["file"].endswith("b.png")
        and sorted(store.attribute("age")) == [4, 5]
    )
    assert [json.loads(a) for a in store.table["attributes"]] == [{"age": 4}, {"age": 5}]
    write(
        tmp_path, "ages.csv", "name,age\na,4\nb,4\nc,6\n"
    )  # a changed table makes the store stale
    assert len(Store.open(pack(card, tmp_path, tmp_path / "out", 32))) == 3


def test_a_subject_that_only_a_table_knows(tmp_path):
    films(tmp_path, "a", "b", "c", "d")
    write(tmp_path, "who.csv", "file,patient\na,7\nb,7\nc,8\n")
    card = card_of(VOC + 'subject = {table = "who.csv", row = "file", column = "patient"}\n')
    assert [i.subject for i in find(card, tmp_path).items] == ["7", "7", "8", "d"]
    (error,) = failures(card, tmp_path)
    assert "no row" in str(error) and "subject" in str(error)


@pytest.mark.parametrize(
    "attributes, part",
    [
        ({"a b": 1}, "proper name"),
        ({"a": None}, "one number or word"),
        ({"a": float("nan")}, "one number or word"),
        ({"a": [1]}, "one number or word"),
    ],
)
def test_attributes_of_a_record_are_names_and_scalars(attributes, part):
    with pytest.raises(DataError, match=part):
        Record(np.zeros((1, 4, 4), np.float32), attributes=attributes)
    assert Record(np.zeros((1, 4, 4), np.float32)).attributes == {}
