"What is known of whole images: in names, in folders, in tables."

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from taco.base import CardError, DataError, StoreError
from taco.data.card import load_card
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.readers.attributes import list_items, lookup_notes
from taco.data.readers.source import Source
from taco.data.record import Record
from taco.data.store import Store
from tests.data.made import HEAD, HEIGHT, VOC, WIDTH, card_of, failures, films, picture, refused, write


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
        picture(tmp_path / f"isic2016/P/ISIC_000000{n}.jpg", HEIGHT, WIDTH + n)
        mask = np.zeros((HEIGHT, WIDTH + n), np.uint8)
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


def by_table(more: str = "", column: str = "v", name: str = "t.csv") -> str:
    return VOC + f'attributes = {{v = {{table = "{name}", row = "name", column = "{column}"{more}}}}}\n'


def values(tmp_path, text, more: str = "") -> list:
    films(tmp_path, "a", "b")
    write(tmp_path, "t.csv", "").write_bytes(text if isinstance(text, bytes) else text.encode())
    return [r.attributes.get("v") for r in read(card_of(by_table(more)), tmp_path)]


@pytest.mark.parametrize(
    "text, more, want",
    [
        ("name,v\na,1\nb,2.5\n", "", [1, 2.5]),
        ("name,v\na,-3\nb,1e3\n", "", [-3, 1000.0]),
        ("name,v\na.png,1\nb.png,\n", "", [1, None]),
        ("name,v\na,4\nb,n/a\n", ', missing = ["n/a"]', [4, None]),
        ("name,v\na,4\nb,n/a\n", ', kind = "text"', ["4", "n/a"]),
        ("name,v\na,007\nb,7\n", ', kind = "text"', ["007", "7"]),
        ("name;v\na;2,5\nb;3\n", ', separator = ";", decimal = ","', [2.5, 3]),
        ("name,v\na,x\nb,y\n", ", values = {x = 0, y = 1}", [0, 1]),
        ("name,v\na,x\nb,2\n", ', values = {x = 0, "2" = 1}', [0, 1]),
        ("\ufeffname,v\r\na,x\r\n\r\nb,y\r\n", "", ["x", "y"]),
        ("name,v\na,é\nb,y\n".encode("utf-16"), "", ["é", "y"]),
        ("name,v\na,é\nb,y\n".encode("latin-1"), ', encoding = "latin-1"', ["é", "y"]),
        ("name,v\na,1\na,1\nb,2\n,,\n", "", [1, 2]),
    ],
)
def test_ways_to_write_an_attribute(tmp_path, text, more, want):
    found = values(tmp_path, text, more)
    assert found == want and [type(v) for v in found] == [type(v) for v in want]


@pytest.mark.parametrize(
    "text, more, parts",
    [
        ("name,v\na,4\nb,n/a\n", "", ("numbers and words", "4 and n/a", 'missing = ["n/a"]')),
        ("name,v\na,4\nb,5\nc,unknown\n", "", ("numbers and words",)),
        ("name,v\na,4\na,5\nb,1\n", "", ("two things of one image", "line 3")),
        ("name,v\na,4\na.png,5\nb,1\n", "", ("two things of one image", "a.png: '5'")),
        ("name;v\na;2,5\nb;3,5\n", ', separator = ";"', ("no number", 'decimal = ","')),
        ("name,v\na,x\nb,1\n", ', kind = "number"', ("no number", "'x'")),
        ("name,v\na,x\nb,z\n", ", values = {x = 0, y = 1}", ("'z'", "x, y")),
        ("name,v\na,x\n", "", ("no row", "b.png")),
        ("name,w\na,x\nb,x\n", "", ("no such column", "v")),
        ("name,v,v\na,x,y\nb,x,y\n", "", ("Two columns have one name",)),
        ("name,v\na,é\n".encode("latin-1"), "", ("encoding = ", "line 2")),
        (b"PK\x03\x04", "", ("Excel",)),
    ],
)
def test_attributes_that_would_be_read_wrongly(tmp_path, text, more, parts):
    with pytest.raises(DataError) as error:
        values(tmp_path, text, more)
    for part in parts:
        assert part in str(error.value), (part, str(error.value))


