"A name in an HDF5 file becomes an array as its world means it, and nothing from outside the file."

from pathlib import Path

import h5py
import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.hdf5 import array_names, has_array, read_array
from tests.data.readers.bodies import refused

P = np.random.default_rng(0).integers(0, 200, (20, 24)).astype(np.uint8)


def h5(path: Path, array=None, name: str = "image", **attributes) -> Path:
    with h5py.File(path, "a") as file:
        file[name] = P if array is None else array
        file[name].attrs.update(attributes)
    return path


def spoken(path: Path, name: str, *words: str, **how) -> None:
    with pytest.raises(DataError) as error:
        read_array(path, name, **how)
    refused(error, path.name, name, *words)


@pytest.mark.parametrize("kind", ["double", "single", "uint8", "int16", "logical"])
def test_arrays_of_matlab_stand_upright(tmp_path, kind):
    h5(tmp_path / "a.mat", P.T, MATLAB_class=np.bytes_(kind))
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat", "image")[0], P)
    volume = np.stack([P, P // 2, P // 3], -1)  # as MATLAB has it: rows, columns, slices
    h5(tmp_path / "a.mat", volume.T, "s/volume", MATLAB_class=np.bytes_(kind))
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat", "s/volume")[0], volume)


def test_what_is_no_array_of_matlab_is_named(tmp_path):
    path = tmp_path / "a.mat"
    h5(path, P.T.astype("u2"), "text", MATLAB_class=np.bytes_("char"))
    h5(
        path,
        np.array([0, 0], "u8"),
        "nothing",
        MATLAB_class=np.bytes_("double"),
        MATLAB_empty=np.uint8(1),
    )
    with h5py.File(path, "a") as file:
        file.create_group("sparse").attrs.update(
            MATLAB_class=np.bytes_("double"), MATLAB_sparse=np.uint64(20)
        )
        file["sparse/data"] = np.ones(3)
        file.create_group("struct").attrs["MATLAB_class"] = np.bytes_("struct")
        file["struct/img"] = P
        cells = file.create_dataset("cells", (2, 1), h5py.ref_dtype)
        cells[0, 0] = file["struct/img"].ref
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
    for name, word in (
        ("text", "char"),
        ("nothing", "empty"),
        ("sparse", "sparse"),
        ("struct", "struct"),
        ("cells", "cell"),
    ):
        spoken(path, name, word)
    np.testing.assert_array_equal(read_array(path, "struct/img")[0], P)


@pytest.mark.parametrize(
    "start, word",
    [
        (b"MATLAB 5.0 MAT-file, Platform: PCWIN64", "-v7.3"),
        (b"CDF\x01", "nccopy"),
        (b"\x0e\x03\x13\x01", "h4toh5"),
        (b"nonsense", "complete HDF5"),
    ],
)
def test_files_of_other_formats(tmp_path, start, word):
    (tmp_path / "a.mat").write_bytes(start.ljust(400))
    with pytest.raises(DataError) as error:
        read_array(tmp_path / "a.mat", "image")
    refused(error, "a.mat", word)


def test_nothing_from_outside_the_file(tmp_path):
    path, secret = tmp_path / "a.h5", tmp_path / "secret.h5"
    h5(secret, P, "secret")
    (tmp_path / "diary.txt").write_bytes(b"dear diary" * 60)
    with h5py.File(path, "w") as file:
        file["here"] = P
        file["group/linked"] = h5py.SoftLink("/here")
        file["group/beside"] = h5py.SoftLink("linked")
        file["group/away"] = h5py.ExternalLink("secret.h5", "/secret")
        file["through"] = h5py.SoftLink("/group/away")
        file["folder"] = h5py.ExternalLink("secret.h5", "/")
        file["round"] = h5py.SoftLink("/round")
        file["nowhere"] = h5py.SoftLink("/not/here")
        for name in ("diary.txt", str(tmp_path / "diary.txt")):
            file.create_dataset(
                f"raw/{name[-3:]}{len(name)}", (20, 24), "u1", external=[(name, 0, 480)]
            )
        layout = h5py.VirtualLayout((20, 24), "u1")
        layout[:] = h5py.VirtualSource("secret.h5", "secret", (20, 24))
        file.create_virtual_dataset("virtual", layout)
        hard = file["raw"]
        for k, name in enumerate(list(hard)):
            file[f"hard{k}"] = hard[name]
    for name in ("here", "group/linked", "group/beside", "/here"):
        np.testing.assert_array_equal(read_array(path, name)[0], P)
        assert has_array(path, name)
    for name in ("group/away", "through", "folder/secret", "virtual", "hard0", "hard1"):
        with pytest.raises(DataError) as error:
            read_array(path, name)
        assert error.value.fix and "itself" in str(error.value.expected), name
        assert "file" in error.value.what and str(error.value.file) == str(path)
        with pytest.raises(DataError):
            has_array(path, name)
    for name in ("round", "nowhere", "absent"):
        with pytest.raises(DataError):
            read_array(path, name)
    assert "group/away" not in array_names(path) and "here" in array_names(path)


def test_what_holds_no_plain_numbers(tmp_path):
    path = tmp_path / "a.h5"
    h5(path, np.array([b"a", b"b"]), "words")
    h5(path, P.astype(complex), "complex")
    h5(path, np.zeros(3, [("a", "i4"), ("b", "f4")]), "table")
    with h5py.File(path, "a") as file:
        file["none"] = h5py.Empty("f4")
        file["group/inside"] = P
    for name in ("words", "complex", "table", "none", "group"):
        spoken(path, name)
    for kind in (bool, np.float16, ">i2", np.int64):
        h5(path, P.astype(kind), f"kind{kind}")
        np.testing.assert_array_equal(read_array(path, f"kind{kind}")[0], P.astype(kind))


def test_scale_and_offset(tmp_path):
    h5(tmp_path / "a.h5", P, scale_factor=0.5, add_offset=-10.0)
    np.testing.assert_allclose(read_array(tmp_path / "a.h5", "image")[0], P * 0.5 - 10)
    h5(tmp_path / "a.h5", P, "array", scale_factor=np.array([2.0], "f4"))
    np.testing.assert_allclose(read_array(tmp_path / "a.h5", "array")[0], P * 2.0)
    h5(tmp_path / "a.h5", P.view("i1"), "bytes", _Unsigned=np.bytes_("true"))
    np.testing.assert_array_equal(read_array(tmp_path / "a.h5", "bytes")[0], P)
    h5(tmp_path / "a.h5", P, "wrong", scale_factor=np.nan)
    with pytest.raises(DataError, match="scale_factor"):
        read_array(tmp_path / "a.h5", "wrong")


@pytest.mark.parametrize(
    "attributes",
    [
        dict(_FillValue=np.uint8(7)),
        dict(missing_value=[7, 9]),
        dict(valid_min=8),
        dict(valid_range=[8, 300]),
        dict(valid_max=100),
    ],
)
def test_missing_pixels(tmp_path, attributes):
    path = h5(tmp_path / "a.h5", P, **attributes)
    with pytest.raises(DataError) as error:
        read_array(path, "image")
    refused(error, "a.h5", "_FillValue", "pixels")
    np.testing.assert_array_equal(read_array(path, "image", mask=True)[0], P)
    whole = np.clip(P, 10, 99)
    h5(tmp_path / "b.h5", whole, **attributes)
    np.testing.assert_array_equal(read_array(tmp_path / "b.h5", "image")[0], whole)


def test_the_image_specification(tmp_path):
    path, image = tmp_path / "a.h5", dict(CLASS=np.bytes_("IMAGE"), IMAGE_VERSION=np.bytes_("1.2"))
    rgb = np.stack([P, P // 2, P // 3], -1)
    h5(path, 255 - P, "white", IMAGE_WHITE_IS_ZERO=np.uint8(1), **image)
    h5(path, P, "black", IMAGE_WHITE_IS_ZERO=np.uint8(0), **image)
    h5(path, P[::-1], "low", DISPLAY_ORIGIN=np.bytes_("LL"), **image)
    h5(path, P[::-1, ::-1], "lowright", DISPLAY_ORIGIN=np.bytes_("LR"), **image)
    for name in ("white", "black", "low", "lowright"):
        np.testing.assert_array_equal(read_array(path, name)[0], P)
    true = image | dict(IMAGE_SUBCLASS=np.bytes_("IMAGE_TRUECOLOR"))
    h5(path, rgb, "pixel", INTERLACE_MODE=np.bytes_("INTERLACE_PIXEL"), **true)
    h5(path, rgb.transpose(2, 0, 1), "plane", INTERLACE_MODE=np.bytes_("INTERLACE_PLANE"), **true)
    h5(path, rgb.transpose(0, 2, 1), "line", INTERLACE_MODE=np.bytes_("INTERLACE_LINE"), **true)
    for name in ("pixel", "plane", "line"):
        np.testing.assert_array_equal(read_array(path, name)[0], rgb)
    h5(path, P, "indexed", IMAGE_SUBCLASS=np.bytes_("IMAGE_INDEXED"), **image)
    with pytest.raises(DataError, match="palette"):
        read_array(path, "indexed")
    np.testing.assert_array_equal(read_array(path, "indexed", mask=True)[0], P)


def test_minc_and_unknown_filters_are_named(tmp_path):
    h5(tmp_path / "a.mnc", P, "minc-2.0/image/0/image")
    with pytest.raises(DataError, match="MINC is not read"):
        read_array(tmp_path / "a.mnc", "minc-2.0/image/0/image")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((20, 24))
        made.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(
            file.id, b"image", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((20, 24)), made
        )
    spoken(tmp_path / "b.h5", "image", "32001", "h5repack")


def test_axes_by_name(tmp_path):
    tags = lambda order: (
        '{"axes": [' + ", ".join(f'{{"key": "{a}", "typeFlags": 2}}' for a in order) + "]}"
    )
    path = h5(tmp_path / "a.h5", P, "yx", axistags=tags("yx"))
    h5(path, P.T, "xy", axistags=tags("xy"))
    h5(path, P, "rows")
    h5(path, P.T, "columns")
    with h5py.File(path, "a") as file:
        for name, labels in (("rows", "yx"), ("columns", "xy")):
            for k, label in enumerate(labels):
                file[name].dims[k].label = label
    for name in ("yx", "rows"):
        np.testing.assert_array_equal(read_array(path, name)[0], P)
    for name in ("xy", "columns"):
        with pytest.raises(DataError) as error:
            read_array(path, name)
        refused(error, "a.h5", "axistags", "y before x")


def test_whatever_h5py_says_of_a_damaged_file_names_it(tmp_path):
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as held:
        held["group/image"], held["link"] = np.arange(60).reshape(3, 4, 5), h5py.SoftLink("/group/image")
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 150):
        file.write_bytes(whole[:at] + bytes(min(64, len(whole) - at)) + whole[at + 64:])
        for read in (array_names, lambda path: read_array(path, "link"), lambda path: has_array(path, "link")):
            try: read(file)
            except DataError as error: assert "a.h5" in str(error)


def test_groups_without_end_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        place = file
        for _ in range(70): place = place.create_group("g")
        place["image"] = np.zeros((3, 4))
    with pytest.raises(DataError) as error: array_names(tmp_path / "a.h5")
    refused(error, "without end", "a.h5")
