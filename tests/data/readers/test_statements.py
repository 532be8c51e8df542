"What a file says beside its numbers: names of values, companions, names in other capitals, words that mean nothing."

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from taco.base import CardError, DataError
from taco.data.check import as_dict, check
from taco.data.find import read
from tests.data.formats.dicoms import dicom
from tests.data.made import HDF5, HEAD, TABLE, card_of, refused, voc

HEAD_MAPS = HEAD.replace('"boxes"', '"semantic"')
MASK = np.zeros((24, 20), np.uint8)
MASK[4:12, 3:9], MASK[14:20, 10:18] = 1, 2
FILM = np.arange(480, dtype=np.uint16).reshape(24, 20)


def enumerated(path, names: dict, mask=MASK):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image"] = FILM
        file.create_dataset("label", data=mask, dtype=h5py.enum_dtype(names, basetype="u1"))


@pytest.mark.parametrize(
    "names, words, fixed",
    [
        ({"background": 0, "red": 1, "White": 2}, None, MASK),
        ({"ground": 0, "white": 1, "red": 2}, "1 = white, 2 = red", np.array([0, 2, 1])[MASK]),
        ({"red": 0, "white": 1, "back": 2}, "0 = red, 1 = white", np.array([1, 2, 2])[MASK]),
        ({"nothing": 0, "leucocyte": 1, "white": 2}, "1 = leucocyte", MASK),
    ],
)
def test_names_of_values_are_those_of_the_card(tmp_path, names, words, fixed):
    enumerated(tmp_path / "toy/a.h5", names)
    if words:
        message = refused(DataError, card_of(HDF5, HEAD_MAPS), tmp_path, "a.h5[label]", words, "2 = white")
        more = message.partition("values = {")[2].partition("}")[0]
        (record,) = read(card_of(HDF5 + f"values = {{{more}}}\n", HEAD_MAPS), tmp_path)  # the fix
    else:
        (record,) = read(card_of(HDF5, HEAD_MAPS), tmp_path)
    np.testing.assert_array_equal(record.semantic, fixed)


def test_values_of_the_card_are_held_against_the_names(tmp_path):
    enumerated(tmp_path / "toy/a.h5", {"white": 1, "red": 2})
    refused(DataError, card_of(HDF5 + "values = {0 = 0, 1 = 1, 2 = 2}\n", HEAD_MAPS), tmp_path, "1 = white")
    (record,) = read(card_of(HDF5 + "values = {0 = 0, 1 = 2, 2 = 1}\n", HEAD_MAPS), tmp_path)
    np.testing.assert_array_equal(record.semantic, np.array([0, 2, 1])[MASK])
    (record,) = read(card_of(HDF5 + 'values = "nonzero"\n', HEAD_MAPS), tmp_path)
    np.testing.assert_array_equal(record.semantic, MASK > 0)
    enumerated(tmp_path / "toy/a.h5", {"white": 1, "red": 2}, MASK * 0)  # names of values that do not occur
    (record,) = read(card_of(HDF5, HEAD_MAPS), tmp_path)
    assert not record.semantic.any()


@pytest.mark.parametrize("reader", ["pairs", "dicom"])
@pytest.mark.parametrize("stored", [MASK, MASK * 3, MASK * 0])
def test_a_map_of_classes_is_never_turned(tmp_path, reader, stored):
    "MONOCHROME1 speaks of shades; classes 1, 2, 3 are none."
    dicom(tmp_path / "toy/a_img.dcm", FILM)
    dicom(tmp_path / "toy/a_mask.dcm", stored, PhotometricInterpretation="MONOCHROME1")
    lines = f'reader = "{reader}"\nimages = "*_img.dcm"\nmasks = "*_mask.dcm"\nwindow = [0, 479]\n'
    if stored.max() > 3:
        refused(DataError, card_of(lines, HEAD_MAPS), tmp_path, "a_mask.dcm", "does not declare")
        return
    (record,) = read(card_of(lines, HEAD_MAPS), tmp_path)
    np.testing.assert_array_equal(record.semantic, stored)
    np.testing.assert_allclose(record.image[0], FILM / 479, atol=1e-6)


def test_files_beside_a_header_belong_to_it(tmp_path):
    home = tmp_path / "toy"
    home.mkdir()
    voxels = np.arange(6 * 8 * 5, dtype=np.int16).reshape(6, 8, 5)
    nibabel.save(nibabel.Nifti1Pair(voxels, np.eye(4)), home / "a.hdr")
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 6 8 5\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    (home / "b.mhd").write_text(meta + "ElementDataFile = B_data.raw\n")
    (home / "B_data.raw").write_bytes(voxels.T.tobytes())
    sizes = "dimension: 3\nsizes: 6 8 5\nspace: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    (home / "c.nhdr").write_text(f"NRRD0004\ntype: int16\nendian: little\nencoding: raw\n{sizes}data file: c.img.raw\n")
    (home / "c.img.raw").write_bytes(voxels.T.tobytes())
    (home / "stray.raw").write_bytes(b"1234")
    lines = 'reader = "volumes"\nimages = "*.{hdr,mhd,nhdr}"\nwindow = [0, 239]\n'
    counts = as_dict(check(card_of(lines, HEAD_MAPS.replace('"semantic"', '"none"')), tmp_path))["counts"]
    assert counts["seen"] == 7 and counts["read"] == 6
    assert [row["all"] for row in counts["why"]] == [["stray.raw"]]
    records = list(read(card_of(lines, HEAD_MAPS), tmp_path))
    assert len(records) == 15 and {r.image.shape[1:] for r in records} == {(8, 6)}


