"Text tables: encodings, and the images that their words mean."

from pathlib import Path

from taco.base import CardError, DataError
from taco.data.find import read
from tests.data.made import COCO, TABLE, card_of, coco, picture, refused, table, write


def test_text_that_is_not_utf8_is_refused(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "all.csv", "").write_bytes(table([("ré", 1, 1, 5, 5)]).encode("latin-1"))
    refused(DataError, card_of(TABLE), tmp_path, "all.csv", "UTF-8")


def test_two_images_of_one_name_are_refused(tmp_path):
    for place in ("x", "y"):
        picture(tmp_path / f"toy/{place}/a.png")
    write(tmp_path, "all.json", coco())
    refused(CardError, card_of(COCO), tmp_path, "Two images have the name", "x/a.png and y/a.png")
    write(tmp_path, "all.json", coco(images=[dict(id=1, file_name="y/a.png")]))
    records = {
        Path(r.file).parent.name: r
        for r in read(card_of(COCO + 'unlabelled = "empty"\n'), tmp_path)
    }
    assert len(records["y"].boxes) == 2 and len(records["x"].boxes) == 0
