"A DICOM series and its labels become records."

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from taco.base import CardError, DataError
from taco.data.find import find, read
from taco.data.formats.stack import series_scan, write_series
from taco.data.readers.dicom import pseudonym
from tests.data.formats.dicoms import changed, dicom, outlines, segmentation
from tests.data.formats.test_stack import sphere
from tests.data.readers.bodies import card, refused

SERIES = 'reader = "dicom"\nimages = "*/*.dcm"\nseries = true\n'


def test_a_series_is_sorted_and_placed(tmp_path):
    files = write_series(tmp_path / "P1", sphere(), (0.7, 0.8, 2.5))
    scan = series_scan(sorted(files))
    np.testing.assert_array_equal(scan.voxels, sphere())
    np.testing.assert_allclose(scan.spacing, [0.7, 0.8, 2.5])
    labels = np.zeros(sphere().shape, np.uint8)
    labels[4:12, 5:15, 3:9] = 1
    nibabel.save(nibabel.Nifti1Image(labels, scan.affine), tmp_path / "P1_organ.nii.gz")
    text = SERIES + 'masks = "*_organ.nii.gz"\nwindow = [-1000, 100]\naxis = "coronal"\n'
    record = next(read(card(text), tmp_path, "real"))
    assert (
        record.slice == 5
        and record.spacing == pytest.approx((2.5, 0.7))
        and record.subject == pseudonym("P1")
    )
    np.testing.assert_array_equal(record.semantic, labels[:, 5].T[::-1, ::-1])
    np.testing.assert_allclose(
        record.image[0], ((sphere()[:, 5].T[::-1, ::-1] + 1000) / 1100).clip(0, 1), atol=1e-5
    )
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "P1_organ.nii.gz")
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card(text), tmp_path, "real"))
    for path in files:
        path.rename(tmp_path / path.name)
    write_series(tmp_path / "P2", sphere(), patient="B")
    messages = []
    for found in find(
        card(text), tmp_path, "real"
    ).items:  # labels without a series, a series without labels
        with pytest.raises(DataError) as error:
            found.load()
        messages.append(error.value.what)
    assert messages == [
        "The series of a label volume is missing.",
        "The label volume of a series is missing.",
    ]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(SeriesInstanceUID="1.2.3"), ("SeriesInstanceUID", "1.2.3")),
        (dict(PixelSpacing=[2, 2]), ("PixelSpacing",)),
        (dict(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ("ImageOrientationPatient",)),
        (dict(ImagePositionPatient=[0, 0, 7]), ("evenly spaced", "mm")),
        (dict(ImagePositionPatient=[0, 0, 8]), ("at one place", "doubled")),
    ],
)
def test_mixed_series_are_refused(tmp_path, change, words):
    files = write_series(tmp_path / "P1", sphere())
    data = pydicom.dcmread(files[3])
    for key, value in change.items():
        setattr(data, key, value)
    data.save_as(files[3])
    with pytest.raises(DataError) as error:
        list(read(card(SERIES, "none"), tmp_path, "real"))
    refused(error, ".dcm", *words)


def test_one_series_of_several_by_its_description(tmp_path):
    write_series(tmp_path / "P1", sphere(), SeriesDescription="portal venous")
    for path in write_series(tmp_path / "spare", sphere()[:, :, :4], SeriesDescription="scout"):
        path.rename(tmp_path / "P1" / f"scout_{path.name}")
    with pytest.raises(DataError, match="not one series"):
        list(read(card(SERIES, "none"), tmp_path, "real"))
    records = list(read(card(SERIES.replace("true", '"portal"'), "none"), tmp_path, "real"))
    assert (
        len(records) == sphere().shape[2]
        and {r.subject for r in records} == {pseudonym("P1")}
        and records[0].semantic is None
    )
    with pytest.raises(DataError, match="No series has this description"):
        list(read(card(SERIES.replace("true", '"arterial"'), "none"), tmp_path, "real"))


