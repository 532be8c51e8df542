"Whatever is wrong with a file, the message names it; a folder that is not there is another matter."

import io
import json
import os
import zipfile

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml

from taco.base import DataError, StoreError, atomic, write_json
from taco.disk import bytes_digest, folder_digests
from taco.reading import (
    check_files,
    plain_bytes,
    plain_toml,
    plain_yaml,
    read_array,
    read_arrays,
    read_bytes,
    read_json,
    read_notebook,
    read_table,
    read_text,
    steadily,
)

READERS = dict(json=read_json, text=read_text, table=read_table, array=read_array, arrays=read_arrays,
               notebook=read_notebook)


def good(folder, kind):
    file = folder / f"file.{kind}"
    if kind in ("json", "text"): write_json(file, dict(a=1, words=["ä", "b"]))
    if kind == "table": pd.DataFrame(dict(a=[1, 2], b=["ä", 'x"y']), index=None).to_csv(file, index=False)
    if kind == "array":
        with open(file, "wb") as out: np.save(out, np.arange(5.0))
    if kind == "arrays":
        with open(file, "wb") as out: np.savez(out, a=np.arange(5.0), b=np.zeros((2, 0)))
    if kind == "notebook": nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), file)
    return file


BAD = dict(empty=b"", zeros=b"\0" * 200, garbage=bytes(range(256)) * 3, latin=b"{\xe4: 1}\n")


@pytest.mark.parametrize("kind", READERS)
def test_bad_files_are_named(tmp_path, kind):
    file, read = good(tmp_path, kind), READERS[kind]
    read(file)
    whole = file.read_bytes()
    for name, bad in (BAD | dict(cut=whole[:-2])).items():
        if kind == "text" and name == "cut": continue  # a part of a text is a text
        file.write_bytes(bad)
        with pytest.raises(DataError) as error: read(file, DataError, "Fetch it again.")
        assert error.value.file == file and error.value.fix == "Fetch it again.", name
        assert not isinstance(error.value, StoreError)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_not_there(tmp_path, kind):
    for name, words in (("gone.x", "A file is missing"), ("no/gone.x", "The folder of a file is not")):
        with pytest.raises(StoreError, match=words): READERS[kind](tmp_path / name)
    with pytest.raises(StoreError, match="cannot be read"): READERS[kind](tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    file = good(tmp_path, "json")
    file.chmod(0)
    with pytest.raises(StoreError, match="cannot be read"): read_json(file)


def test_a_table_that_was_cut_behind_a_line(tmp_path):
    file = good(tmp_path, "table")
    digest = bytes_digest(file.read_bytes())
    assert read_table(file, rows=2, columns=["a", "b"], digest=digest).b.tolist() == ["ä", 'x"y']
    file.write_bytes(b"".join(file.read_bytes().splitlines(True)[:2]))
    assert len(read_table(file)) == 1  # nothing shows it
    with pytest.raises(StoreError, match="another number of rows"): read_table(file, rows=2)
    with pytest.raises(StoreError, match="A file is damaged") as error: read_table(file, digest=digest)
    assert error.value.field == "size"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="cut short"): read_table(file)
    with pytest.raises(StoreError, match="lacks columns"): read_table(good(tmp_path, "table"), columns=["c"])


