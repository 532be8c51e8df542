"Text of every encoding is decoded by what it says, or refused with what to do."

import pytest

from taco.base import DataError
from taco.data.annotations.text import read_json, read_text, read_xml, read_yaml
from tests.data.made import told


def put(tmp_path, content: bytes):
    path = tmp_path / "note.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_at_the_start_are_known(tmp_path, name):
    assert read_text(put(tmp_path, "a,µ 细\r\n".encode(name))) == "a,µ 细\r\n"


@pytest.mark.parametrize("name", ["latin-1", "cp1252", "gb2312", "shift_jis", "utf-16-le"])
def test_the_card_may_say_the_encoding_and_the_advice_says_so(tmp_path, name):
    text = "x,é\n" if name in ("latin-1", "cp1252", "utf-16-le") else "x,細\n".replace("細", "中")
    path = put(tmp_path, text.encode(name))
    with pytest.raises(DataError) as error:
        read_text(path)
    told(error.value and error, "note.txt", "encoding = ")
    assert read_text(path, name) == text


def test_a_byte_that_does_not_fit_is_named_with_its_line(tmp_path):
    with pytest.raises(DataError) as error:
        read_text(put(tmp_path, b"a\nb\nc\xe9\n"))
    told(error, "byte 0xe9 in line 3", "UTF-8")


def test_a_mark_and_a_declaration_that_disagree_are_refused(tmp_path):
    with pytest.raises(DataError) as error:
        read_text(put(tmp_path, "a".encode("utf-16")), "latin-1")
    told(error, "another encoding", "utf-16")
    with pytest.raises(DataError) as error:
        read_text(put(tmp_path, b"a"), "utf8mb4")
    told(error, "No encoding has this name")


@pytest.mark.parametrize(
    "start, kind",
    [
        (b"PK\x03\x04", "xlsx"),
        (b"\xd0\xcf\x11\xe0", "old Excel"),
        (b"\x1f\x8b", "gzip"),
        (b"\x89PNG", "PNG"),
        (b"Iout", "ImageJ"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, start, kind):
    with pytest.raises(DataError) as error:
        read_text(put(tmp_path, start + b"\0\1\2"))
    told(error, kind, "Export it as text")
    assert "again" not in str(error.value)


@pytest.mark.parametrize(
    "text, parts",
    [
        ('{"a": [1, 2', ("ends too early", "fetch it again")),
        ('{"a": 1,\n "b" 2, "c": 3}', ("line 2", "Correct the place")),
        ('{"a": 1, "a": 2}', ("'a' stands twice",)),
        ("[1, 2]", ("no object at its top", "a list")),
        ("[" * 100_000, ("RecursionError",)),
        ('{"a": ' + "9" * 5000 + "}", ("ValueError",)),
        ("", ("ends too early",)),
        ('{"a": 1,', ("ends too early",)),
        ('{"a": [{"b": 1}', ("ends too early",)),
        ('{"a": 1,}', ("Correct the place",)),
        ('{"a": [1, 2,]}', ("Correct the place",)),
    ],
)
def test_broken_json_ends_in_a_message(tmp_path, text, parts):
    with pytest.raises(DataError) as error:
        read_json(put(tmp_path, text.encode()), "an annotation")
    told(error, "note.txt", *parts)


def test_json_with_a_mark_is_read(tmp_path):
    assert read_json(put(tmp_path, '{"a": "µ"}'.encode("utf-8-sig")), "x") == {"a": "µ"}
    assert read_json(put(tmp_path, '{"a": "µ"}'.encode("utf-16")), "x") == {"a": "µ"}


@pytest.mark.parametrize(
    "head, name",
    [
        ("gb2312", "gb2312"),
        ("GBK", "gbk"),
        ("gb18030", "gb18030"),
        ("utf8", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-8"),
        ("Big5", "big5"),
        ("Shift_JIS", "shift_jis"),
        ("EUC-KR", "euc_kr"),
    ],
)
def test_xml_in_the_encoding_that_its_first_line_names(tmp_path, head, name):
    text = f"<?xml version='1.0' encoding='{head}'?>\n<a>中</a>"
    assert read_xml(put(tmp_path, text.encode(name)), "x").text == "中"


@pytest.mark.parametrize(
    "text, parts",
    [
        (b"<a><b></a>", ("ParseError", "line 1", "Correct the line")),
        (b"<a><b>", ("ends too early", "fetch it again")),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', ("entities",)),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', ("No encoding has this name",)),
        (b'<?xml version="1.0" encoding="utf-8"?><a>\xd6\xd0</a>', ("0xd6", "gb18030")),
        (b"", ("not valid XML",)),
    ],
)
def test_broken_xml_ends_in_a_message(tmp_path, text, parts):
    with pytest.raises(DataError) as error:
        read_xml(put(tmp_path, text), "an annotation")
    told(error, "note.txt", *parts)


def test_broken_yaml_ends_in_a_message(tmp_path):
    for text in (b"a: [1", b"a: !!python/object/apply:os.system ['true']", b"a: b: c"):
        with pytest.raises(DataError) as error:
            read_yaml(put(tmp_path, text), "names")
        told(error, "not valid YAML")


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError) as error:
        read_text(tmp_path / "absent.txt")
    told(error, "absent.txt", "cannot be opened")
