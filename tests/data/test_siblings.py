"Files that say something about their numbers, in formats and readers of all kinds: right, or refused by name."

import json

import h5py
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import TacoError
from taco.data.find import read
from taco.data.formats.stack import write_series
from tests.data.formats.dicoms import dicom, item
from tests.data.made import HEAD, card_of

MAPS = HEAD.replace('"boxes"', '"semantic"')
MASK = np.zeros((24, 20), np.uint8)
MASK[4:12, 3:9], MASK[14:20, 10:18] = 1, 2
FILM = np.arange(480, dtype=np.uint16).reshape(24, 20)
PAIR = 'reader = "pairs"\nimages = "re:(.*)_img[.].*"\nmasks = "re:(.*)_mask[.].*"\nwindow = [0, 479]\n'
DICOM = PAIR.replace("pairs", "dicom")
VOLUME = PAIR.replace("pairs", "volumes") + 'slices = "all"\n'
H5 = 'reader = "hdf5"\nfiles = "*.h5"\nimage = "image"\nlabel = "label"\nwindow = [0, 479]\n'
NPZ = 'reader = "npz"\nfile = "a.npz"\nwindow = [0, 479]\n'


def lying(array):
    return np.ascontiguousarray(array[::-1, ::-1].T[:, :, None])


def film(home, name="a_img.tif", array=FILM, **how):
    tifffile.imwrite(home / name, array, photometric=how.pop("photometric", "minisblack"), **how)


def tiff(array, **how):
    def make(home):
        film(home)
        film(home, "a_mask.tif", array, **how)
    return make


def png(array, mode=None, **how):
    def make(home):
        film(home)
        image = Image.fromarray(array, mode) if mode else Image.fromarray(array)
        for name, value in how.pop("after", {}).items():
            getattr(image, name)(value)
        image.save(home / "a_mask.png", **how)
    return make


def nifti(array, image=FILM, slope=None, inter=0, affine=None, kind=nibabel.Nifti1Image, end="nii"):
    def make(home):
        nibabel.save(nibabel.Nifti1Image(lying(image), np.eye(4)), home / "a_img.nii")
        mask = kind(lying(array), np.eye(4) if affine is None else affine)
        nibabel.save(mask, home / f"a_mask.{end}")
        if slope is None:
            return
        raw = bytearray((home / "a_mask.nii").read_bytes())  # nibabel recomputes what it writes
        raw[112:120] = np.array([slope, inter], "<f4").tobytes()
        (home / "a_mask.nii").write_bytes(raw)
    return make


def flipped(home):
    "A label volume stored from the other side, with an affine that says so."
    nifti(MASK)(home)
    affine = np.diag([-1.0, 1, 1, 1])
    affine[0, 3] = 19
    nibabel.save(nibabel.Nifti1Image(lying(MASK)[::-1], affine), home / "a_mask.nii")


def of_nrrd(array, **more):
    def make(home):
        nibabel.save(nibabel.Nifti1Image(lying(FILM), np.eye(4)), home / "a_img.nii")
        header = {"space": "right-anterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
        nrrd.write(str(home / "a_mask.nrrd"), lying(array), header | more)
    return make


def meta(array, word, **more):
    def make(home):
        nibabel.save(nibabel.Nifti1Image(lying(FILM), np.eye(4)), home / "a_img.nii")
        lines = dict(ObjectType="Image", NDims=3, DimSize="20 24 1", ElementType=word, ElementSpacing="1 1 1",
                     TransformMatrix="-1 0 0 0 -1 0 0 0 1", **more, ElementDataFile="LOCAL")
        head = "".join(f"{k} = {v}\n" for k, v in lines.items())
        (home / "a_mask.mha").write_bytes(head.encode() + lying(array).T.tobytes())
    return make


def hdf5(array, image=FILM, **how):
    def make(home):
        with h5py.File(home / "a.h5", "w") as file:
            file["image"] = image
            file.create_dataset("label", data=array, **{k: v for k, v in how.items() if k != "attrs"})
            file["label"].attrs.update(how.get("attrs", {}))
    return make


def npz(array, image=FILM):
    return lambda home: np.savez(home / "a.npz", train_images=image[None], train_label=array[None])


def dcm(array, **more):
    def make(home):
        dicom(home / "a_img.dcm", FILM)
        dicom(home / "a_mask.dcm", array, **more)
    return make


def objects(home):
    film(home)
    tifffile.imwrite(home / "a_mask.tif", np.select([MASK == 1, MASK == 2], [7, 2**32 + 7]).astype(np.uint64))


def palette(home):
    film(home)
    image = Image.fromarray(MASK, "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    image.save(home / "a_mask.png", transparency=0)


def gif(home):
    film(home)
    frames = [Image.fromarray(MASK * 100), Image.fromarray(MASK * 50)]
    frames[0].save(home / "a_mask.gif", save_all=True, append_images=frames[1:], disposal=2)


def planes(home):
    "An image whose colours lie in planes of their own."
    film(home, array=np.stack([FILM, FILM, FILM]), photometric="rgb", planarconfig="separate")
    film(home, "a_mask.tif", MASK)


def deep(home):
    import imagecodecs
    (home / "a_img.png").write_bytes(imagecodecs.png_encode(np.stack([FILM] * 3, -1)))
    film(home, "a_mask.tif", MASK)


def with_nan(home):
    image = FILM.astype(np.float32)
    image[0, 0] = np.nan
    film(home, array=image)
    film(home, "a_mask.tif", MASK)


def matlab(home):
    with h5py.File(home / "a.h5", "w") as file:
        for name, array in (("image", FILM), ("label", MASK)):
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_(array.dtype.name)


def rle(array):
    "Run lengths of COCO, column by column."
    flat = array.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.r_[0, flat, 0]))
    return np.diff(np.r_[0, edges, len(flat)]).tolist()