def test_a_name_of_two_images_stands_for_neither(tmp_path):
    for place in ("x", "y"):
        films(tmp_path, f"{place}/a")
    lines = VOC.replace('"*.', '"**/*.') + 'attributes = {v = {table = "t.csv", row = "name", column = "v"}}\n'
    write(tmp_path, "t.csv", "name,v\na,4\n")
    refused(DataError, card_of(lines), tmp_path, "Two images have the name", "t.csv")
    write(tmp_path, "t.csv", "name,v\nx/a.png,4\ny/a,5\n")
    assert [r.attributes["v"] for r in read(card_of(lines), tmp_path)] == [4, 5]


def test_subjects_are_names_and_none_is_invented(tmp_path):
    films(tmp_path, "a", "b", "c")
    write(tmp_path, "who.csv", "file,patient\na,007\nb,7\nc,\n")
    lines = VOC + 'subject = {table = "who.csv", row = "file", column = "patient"%s}\n'
    assert [i.subject for i in find(card_of(lines % ""), tmp_path).items][:2] == ["007", "7"]
    (error,) = failures(card_of(lines % ""), tmp_path)
    assert "subject of an image is unknown" in str(error) and "optional = true" in error.fix
    found = find(card_of(lines % ", optional = true"), tmp_path).items
    assert [i.subject for i in found] == ["007", "7", "c"] and not any(i.fails for i in found)


def test_what_a_table_knows_and_nobody_asks_is_listed(tmp_path):
    films(tmp_path, "a", "b")
    write(tmp_path, "t.csv", "name,v\na,4\nb,\nc,5\nd,6\n")
    card = card_of(by_table())
    source = Source(card, card.read[0], tmp_path / "toy")
    idle, empty = lookup_notes(source, list_items(source))
    assert idle == "v: 2 of 4 rows of t.csv are of no image (c, d)" and "unknown in 1 of 4" in empty


@pytest.mark.parametrize("more, part", [(', kind = "int"', "text, number"), (', missing = "n/a"', "list")])
def test_lookups_are_checked(tmp_path, more, part):
    films(tmp_path, "a")
    refused(CardError, card_of(by_table(more)), tmp_path, part, "read.attributes.v")


def test_arrays_of_one_file_share_its_row(tmp_path):
    path = tmp_path / "toy/a.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        for name in ("x", "y"):
            file[f"{name}/image"] = np.random.default_rng(0).random((1, 32, 32)).astype("f4")
            file[f"{name}/label"] = np.ones((1, 32, 32), "u1")
    write(tmp_path, "t.csv", "name,v\na,4\n")
    lines = (
        'reader = "hdf5"\nfiles = "*.h5"\nimage = "re:(.*)/image"\nlabel = "re:(.*)/label"\n'
        'attributes = {v = {table = "t.csv", row = "name", column = "v"}}\n'
    )
    head = HEAD.replace('"boxes"', '"semantic"')
    assert [r.attributes["v"] for r in read(card_of(lines, head), tmp_path)] == [4, 4]


# ---------------------------------------------------------------- rows of arrays

LOOKED_UP = 'table = "rows.csv", row = "row"'
ROWS = (
    'reader = "npz"\nfile = "toy_{size}.npz"\n'
    f'subject = {{{LOOKED_UP}, column = "who"}}\n'
    f'attributes = {{age = {{{LOOKED_UP}, column = "age"}}}}\n'
)
GIVEN = HEAD.replace('"boxes"', '"semantic"').replace('rule = "subject"', 'rule = "given"')