def marked(folder, **attributes):
    "A body in slices, its files in order of the body, and a mark (P, H, W) as DICOM counts."
    write_series(folder / "P1", sphere(), **attributes)
    files = sorted((folder / "P1").iterdir(), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))
    mark = np.zeros((12, 20, 16), np.uint8)
    mark[3, 4:8, 2:5], mark[7, 10:12, 9:14] = 1, 1
    return files, mark


TABLE = SERIES + 'window = [-1000, 100]\nslices = "all"\n'


def all_labels(text: str, folder) -> np.ndarray:
    return np.stack([r.semantic for r in read(card(TABLE + text), folder, "real")])


def test_segments_of_a_series_become_classes_by_name(tmp_path):
    files, mark = marked(tmp_path)
    frames, images = np.stack([mark[7], mark[3]]), [files[7], files[3]]
    text = 'masks = "*_seg.dcm"\n'
    segmentation(tmp_path / "P1_seg.dcm", frames, [2, 1], {1: "Lesion", 2: "organ"}, images)
    expected = np.zeros((12, 20, 16), int)
    expected[3], expected[7] = 2 * mark[3], mark[7]
    np.testing.assert_array_equal(all_labels(text, tmp_path), expected)
    expected[3] = mark[3]
    np.testing.assert_array_equal(all_labels(text + "segments = {lesion = 1, organ = 1}", tmp_path), expected)
    np.testing.assert_array_equal(all_labels(text + "values = {1 = 1, 2 = 1}", tmp_path), expected)
    np.testing.assert_array_equal(all_labels('masks = {1 = "*_seg.dcm"}', tmp_path), expected)
    expected[7] = 0
    np.testing.assert_array_equal(all_labels(text + "segments = {Lesion = 1, 2 = 0}", tmp_path), expected)
    segmentation(tmp_path / "P1_seg.dcm", frames, [2, 1], {1: "tumour", 2: "organ"}, images)
    for more in ("", "segments = {organ = 1}", "values = {2 = 1}"):
        with pytest.raises(DataError) as error:
            all_labels(text + more, tmp_path)
        refused(error, "P1_seg.dcm", "tumour", 'segments = {"tumour" = 0, "organ" = 1}')
    expected[3], expected[7] = 0, mark[7]
    np.testing.assert_array_equal(all_labels(text + 'segments = {"tumour" = 0, "organ" = 1}', tmp_path), expected)


def test_regions_that_overlap(tmp_path):
    files, mark = marked(tmp_path)
    inner = mark[3].copy()
    inner[:6] = 0
    text = 'masks = "*_seg.dcm"\n'
    segmentation(
        tmp_path / "P1_seg.dcm", np.stack([inner, mark[3]]), [2, 1], {1: "organ", 2: "lesion"}, [files[3]] * 2
    )
    with pytest.raises(DataError) as error:
        all_labels(text, tmp_path)
    refused(error, "P1_seg.dcm", "overlap", "6 pixels", "order = [1, 2]")
    np.testing.assert_array_equal(all_labels(text + "order = [1, 2]", tmp_path)[3], mark[3] + inner)
    np.testing.assert_array_equal(all_labels(text + "order = [2, 1]", tmp_path)[3], mark[3])
    with pytest.raises(DataError, match="does not name every class"):
        all_labels(text + "order = [2]", tmp_path)


def test_outlines_of_a_series(tmp_path):
    "Pixel (row, column) lies at (column, row) mm; the slices are 2 mm apart."
    files, mark = marked(tmp_path)
    corners = [[1.7, 3.7, 6], [4.3, 3.7, 6], [4.3, 7.3, 6], [1.7, 7.3, 6]]
    outlines(tmp_path / "P1_rt.dcm", {"organ": [corners], "skin": []})
    labels = all_labels('masks = "*_rt.dcm"\nsegments = {organ = 2, skin = 0}', tmp_path)
    np.testing.assert_array_equal(labels[3], 2 * mark[3])
    assert labels.sum() == 2 * mark[3].sum()
    with pytest.raises(DataError) as error:
        all_labels('masks = "*_rt.dcm"', tmp_path)
    refused(error, "skin", 'segments = {"organ" = 1, "skin" = 0}')


