"What a Pascal VOC file says of its objects."

import pytest

from taco.base import DataError
from taco.data.annotations.voc import read_voc_file
from tests.data.made import told

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def objects(tmp_path, inner, root="annotation"):
    path = tmp_path / "a.xml"
    path.write_text(f"<{root}>{inner}</{root}>")
    return read_voc_file(path)


def test_parts_are_no_objects_and_lists_of_objects_are_all_read(tmp_path):
    head = f"<part><name>head</name>{BOX.format(1, 1, 2, 2)}</part>"
    cell = f"<object>{head}<name>cell</name>{BOX.format(1, 2, 3, 4)}</object>"
    found, size = objects(tmp_path, f"<objects>{cell}</objects><objects>{cell}</objects>")
    assert [o.box for o in found] == [["1", "2", "3", "4"]] * 2 and size == ["0", "0"]
    assert [o.word for o in found] == ["cell", "cell"]


def test_polygons_are_written_in_two_ways(tmp_path):
    names = "".join(f"<x{n}>{n}</x{n}><y{n}>{2 * n}</y{n}>" for n in (1, 2, 3))
    points = "".join(f"<pt><x>{n}</x><y>{2 * n}</y></pt>" for n in (1, 2, 3))
    for inner in (names, points):
        (cell,), _ = objects(tmp_path, f"<object><name>cell</name><polygon>{inner}</polygon></object>")
        assert cell.polygons == [[("1", "2"), ("2", "4"), ("3", "6")]]


@pytest.mark.parametrize(
    "inner, root, part",
    [
        ("", "Annotations", "<Annotations>"),  # Aperio
        ("", "ASAP_Annotations", "no Pascal VOC"),
        ("", "svg", "<svg>"),
        (f"<object><name>a</name>{BOX.format(1, 1, 2, 2) * 2}</object>", "annotation", "more than one"),
        (f"<object><name>a</name><name>b</name>{BOX.format(1, 1, 2, 2)}</object>", "annotation", "2 (object 1, a)"),
        ("<object><robndbox><cx>1</cx></robndbox></object>", "annotation", "rotated"),
        ("<object><polygon><x1>1</x1><y1>1</y1></polygon></object>", "annotation", "too few corners"),
    ],
)
def test_files_that_would_be_read_wrongly(tmp_path, inner, root, part):
    with pytest.raises(DataError) as error:
        objects(tmp_path, inner, root)
    told(error, "a.xml", part)