def arrays(tmp_path, *lines: str):
    "A card and its folder: three rows to train and two to test, and the table of them."
    made = {}
    for part, count in (("train", 3), ("test", 2)):
        made[f"{part}_images"] = np.arange(count * 64, dtype=np.uint8).reshape(count, 8, 8)
        made[f"{part}_label"] = made[f"{part}_images"] % 4
    write(tmp_path, "rows.csv", "\n".join(("row,who,age", *lines)))
    np.savez(tmp_path / "toy/toy_8.npz", **made)
    return card_of(ROWS, GIVEN)


@pytest.mark.parametrize(
    "name", ["toy_8.npz {part}[{i}]", "{part}[{i}]", "{part}-{i:05d}", "toy_8.npz[{part}_images][{i}]"]
)
def test_a_row_goes_by_its_place(tmp_path, name):
    places = [("train", 0), ("train", 1), ("train", 2), ("test", 0), ("test", 1)]
    lines = [f"{name.format(part=p, i=i)},{'AAABC'[n]},{20 + n}" for n, (p, i) in enumerate(places)]
    card = arrays(tmp_path, *lines)
    found = find(card, tmp_path)
    assert [i.subject for i in found.items] == [*"AAABC"]
    records = list(read(card, tmp_path))
    assert [r.attributes for r in records] == [{"age": 20 + n} for n in range(5)]
    assert [(r.subject, r.split) for r in records] == [("A", "train")] * 3 + [("B", "test"), ("C", "test")]
    assert [r.key for r in records][2:4] == ["train-00002", "test-00000"]


def test_a_row_that_the_table_forgot_fails_alone_and_stays_in_its_part(tmp_path):
    card = arrays(tmp_path, "train[0],A,1", "train[2],A,1", "test[0],B,1", "test[1],C,1")
    items = find(card, tmp_path).items
    assert [i.fails for i in items] == [False, True, False, False, False]
    assert [i.split for i in items] == ["train"] * 3 + ["test"] * 2
    (error,) = failures(card, tmp_path)
    assert "no row" in str(error) and "train[1]" in str(error) and "rows.csv" in str(error)


def test_a_person_in_two_parts_of_the_arrays_is_refused(tmp_path):
    card = arrays(tmp_path, *(f"train[{i}],A,1" for i in range(3)), "test[0],A,1", "test[1],B,1")
    refused(DataError, card, tmp_path, "A subject lies in more than one split", "A: ", 'rule = "subject"')


def test_rows_of_a_table_that_are_of_no_row_of_the_arrays_are_told(tmp_path):
    lines = [*(f"train[{i}],A,1" for i in range(4)), "test[0],B,1", "test[1],B,1"]
    card = arrays(tmp_path, *lines)
    found = find(card, tmp_path)
    (note, other) = sorted(lookup_notes(Source(card, card.read[0], found.folder), found.items))
    assert note == "age: 1 of 6 rows of rows.csv are of no image (train[3])"
    assert other.startswith("subject: 1 of 6 rows")


def test_arrays_are_packed_anew_when_their_table_changes(tmp_path):
    lines = [*(f"train[{i}],A,1" for i in range(3)), "test[0],B,1", "test[1],B,1"]
    card = arrays(tmp_path, *lines)
    store = Store.open(pack(card, tmp_path, tmp_path / "out", 16, source="real"))
    assert sorted(set(store.table.subject)) == ["A", "B"] and set(store.attribute("age")) == {1}
    arrays(tmp_path, *(line.replace(",B,1", ",C,70") for line in lines))
    store = Store.open(pack(card, tmp_path, tmp_path / "out", 16, source="real"))
    assert sorted(set(store.table.subject)) == ["A", "C"] and set(store.attribute("age")) == {1, 70}


def test_a_pattern_names_nobody_in_the_rows_of_arrays(tmp_path):
    with pytest.raises(CardError) as error:
        card_of('reader = "npz"\nfile = "toy_8.npz"\nsubject = "re:(train)"\n', GIVEN)
    assert "read.subject" in str(error.value) and "table" in str(error.value)