def turned(home):
    "A TIFF whose first pixel is the lower right one; the mask is as seen."
    film(home, array=FILM[::-1, ::-1], extratags=[(274, "H", 1, 3, True)])
    film(home, "a_mask.tif", MASK)


def white_is_zero(home):
    film(home, array=(479 - FILM).astype(np.uint16) + (65535 - 479), photometric="miniswhite")
    film(home, "a_mask.tif", MASK)


def two_windows(home):
    dicom(home / "a_img.dcm", FILM, WindowCenter=[240, 9], WindowWidth=[480, 3])
    dicom(home / "a_mask.dcm", MASK)


NAMED = MASK.astype("u1")
RIGHT = {
    "TIFF, 16 bits, big endian": (PAIR, tiff(MASK.astype(">u2"), byteorder=">")),
    "TIFF, 32 bits, floats": (PAIR, tiff(MASK.astype(np.float32))),
    "TIFF, signed": (PAIR, tiff(MASK.astype(np.int16))),
    "TIFF, in tiles": (PAIR, tiff(MASK, tile=(16, 16), compression="deflate", predictor=True)),
    "TIFF, BigTIFF": (PAIR, tiff(MASK, bigtiff=True)),
    "TIFF, 16 bits, white is zero": (PAIR, tiff(65535 - MASK.astype(np.uint16), photometric="miniswhite")),
    "TIFF, colours in planes": (PAIR, planes),
    "TIFF, the first pixel lower right": (PAIR, turned),
    "TIFF, an image in which white is zero": (PAIR, white_is_zero),
    "PNG, 16 bits": (PAIR, png(MASK.astype(np.uint16))),
    "PNG, 16 bits and colours": (PAIR, deep),
    "PNG, 2 bits": (PAIR, png(MASK, "P", after={"putpalette": [0, 0, 0, 9, 9, 9, 20, 20, 20]}, bits=2)),
    "PNG, grey and opaque": (PAIR, png(np.stack([MASK, np.full_like(MASK, 255)], -1), "LA")),
    "NIfTI, 64 bits": (VOLUME, nifti(MASK.astype(np.float64))),
    "NIfTI, slope 0 means none": (VOLUME, nifti(MASK, slope=0)),
    "NIfTI, half numbers and slope 2": (VOLUME + "values = {0 = 0, 2 = 1, 4 = 2}\n", nifti(MASK, slope=2)),
    "NIfTI, stored from the other side": (VOLUME, flipped),
    "NIfTI 2": (VOLUME, nifti(MASK, kind=nibabel.Nifti2Image)),
    "NRRD, packed": (VOLUME, of_nrrd(MASK, encoding="gzip")),
    "NRRD, 16 bits, big endian": (VOLUME, of_nrrd(MASK.astype(">i2"), encoding="raw", endian="big")),
    "MetaImage, bytes": (VOLUME, meta(MASK, "MET_UCHAR")),
    "MetaImage, big endian": (VOLUME, meta(MASK.astype(">i2"), "MET_SHORT", BinaryDataByteOrderMSB=True)),
    "HDF5, big endian": (H5, hdf5(MASK.astype(">i4"))),
    "HDF5, chunked and packed": (H5, hdf5(MASK, chunks=(8, 8), compression="gzip", shuffle=True)),
    "HDF5, floats": (H5, hdf5(MASK.astype(np.float16))),
    "HDF5, names of values": (H5, hdf5(NAMED, dtype=h5py.enum_dtype({"none": 0, "red": 1, "white": 2}, "u1"))),
    "HDF5, one axis more": (H5, hdf5(MASK[..., None], FILM[..., None])),
    "HDF5, lower left corner": (H5, hdf5(MASK[::-1], attrs={"CLASS": "IMAGE", "DISPLAY_ORIGIN": "LL"})),
    "MATLAB": (H5, matlab),
    "npz, big endian": (NPZ, npz(MASK.astype(">u2"), FILM.astype(">u2"))),
    "npz, floats": (NPZ, npz(MASK.astype(np.float64))),
    "npz, channels first": (NPZ, npz(MASK[None], np.stack([FILM] * 3))),
    "DICOM, classes in MONOCHROME1": (DICOM, dcm(MASK, PhotometricInterpretation="MONOCHROME1")),
    "DICOM, as a picture": (PAIR, dcm(MASK, PhotometricInterpretation="MONOCHROME1")),
    "DICOM, numbers with a slope": (DICOM + "values = {0 = 0, 5 = 1, 10 = 2}\n",
                                    dcm(MASK, RescaleSlope=5, RescaleIntercept=0)),
    "DICOM, as a picture with a slope": (PAIR + "values = {10 = 0, 15 = 1, 20 = 2}\n",
                                         dcm(MASK, RescaleSlope=5, RescaleIntercept=10)),
    "DICOM, two windows": (DICOM.replace("window = [0, 479]\n", ""), two_windows),
}
WRONG = {
    "TIFF, signed and negative": (PAIR, tiff(-MASK.astype(np.int16)), "-2, -1"),
    "TIFF, more than a byte": (PAIR, tiff(MASK.astype(np.uint16) * 257), "257"),
    "TIFF, 64 bits that would become one": (PAIR, tiff(MASK.astype(np.uint64) * (2**32 + 1)), "4294967297"),
    "TIFF, several pages": (PAIR, tiff(np.stack([MASK, MASK * 0])), "page"),
    "TIFF, halves": (PAIR, tiff(MASK * np.float32(0.5)), "whole numbers"),
    "TIFF, an image with a hole": (PAIR, with_nan, "1 NaN"),
    "PNG, clear where the palette is white": (PAIR, png(np.dstack([MASK * 0, MASK * 100]), "LA"), "mask"),
    "GIF, several pictures": (PAIR, gif, "page"),
    "NIfTI, an offset": (VOLUME, nifti(MASK, slope=1, inter=0.5), "whole numbers"),
    "NIfTI, another place": (VOLUME, nifti(MASK, affine=np.diag([1, 1, 1, 1]) + np.eye(4, k=3) * 9), "does not lie"),
    "NIfTI, 64 bits that would become one": (VOLUME, nifti(MASK * np.float64(2**32 + 1)), "4294967297"),
    "MetaImage, text": (VOLUME, meta(MASK, "MET_UCHAR", BinaryData=False), "BinaryData"),
    "MetaImage, an axis of RGB": (VOLUME, meta(np.repeat(MASK, 3, 1), "MET_UCHAR", ElementNumberOfChannels=3), "mask"),
    "HDF5, shifted by an offset": (H5, hdf5(MASK, attrs={"add_offset": 0.5}), "whole numbers"),
    "HDF5, other names": (H5, hdf5(NAMED, dtype=h5py.enum_dtype({"white": 1, "red": 2}, "u1")), "1 = white"),
    "HDF5, turned": (H5, hdf5(MASK.T), "one shape"),
    "HDF5, words": (H5, hdf5(MASK.astype("S1")), "plain numbers"),
    "npz, a share": (NPZ, npz(MASK / 2), "whole numbers"),
    "npz, too many axes": (NPZ, npz(MASK, FILM[None, None]), "train_images"),
    "DICOM, slope 0": (DICOM, dcm(MASK, RescaleSlope=0, RescaleIntercept=0), "RescaleSlope"),
    "DICOM, as a picture with slope 0": (PAIR, dcm(MASK, RescaleSlope=0, RescaleIntercept=0), "RescaleSlope"),
    "DICOM, a share": (DICOM, dcm(MASK, RescaleSlope=0.5, RescaleIntercept=0), "whole numbers"),
    "DICOM, white ground": (PAIR, dcm(MASK // 2 * 255, PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    "DICOM, white ground, nothing drawn": (
        PAIR + "values = {0 = 0, 255 = 1}\n", dcm(MASK * 0, PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    "DICOM, more frames than one": (DICOM, dcm(np.stack([MASK, MASK]), frames=True), "frames"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_read_as_the_file_means_it(tmp_path, name):
    text, make = RIGHT[name]
    (tmp_path / "toy").mkdir()
    make(tmp_path / "toy")
    (record,) = read(card_of(text, MAPS), tmp_path, "real")
    np.testing.assert_array_equal(record.semantic, MASK)
    np.testing.assert_allclose(record.image[0], FILM / 479, atol=1e-5)


@pytest.mark.parametrize("name", WRONG)
def test_refused_by_name(tmp_path, name):
    text, make, word = WRONG[name]
    (tmp_path / "toy").mkdir()
    make(tmp_path / "toy")
    with pytest.raises(TacoError) as error:
        list(read(card_of(text, MAPS), tmp_path, "real"))
    message = str(error.value)
    assert word in message and error.value.fix and "A reader failed" not in message, message


def test_objects_of_many_bits_stay_apart(tmp_path):
    (tmp_path / "toy").mkdir()
    objects(tmp_path / "toy")
    (record,) = read(card_of(PAIR + "objects = true\n", MAPS), tmp_path, "real")
    assert [len(np.unique(record.instances[k == MASK])) for k in (1, 2)] == [1, 1]
    assert len(np.unique(record.instances)) == 3


def test_a_palette_whose_ground_is_clear(tmp_path):
    (tmp_path / "toy").mkdir()
    palette(tmp_path / "toy")
    try:
        (record,) = read(card_of(PAIR, MAPS), tmp_path, "real")
    except TacoError as error:
        assert "a_mask.png" in str(error) and error.fix
    else:
        np.testing.assert_array_equal(record.semantic, MASK)


def test_runs_of_coco(tmp_path):
    home = tmp_path / "toy"
    home.mkdir()
    Image.fromarray((FILM // 2).astype(np.uint8)).save(home / "a.png")
    things = [
        dict(id=n, image_id=5, category_id=n, iscrowd=0, area=48, bbox=[x, y, w, h],
             segmentation=dict(size=[24, 20], counts=rle(n == MASK)))
        for n, (x, y, w, h) in {1: (3, 4, 6, 8), 2: (10, 14, 8, 6)}.items()]
    kinds = [dict(id=1, name="red"), dict(id=2, name="white")]
    images = [dict(id=5, file_name="a.png", width=20, height=24)]
    (home / "all.json").write_text(json.dumps(dict(images=images, annotations=things, categories=kinds)))
    text = 'reader = "coco"\nimages = "*.png"\nannotations = "all.json"\n'
    (record,) = read(card_of(text, MAPS), tmp_path, "real")
    np.testing.assert_array_equal(record.semantic, MASK)


def test_a_series_shows_the_first_of_two_windows_and_no_table(tmp_path):
    volume = np.tile(np.arange(20, dtype=np.int16)[:, None, None] * 10, (1, 24, 3))
    write_series(tmp_path / "toy/p", volume, WindowCenter=[100, 0], WindowWidth=[201, 9])
    text = 'reader = "dicom"\nseries = true\nimages = "re:(?P<id>p)/.*"\n'
    for record in read(card_of(text, MAPS.replace('"semantic"', '"none"')), tmp_path, "real"):
        np.testing.assert_allclose(record.image[0], ((volume[::-1, ::-1, 0].T + 0.5) / 200).clip(0, 1), atol=1e-5)
    table = item(LUTDescriptor=[3, 0, 8])
    table.add_new("LUTData", "OW", np.array([0, 9, 255], "<u2").tobytes())
    write_series(tmp_path / "toy/p", volume, VOILUTSequence=[table])
    with pytest.raises(TacoError, match="VOILUTSequence"):
        list(read(card_of(text, MAPS), tmp_path, "real"))
    assert len(list(read(card_of(text + "window = [0, 200]\n", MAPS), tmp_path, "real"))) == 3  # the fix
