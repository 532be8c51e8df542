"Rows of an .npz: of any order and type, and never by pickle."

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.npz import Stream, channels_first, npz_keys
from tests.data.readers.bodies import refused

ROWS = np.random.default_rng(0).integers(0, 255, (5, 6, 7, 3)).astype(np.uint8)


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("kind", [bool, "u1", ">u2", "<i4", "f2", ">f8"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_both_orders(tmp_path, kind, save):
    rows = ROWS.astype(kind)
    save(tmp_path / "a.npz", c=rows, fortran=np.asfortranarray(rows))
    for key in ("c", "fortran"):
        stream = Stream(tmp_path / "a.npz", key)
        assert stream.shape == rows.shape
        for n in (0, 3, 1, 4):
            np.testing.assert_array_equal(stream.row(n), rows[n])


def test_objects_are_refused_and_run_nothing(tmp_path):
    np.savez(
        tmp_path / "a.npz", a=np.array([Evil(tmp_path / "ran")], object), words=np.array(["a"])
    )
    for key in ("a", "words"):
        with pytest.raises(DataError) as error:
            Stream(tmp_path / "a.npz", key)
        refused(error, "a.npz", key, "plain numbers")
    assert not (tmp_path / "ran").exists()


def test_a_name_that_occurs_twice(tmp_path):
    np.savez(tmp_path / "a.npz", a=ROWS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning):
        archive.writestr("a.npy", b"")
    with pytest.raises(DataError) as error:
        npz_keys(tmp_path / "a.npz")
    refused(error, "a.npz", "a.npy", "2 of them")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("codec", ["ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
def test_no_row_is_read_behind_a_damage(tmp_path, codec, order):
    rows = np.random.default_rng(1).integers(0, 3, (40, 64, 64)).astype(np.uint8)
    np.savez(tmp_path / "plain.npz", a=np.asarray(rows, order=order))
    whole = zipfile.ZipFile(tmp_path / "plain.npz").read("a.npy")
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", getattr(zipfile, codec)) as archive:
        archive.writestr("a.npy", whole)
    stream = Stream(path, "a")
    assert all((stream.row(n) == rows[n]).all() for n in range(40))

    spoilt = bytearray(path.read_bytes())
    middle = len(spoilt) // 2
    spoilt[middle : middle + 4000] = bytes(b"\xff" * 4000)
    path.write_bytes(spoilt)

    def told(n):
        with pytest.raises(DataError) as error:
            Stream(path, "a").row(39) if n is None else stream.row(n)
        refused(error, "a.npz", "a complete .npz", "checksum")

    told(None)
    if codec == "ZIP_BZIP2":
        return  # all of it is one block: not even the shape can be read
    stream, read = Stream(path, "a"), 0
    if order == "C":
        assert (stream.row(0) == rows[0]).all()
        while read < 39:
            try:
                stream.row(read)
            except DataError:
                break
            read += 1
    for n in range(read, 40):
        told(n)
    if order == "C":
        assert read > 10 and (stream.row(0) == rows[0]).all()  # back before the damage
        told(39)


def test_an_archive_that_is_none_names_itself(tmp_path):
    for content in (b"", b"PK\x05\x06" + b"\xff" * 18, b"no zip at all"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError) as error:
            npz_keys(tmp_path / "a.npz")
        refused(error, "a.npz", "a complete .npz")


def test_a_fortran_array_that_broke_off(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.asfortranarray(ROWS))
    whole = zipfile.ZipFile(tmp_path / "a.npz").read("a.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", whole[:-9])
    with pytest.raises(DataError) as error:
        Stream(tmp_path / "b.npz", "a").row(0)
    refused(error, "b.npz", "621 of 630 bytes")


@pytest.mark.parametrize(
    "shape, first",
    [
        ((5, 3, 20, 24), True),
        ((5, 1, 20, 24), True),
        ((5, 4, 20, 24), True),
        ((5, 20, 24, 3), False),
        ((5, 3, 24, 3), False),
        ((5, 20, 24), False),
        ((5, 3, 24), False),
        ((5, 20, 24, 24), False),
    ],
)
def test_where_the_channels_are(shape, first):
    assert channels_first(shape) is first


def of_shape(path: Path, shape: str, zeros: int) -> Path:
    "An .npz whose array says that it has a shape, and has so many bytes."
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': %s, }\n" % shape.encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("x.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(zeros))
    return path


@pytest.mark.parametrize("shape, zeros", [
    ("(1000000000000, 4, 4)", 64), ("(1, 90000000)", 90_000_000), ("(4294967296, 4294967296, 4294967296)", 64),
])
def test_an_array_is_not_believed_more_than_fits_into_its_file(shape, zeros, tmp_path):
    file = of_shape(tmp_path / "a.npz", shape, zeros)
    with pytest.raises(DataError) as error: Stream(file, "x")
    refused(error, "a.npz")
    assert Stream(of_shape(tmp_path / "b.npz", "(4, 1000, 1000)", 4_000_000), "x").row(3).shape == (1000, 1000)


def test_a_pipe_is_not_waited_for_and_many_names_take_no_time(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError) as error: npz_keys(tmp_path / "a.npz")
    refused(error, "a.npz", "no file")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as held:
        for n in range(20_000): held.writestr(f"{n}.npy", b"")
    assert len(npz_keys(tmp_path / "b.npz")) == 20_000