def cells(home, name: str):
    home.mkdir(exist_ok=True)
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(home / name)


def test_a_table_that_names_a_file_in_other_capitals(tmp_path):
    home = tmp_path / "toy"
    cells(home, "x.png")
    (home / "all.csv").write_text("file,x0,y0,x1,y1,kind\nX.PNG,10,12,30,32,red\n")
    lenient = TABLE + 'absent_images = "skip"\nunlabelled = "empty"\n'
    for text in (TABLE, lenient):
        (record,) = read(card_of(text), tmp_path)
        np.testing.assert_allclose(record.boxes, [[10 / 80, 12 / 60, 30 / 80, 32 / 60]], atol=1e-6)
    cells(home, "X.Png")  # two files, told apart by capitals alone: here the nearest ending decides
    text = TABLE.replace('"*.png"', '"*.{png,Png}"').replace("all.csv", "*.csv") + 'unlabelled = "empty"\n'
    found = {r.key: len(r.boxes) for r in read(card_of(text), tmp_path)}
    assert found == {"x": 0, "X": 1}
    (home / "all.csv").write_text("file,x0,y0,x1,y1,kind\nx.PNG,10,12,30,32,red\n")
    assert {r.key: len(r.boxes) for r in read(card_of(text), tmp_path)} == {"x": 1, "X": 0}
    cells(home, "Yy.png")
    cells(home, "yY.png")
    (home / "all.csv").write_text("file,x0,y0,x1,y1,kind\nYY.png,10,12,30,32,red\n")
    refused(CardError, card_of(text), tmp_path, "YY.png", "Two images")


def test_an_annotation_in_other_capitals_is_never_left_out_in_silence(tmp_path):
    home = tmp_path / "toy"
    cells(home, "x.png")
    (home / "X.xml").write_text(voc())
    text = 'reader = "voc"\nimages = "*.png"\nannotations = "*.xml"\nabsent_images = "skip"\nunlabelled = "keep"\n'
    refused(DataError, card_of(text), tmp_path, "X.xml", "no image for 'X', but one for 'x'", "one name")
    (home / "X.xml").rename(home / "x.xml")  # the fix
    (record,) = read(card_of(text), tmp_path)
    assert len(record.boxes) == 2
    (home / "z.xml").write_text(voc())
    assert len(list(read(card_of(text), tmp_path))) == 1


def test_check_counts_the_files_with_several_windows(tmp_path):
    for name, more in (("a", dict(WindowCenter=[40, 300], WindowWidth=[80, 600])), ("b", {})):
        dicom(tmp_path / f"toy/{name}.dcm", FILM, **more)
    found = check(card_of('reader = "dicom"\nimages = "*.dcm"\n', HEAD_MAPS.replace('"semantic"', '"none"')), tmp_path)
    (note,) = [n for n in found.notes if "grey scales" in n]
    assert found.ok and note.startswith("1 DICOM file proposes") and "[0, 79] of [0, 79], [0, 599]" in note
    assert "a.dcm" in note


def test_a_number_that_means_missing_is_no_class(tmp_path):
    home = tmp_path / "toy"
    home.mkdir()
    with h5py.File(home / "a.h5", "w") as file:
        file["image"], file["label"] = FILM, MASK
        file["label"].attrs["_FillValue"] = np.uint8(1)
    refused(DataError, card_of(HDF5, HEAD_MAPS), tmp_path, "a.h5[label]", "_FillValue", "1 in 48", "ignore = 1")
    (record,) = read(card_of(HDF5 + "ignore = 1\n", HEAD_MAPS), tmp_path)  # the fix
    np.testing.assert_array_equal(record.ignore, MASK == 1)
    np.testing.assert_array_equal(record.semantic, np.where(MASK == 1, 0, MASK))
    (record,) = read(card_of(HDF5 + "values = {0 = 0, 1 = 1, 2 = 2}\n", HEAD_MAPS), tmp_path)  # and the other
    np.testing.assert_array_equal(record.semantic, MASK)
    with h5py.File(home / "a.h5", "a") as file:
        file["label"].attrs["_FillValue"] = np.uint8(0)
    (record,) = read(card_of(HDF5, HEAD_MAPS), tmp_path)
    np.testing.assert_array_equal(record.semantic, MASK)


def test_a_mask_of_several_channels_has_an_advice_that_its_reader_knows(tmp_path):
    (tmp_path / "toy").mkdir()
    layers = np.stack([k == MASK for k in range(3)], -1)
    np.savez(tmp_path / "toy/a.npz", train_images=FILM[None], train_label=layers[None])
    message = refused(DataError, card_of('reader = "npz"\nfile = "a.npz"\n', HEAD_MAPS), tmp_path, "several channels")
    assert "colours" not in message and "one number a pixel" in message
    np.savez(tmp_path / "toy/a.npz", train_images=FILM[None], train_label=layers.argmax(-1)[None])
    (record,) = read(card_of('reader = "npz"\nfile = "a.npz"\n', HEAD_MAPS), tmp_path)  # the fix
    np.testing.assert_array_equal(record.semantic, MASK)