@pytest.mark.parametrize("kind", ["png", "dcm"])
def test_one_mask_a_slice(tmp_path, kind):
    files, mark = marked(tmp_path)

    def write(k: int, name: str):
        path = tmp_path / "P1" / f"{name}_mask.{kind}"
        if kind == "png":
            Image.fromarray(mark[k]).save(path)
        else:
            dicom(path, mark[k])

    for k, path in enumerate(files):
        write(k, path.stem)
    text = (
        r"""images = 're:(P\d)/(\d+)\.dcm'
masks = 're:(P\d)/(\d+)_mask\.KIND'
""".replace("KIND", kind)
        + TABLE.replace('images = "*/*.dcm"\n', "")
    )
    labels = lambda more="": np.stack([r.semantic for r in read(card(text + more), tmp_path, "real")])
    np.testing.assert_array_equal(labels(), mark)
    (tmp_path / "P1" / f"{files[0].stem}_mask.{kind}").unlink()
    with pytest.raises(DataError) as error:
        labels()
    refused(error, "masks", f"P1/{files[0].stem}", 'unlabelled = "empty"')
    np.testing.assert_array_equal(labels('unlabelled = "empty"'), mark)
    write(0, "999")
    with pytest.raises(DataError) as error:
        labels('unlabelled = "empty"')
    refused(error, "P1/999", "Restore the slices")


def test_several_masks_of_one_series_are_not_one(tmp_path):
    marked(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"P1_{name}.nii.gz").write_bytes(b"")
    with pytest.raises(DataError) as error:
        all_labels('masks = "*_{a,b}.nii.gz"', tmp_path)
    refused(error, "P1_a.nii.gz, P1_b.nii.gz", "leave out all but one")


def test_series_without_labels(tmp_path):
    marked(tmp_path)
    write_series(tmp_path / "P2", sphere(), patient="B")
    scan = series_scan(sorted((tmp_path / "P1").iterdir()))
    nibabel.save(nibabel.Nifti1Image(np.ones(sphere().shape, np.uint8), scan.affine), tmp_path / "P1_organ.nii.gz")
    text = TABLE + 'masks = "*_organ.nii.gz"\n'
    with pytest.raises(DataError, match="label volume of a series is missing"):
        list(read(card(text), tmp_path, "real"))
    found = lambda how: [r for r in read(card(text + f'unlabelled = "{how}"'), tmp_path, "real")]
    assert len(found("skip")) == 12 and {r.subject for r in found("skip")} == {pseudonym("P1")}
    assert [r.semantic is None for r in found("keep")] == [False] * 12 + [True] * 12
    assert [r.semantic.max() for r in found("empty")] == [1] * 12 + [0] * 12


def test_tilted_slices_are_shown_as_they_are(tmp_path):
    for path in write_series(tmp_path / "P1", sphere()):
        data = pydicom.dcmread(path)
        data.ImagePositionPatient[1] = 0.5 * data.ImagePositionPatient[2]
        data.save_as(path)
    records = list(read(card(TABLE, "none"), tmp_path, "real"))
    np.testing.assert_allclose(
        records[5].image[0], ((sphere()[:, :, 5].T[::-1, ::-1] + 1000) / 1100).clip(0, 1), atol=1e-5
    )
    with pytest.raises(DataError) as error:
        list(read(card(TABLE + 'axis = "coronal"', "none"), tmp_path, "real"))
    refused(error, "P1", "tilted", "axis = 2")