def test_json_of_another_kind_and_without_its_seal(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[1]")
    assert read_json(file, kind=list) == [1]
    with pytest.raises(StoreError, match="another kind"): read_json(file)
    write_json(file, dict(a=1), seal=True)
    assert read_json(file, seal=True)["a"] == 1
    text = file.read_text()
    for bad in (text.replace('"a": 1', '"a": 2'), text.replace("digest", "digesu"), '{"a": 1}', "{}"):
        file.write_text(bad)
        json.loads(bad)
        with pytest.raises(StoreError, match="not as it was written"): read_json(file, seal=True)


def test_mapped_arrays_are_those_of_numpy(tmp_path):
    file = tmp_path / "a.npy"
    half = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    kinds = np.array([True, False]), np.arange(3, dtype=">i4"), np.array(5)
    for array in (half, np.asfortranarray(np.eye(3)), np.zeros((0, 4)), *kinds):
        np.save(file, array)
        digest = bytes_digest(file.read_bytes())
        found = read_array(file, mapped=True, digest=digest)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and found.shape == array.shape and not found.flags.writeable
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    for mapped in (True, False):
        with pytest.raises(StoreError, match="not an array"): read_array(file, mapped=mapped)


def test_files_of_a_folder(tmp_path):
    for kind in READERS: good(tmp_path, kind)
    digests = folder_digests(tmp_path)
    check_files(tmp_path, digests)
    data = bytearray((tmp_path / "file.array").read_bytes())
    data[-1] ^= 1
    (tmp_path / "file.array").write_bytes(data)
    check_files(tmp_path, digests, whole=False)
    with pytest.raises(DataError, match="damaged") as error: check_files(tmp_path, digests, DataError, "Do it.")
    assert error.value.file == tmp_path / "file.array" and error.value.field == "digest"
    (tmp_path / "file.array").unlink()
    with pytest.raises(StoreError, match="missing"): check_files(tmp_path, digests, whole=False)


def test_a_folder_that_is_replaced_is_read_once_more_and_a_bad_one_is_not(tmp_path):
    calls = []

    def read(folder):
        calls.append(1)
        if len(calls) < 3:
            with atomic(tmp_path / "run") as spare: spare.mkdir()
            return read_bytes(folder / "gone")
        return "read"

    assert steadily(tmp_path / "run", read) == "read" and len(calls) == 3
    calls.clear()
    with pytest.raises(StoreError):
        steadily(tmp_path / "run", lambda folder: calls.append(1) or read_json(folder / "gone"))
    assert len(calls) == 1


# ── files that mean harm ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", READERS)
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(StoreError, match="pipe or a device") as error: READERS[kind](tmp_path / name)
        assert name in str(error.value)


def test_plain_bytes_are_as_many_as_may_be(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert plain_bytes(tmp_path / "a") == plain_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, and at most 4"): plain_bytes(tmp_path / "a", 4)
    with pytest.raises(FileNotFoundError): plain_bytes(tmp_path / "none")
    with pytest.raises(IsADirectoryError): plain_bytes(tmp_path)


def test_names_of_yaml_are_counted_before_they_are_written_out():
    assert plain_yaml("") is None and plain_yaml("3") == 3
    assert plain_yaml("a: &a {b: 1}\nc: {<<: *a, d: *a}") == dict(a=dict(b=1), c=dict(b=1, d=dict(b=1)))
    lists = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    merges = "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 9)}]\n"
                                          for n in range(1, 9))
    for bad in (lists, merges, "a: &a [*a]", "&a {b: *a}", "[" + "1," * 100_001 + "]"):
        with pytest.raises(yaml.YAMLError, match="holds itself, or more than"): plain_yaml(bad)
    with pytest.raises(yaml.YAMLError): plain_yaml("!!python/object/apply:os.system [x]")


def test_names_of_toml_have_few_parts():
    assert plain_toml("a.b.c = 1\nd = 'a.b.c. d'")["a"] == dict(b=dict(c=1))
    for many in (".".join(["a"] * 40), '" x"' + '. "b"' * 40):
        with pytest.raises(ValueError, match="too many parts"): plain_toml(f"{many} = 1")


LAYOUT = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize("shape, bytes_there, words", [
    ("(1000000000000, 4)", 8, "has"), ("(-4, 2)", 8, "has"), ("(4, 4)", 8, "has"),
    (f"({2**40}, {2**40})", 8, "has"), ("(300000000,)", 300_000_000, "would be"),
])
def test_an_array_is_as_large_as_its_header_says_and_no_bomb(shape, bytes_there, words, tmp_path):
    text = (LAYOUT % shape).encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("x.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(bytes_there))
    with pytest.raises(StoreError, match=words) as error: read_arrays(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)
    held = io.BytesIO()
    np.savez_compressed(held, x=np.zeros((3000, 3000)), y=np.asfortranarray(np.ones((2, 3))), z=np.array("a"))
    (tmp_path / "b.npz").write_bytes(held.getvalue())
    assert read_arrays(tmp_path / "b.npz")["x"].shape == (3000, 3000)
