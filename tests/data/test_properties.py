"What is written by others is read as it was written, and what we write ourselves comes back: by hypothesis."

import csv
import json
import tomllib

import h5py
import nibabel
import numpy as np
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from taco.atlas.use.explorer import script_json
from taco.base import TacoError, write_json
from taco.data.annotations.yolo import read_rows
from taco.data.formats.hdf5 import read_array as read_hdf5
from taco.data.formats.npz import Stream
from taco.data.formats.raster import read_mask, read_pixels
from taco.data.formats.scans import read_scan
from taco.data.guess.draft import toml
from taco.data.readers.pixels import stretch, to_labels, to_unit
from taco.data.readers.source import example_card
from taco.data.readers.tables import read_table
from taco.reading import plain_yaml, read_array, read_arrays, read_json

some = settings(max_examples=25, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.tuples(st.integers(1, 17), st.integers(1, 17))
finite = dict(allow_nan=False, allow_infinity=False)


def arrays(dtype, shape=sides, **elements): return hnp.arrays(dtype, shape, elements=elements or None)


@some
@given(arrays(np.uint8) | arrays(np.uint16))
def test_png(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.png")
    for found in (read_pixels(tmp_path / "a.png"), read_mask(tmp_path / "a.png", False)):
        assert (found == values).all() and found.shape == values.shape


@some
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.sampled_from(["png", "webp"]))
def test_colours(tmp_path, values, end):
    Image.fromarray(values).save(tmp_path / f"a.{end}", lossless=True)
    assert (read_pixels(tmp_path / f"a.{end}") == values).all()


@some
@given(st.one_of(arrays(np.uint8), arrays(np.int16), arrays(np.uint16), arrays(np.float32, **finite)),
       st.sampled_from([None, "zlib", "lzw"]))
def test_tiff(tmp_path, values, packed):
    tifffile.imwrite(tmp_path / "a.tif", values, compression=packed, photometric="minisblack")
    found = read_pixels(tmp_path / "a.tif")
    assert found.dtype == values.dtype and (found == values).all()


@some
@given(arrays(np.int16, st.tuples(*[st.integers(2, 6)] * 3)), st.permutations(range(3)),
       st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3), st.booleans())
def test_nifti_in_every_orientation(tmp_path, voxels, axes, signs, packed):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * np.array(signs) * [0.5, 1.0, 2.0]
    file = tmp_path / ("a.nii.gz" if packed else "a.nii")
    nibabel.save(nibabel.Nifti1Image(voxels, affine), file)
    scan, other = read_scan(file), nibabel.as_closest_canonical(nibabel.load(file))
    back = nibabel.orientations.io_orientation(scan.affine)
    ours = nibabel.Nifti1Image(scan.voxels, scan.affine).as_reoriented(back)
    assert (np.asanyarray(ours.dataobj) == np.asanyarray(other.dataobj)).all()
    assert np.allclose(ours.affine, other.affine) and sorted(scan.spacing.tolist()) == [0.5, 1.0, 2.0]


@some
@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))), st.booleans(),
       st.booleans(), st.permutations(range(5)))
def test_rows_of_npz_in_any_order(tmp_path, rows, packed, fortran, order):
    save = np.savez_compressed if packed else np.savez
    save(tmp_path / "a.npz", x=np.asfortranarray(rows) if fortran else rows)
    stream = Stream(tmp_path / "a.npz", "x")
    for i in order:
        if i < len(rows): assert (stream.row(i) == rows[i]).all()
    assert (read_arrays(tmp_path / "a.npz")["x"] == rows).all()


@some
@given(hnp.arrays(hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes(sizes=(32, 64)) | st.just(np.dtype(bool)),
                  hnp.array_shapes(max_dims=4, max_side=5)))
def test_arrays(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == values.dtype and found.tobytes() == values.tobytes()
    with h5py.File(tmp_path / "a.h5", "w") as file: file["x"] = values
    assert read_hdf5(tmp_path / "a.h5", "x")[0].tobytes() == values.tobytes()


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@some
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_tables_of_any_words(tmp_path, rows):
    rows = [(a, b) for a, b in rows if a.strip() or b.strip()]
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("key", "value"), *rows])
    found = read_table(tmp_path / "a.csv", dict(key="key", value="value"))
    stripped = [tuple(map(str.strip, row)) for row in rows]
    assert [tuple(map(str.strip, row)) for row in found[["key", "value"]].to_numpy().tolist()] == stripped


single = st.integers(-2**60, 2**60) | st.floats(**finite) | st.booleans() | words
several = lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4)
values = st.recursive(single, several, max_leaves=12)
tables = st.dictionaries(words.filter(lambda word: word != "digest"), values, max_size=5)


@some
@given(tables)
def test_sealed_tables(tmp_path, table):
    write_json(tmp_path / "a.json", table, seal=True)
    found = read_json(tmp_path / "a.json", seal=True)
    assert {k: v for k, v in found.items() if k != "digest"} == table
    assert plain_yaml(json.dumps(table).replace("\x7f", " ")) is not None


@some
@given(tables)
def test_what_a_script_holds_is_text_and_ends_no_element(table):
    text = script_json(table)
    assert json.loads(text) == table and not set("<>&\u2028\u2029") & set(text)


@some
@given(st.dictionaries(words, st.integers(-2**60, 2**60) | words | st.booleans() | st.lists(words, max_size=3),
                       max_size=4))
def test_drafts_are_toml(table):
    assert tomllib.loads(f"x = {toml(table)}") == dict(x=table)


boxes = st.lists(st.tuples(st.integers(0, 2), *[st.floats(0.01, 0.49)] * 4), min_size=1, max_size=6)


@some
@given(boxes)
def test_rows_of_boxes(tmp_path, rows):
    (tmp_path / "a.txt").write_text("".join(" ".join(map(repr, row)) + "\n" for row in rows))
    found = read_rows(tmp_path / "a.txt")
    assert len(found) == len(rows)


@some
@given(arrays(np.uint8, sides, min_value=0, max_value=2), st.permutations([7, 90, 255]))
def test_labels_by_any_numbers(classes, numbers):
    card = example_card()
    mask = np.array(numbers, np.uint8)[classes]
    rule = dict(values={str(number): value for value, number in enumerate(numbers)})
    assert (to_labels(mask, card, rule, "a.png") == classes).all()
    both = np.stack([mask] * 3, -1)
    assert (to_labels(both, card, rule, "a.png") == classes).all()


@some
@given(arrays(np.float64, sides, **finite) | arrays(np.int64) | arrays(np.uint16) | arrays(bool))
def test_any_numbers_become_a_picture_or_are_refused(values):
    try: unit = to_unit(values, file="a.tif")
    except TacoError as error:
        assert "a.tif" in str(error)
        return
    assert unit.dtype == np.float32 and unit.shape == (1, *values.shape)
    assert np.isfinite(unit).all() and unit.min() >= 0 and unit.max() <= 1
    low, high = float(values.min()), float(values.max())
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(stretch(values, low, high).ravel()[order]) >= 0).all(), "a brighter value became a darker one"