def test_padding_does_not_count_in_the_scale(tmp_path):
    files, _ = marked(tmp_path)
    body = sphere()
    for path in files:
        data = pydicom.dcmread(path)
        pixels = data.pixel_array.copy()
        pixels[:2] = 9999
        data.add_new("PixelPaddingValue", "US", 9999)
        data.PixelData = pixels.tobytes()
        data.save_as(path)
    text = TABLE.replace("window = [-1000, 100]", "percentiles = [0, 100]")
    records = list(read(card(text, "none"), tmp_path, "real"))
    low, high = body[:, ::-1][:, 2:].min(), body[:, ::-1][:, 2:].max()
    expected = (body[:, :, 4].T[::-1, ::-1] - low) / (high - low)
    assert records[4].image[0, :2].max() == 0
    np.testing.assert_allclose(records[4].image[0, 2:], expected[2:], atol=1e-5)


def test_a_series_in_which_small_numbers_are_white(tmp_path):
    files, _ = marked(tmp_path, PhotometricInterpretation="MONOCHROME1")
    straight = (sphere()[:, :, 4].T[::-1, ::-1] + 1000.0).clip(0, 1100) / 1100
    for text in (TABLE, TABLE + "inverted = true\n"):
        record = list(read(card(text, "none"), tmp_path, "real"))[4]
        np.testing.assert_allclose(record.image[0], 1 - straight, atol=1e-5)
    record = list(read(card(TABLE + "inverted = false\n", "none"), tmp_path, "real"))[4]
    np.testing.assert_allclose(record.image[0], straight, atol=1e-5)


def test_one_echo_of_several(tmp_path):
    for n, folder in enumerate(("x", "y")):
        own = dict(EchoNumbers=n + 1, SeriesInstanceUID="1.2.3", patient="P1")
        for k, path in enumerate(write_series(tmp_path / folder, sphere() + 40 * n, **own)):
            changed(path, SOPInstanceUID=f"1.2.3.{n}.{k}")
            (tmp_path / "P1").mkdir(exist_ok=True)
            path.rename(tmp_path / "P1" / f"{folder}{path.name}")
    with pytest.raises(DataError, match="at one place"):
        list(read(card(TABLE, "none"), tmp_path, "real"))
    first, second = (
        list(read(card(TABLE + f"where = {{EchoNumbers = {n}}}\n", "none"), tmp_path, "real"))[4].image for n in (1, 2)
    )
    assert (second >= first).all() and (second > first).any()
    with pytest.raises(CardError) as error:
        find(card(TABLE + "where = {EchoNumber = 1}\n", "none"), tmp_path, "real")
    assert "EchoNumber" in str(error.value)


@pytest.mark.parametrize("option", ["frame = 1", "where = 3"])
def test_options_that_mean_nothing_here(tmp_path, option):
    marked(tmp_path)
    with pytest.raises(CardError):
        find(card(TABLE + option, "none"), tmp_path, "real")


def test_slices_of_one_series_do_not_count_as_several(tmp_path):
    flat = 'reader = "dicom"\nimages = "*.dcm"\nseries = true\nwindow = [-1000, 100]\n'
    files = write_series(tmp_path, sphere(), (0.7, 0.8, 2.5))
    with pytest.raises(CardError) as error: find(card(flat), tmp_path, "real")
    refused(error, "read.images", "SeriesInstanceUID", *(f.name for f in sorted(files)[:2]))
    advised = error.value.fix.partition("images = ")[2].rstrip(".")
    wide = card(flat.replace('"*.dcm"', advised))
    assert len(find(wide, tmp_path, "real").items) == 1
    assert len(list(read(wide, tmp_path, "real"))) == sphere().shape[2]
    for name in ("P1", "P2"): write_series(tmp_path / "deep" / name, sphere(), patient=name)
    for file in files: file.unlink()
    assert len(find(wide, tmp_path, "real").items) == 2
    for n, name in enumerate(("P1", "P2")):  # one slice each, of two series
        for file in sorted((tmp_path / "deep" / name).iterdir())[1:]: file.unlink()
        next((tmp_path / "deep" / name).iterdir()).rename(tmp_path / f"{n}.dcm")
    assert len(find(card(flat), tmp_path, "real").items) == 2
