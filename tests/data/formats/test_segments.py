"Segmentations and outlines go where they say that they belong."

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.dicom import open_dicom
from taco.data.formats.segments import draw_regions, has_regions, list_regions
from taco.data.formats.stack import read_stack, write_series
from tests.data.formats.dicoms import changed, dicom, item, outlines, segmentation
from tests.data.readers.bodies import refused

LEFT, RIGHT = np.zeros((2, 20, 24), np.uint8)
LEFT[4:16, 2:9], RIGHT[4:16, 14:21] = 1, 1
NAMES = {1: "left", 2: "right"}


@pytest.fixture
def series(tmp_path):
    "Planes in the order of the body, and their files."
    paths = write_series(tmp_path / "P1", np.zeros((24, 20, 4), int), (0.5, 1.0, 3.0), FrameOfReferenceUID="1.2.9")
    stack = read_stack(paths)
    return stack.planes, [path for path, _, _ in stack.planes]


def drawn(path, planes, wanted=(1, 2), threshold=None):
    return draw_regions(open_dicom(path), path, planes, list(wanted), threshold)


def test_every_segment_lies_on_the_slice_that_it_names(tmp_path, series):
    planes, files = series
    path = segmentation(
        tmp_path / "a.dcm", np.stack([RIGHT, LEFT, LEFT]), [2, 1, 1], NAMES, [files[3], files[0], files[2]]
    )
    assert has_regions(open_dicom(path)) and list_regions(open_dicom(path)) == NAMES
    found = drawn(path, planes)
    assert [found[1][k].sum() for k in range(4)] == [84, 0, 84, 0]
    assert [found[2][k].sum() for k in range(4)] == [0, 0, 0, 84]
    np.testing.assert_array_equal(found[2][3], RIGHT)


def test_every_segment_lies_where_its_position_is(tmp_path, series):
    planes, files = series
    path = segmentation(
        tmp_path / "a.dcm", np.stack([RIGHT, LEFT]), [2, 1], NAMES, places=[[0, 0, 9], [0, 0, 3]]
    )
    found = drawn(path, planes)
    np.testing.assert_array_equal(found[1], np.stack([LEFT * 0, LEFT, LEFT * 0, LEFT * 0]))
    np.testing.assert_array_equal(found[2][3], RIGHT)
    for places, images, words in (
        ([[0, 0, 4], [0, 0, 3]], None, ("belongs to other images", "no slice for frame 0")),
        ([[1, 0, 3], [0, 0, 3]], None, ("belongs to other images",)),
        ([[0, 0, 9], [0, 0, 3]], [files[0], files[1]], ("belong to one slice", "lies on another")),
    ):
        path = segmentation(tmp_path / "b.dcm", np.stack([RIGHT, LEFT]), [2, 1], NAMES, images, places)
        with pytest.raises(DataError) as error:
            drawn(path, planes)
        refused(error, "b.dcm", *words)
    turned = item(PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 1, 0, 0])])
    path = segmentation(
        tmp_path / "c.dcm", LEFT[None], [1], NAMES, places=[[0, 0, 3]], SharedFunctionalGroupsSequence=[turned]
    )
    with pytest.raises(DataError, match="does not lie on its image"):
        drawn(path, planes)


def test_shares_need_a_threshold_and_label_maps_none(tmp_path, series):
    planes, files = series
    shares = np.stack([LEFT * 100 + (LEFT.cumsum(1) > 30) * LEFT * 100, RIGHT * 255]).astype(np.uint8)
    path = segmentation(tmp_path / "a.dcm", shares, [1, 2], NAMES, files[:2], kind="FRACTIONAL")
    with pytest.raises(DataError) as error:
        drawn(path, planes)
    refused(error, "a.dcm", "threshold = 127", "0 … 255")
    found = drawn(path, planes, threshold=127)
    assert found[1][0].sum() == (shares[0] > 127).sum() < 84 and found[2][1].sum() == 84
    path = segmentation(tmp_path / "b.dcm", shares[1:], [2], NAMES, files[:1], kind="FRACTIONAL")
    assert drawn(path, planes)[2][0].sum() == 84
    both = (LEFT + 2 * RIGHT)[None]
    path = segmentation(tmp_path / "c.dcm", both, [0], NAMES, files[1:2], kind="LABELMAP")
    found = drawn(path, planes)
    np.testing.assert_array_equal(found[1][1], LEFT)
    np.testing.assert_array_equal(found[2][1], RIGHT)
    path = segmentation(tmp_path / "d.dcm", both, [0], {1: "left"}, files[1:2], kind="LABELMAP")
    with pytest.raises(DataError) as error:
        drawn(path, planes, [1])
    refused(error, "d.dcm", "SegmentSequence", "[2]")


@pytest.mark.parametrize(
    "numbers, images, words",
    [
        ([1, 1], (0, 0), ("several masks for one slice",)),
        ([1, 3], (0, 1), ("ReferencedSegmentNumber", "3")),
        ([1, 2], None, ("does not say to which slice",)),
    ],
)
def test_frames_that_belong_nowhere(tmp_path, series, numbers, images, words):
    planes, files = series
    of = images and [files[k] for k in images]
    path = segmentation(tmp_path / "a.dcm", np.stack([LEFT, RIGHT]), numbers, NAMES, of)
    with pytest.raises(DataError) as error:
        drawn(path, planes)
    refused(error, "a.dcm", *words)


def test_one_image_of_a_series_takes_its_own_frames(tmp_path, series):
    planes, files = series
    path = segmentation(tmp_path / "a.dcm", np.stack([LEFT, RIGHT]), [1, 2], NAMES, [files[1], files[2]])
    assert drawn(path, planes[1:2])[1].sum() == 84 and drawn(path, planes[1:2])[2].sum() == 0
    with pytest.raises(DataError, match="belongs to other images"):
        drawn(path, planes[:1])
    listed = item(ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID=planes[0][1].SOPInstanceUID)])
    changed(path, ReferencedSeriesSequence=[listed])
    assert drawn(path, planes[:1])[1].sum() == 0  # an empty slice of the series that the file speaks of
    other = dicom(tmp_path / "x.dcm", np.zeros((20, 25), np.uint16))
    with pytest.raises(DataError, match="not of the size"):
        drawn(path, [(other, open_dicom(other), 0)])


def square(low: float, high: float, z: float) -> np.ndarray:
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


def test_outlines_are_filled_on_their_slices(tmp_path, series):
    "Rows are 1 mm, columns 0.5 mm apart; the ring has a hole."
    planes, files = series
    path = outlines(
        tmp_path / "a.dcm", {"ring": [square(1.2, 9.2, 3), square(3.2, 5.2, 3)], "far": [square(0.7, 2.2, 9)]}
    )
    found = drawn(path, planes)
    expected = np.zeros((20, 24), bool)
    expected[2:10, 3:19] = True
    expected[4:6, 7:11] = False
    np.testing.assert_array_equal(found[1][1], expected)
    assert found[1].sum() == expected.sum() and found[2][3].sum() == 2 * 3 and found[2].sum() == 6


@pytest.mark.parametrize(
    "contour, more, words",
    [
        (square(1, 5, 4), {}, ("lies on no slice", "4.00", "3.00")),
        (square(1, 5, 3) + [[0, 0, 0], [0, 0, 2], [0, 0, 0], [0, 0, 0]], {}, ("lies on no slice",)),
        (square(1, 5, 3)[:2], {}, ("three corners",)),
        (square(1, 5, 3), dict(kind="OPEN_PLANAR"), ("OPEN_PLANAR", 'segments = {"a" = 0')),
        (square(1, 5, 3), dict(kind="POINT"), ("no inside",)),
    ],
)
def test_outlines_without_a_place_or_an_inside(tmp_path, series, contour, more, words):
    path = outlines(tmp_path / "a.dcm", {"a": [contour]}, **more)
    with pytest.raises(DataError) as error:
        drawn(path, series[0], [1])
    refused(error, "a.dcm", *words)


def test_outlines_of_another_series(tmp_path, series):
    planes, files = series
    path = outlines(tmp_path / "a.dcm", {"a": [square(1, 5, 3)]})
    data = open_dicom(path)
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.8"
    data.save_as(path)
    with pytest.raises(DataError, match="another frame of reference"):
        drawn(path, planes, [1])
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.9"
    data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [item(ReferencedSOPInstanceUID="1.2.7")]
    data.save_as(path)
    with pytest.raises(DataError, match="another image than the one it lies on"):
        drawn(path, planes, [1])
    data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [
        item(ReferencedSOPInstanceUID=planes[1][1].SOPInstanceUID)
    ]
    data.save_as(path)
    assert drawn(path, planes, [1])[1].sum() == 5 * 9  # a centre on the outline counts as inside


def test_frames_of_a_segmentation_name_frames_of_an_image(tmp_path):
    path = dicom(tmp_path / "loop.dcm", np.zeros((3, 20, 24), np.uint16), frames=True)
    planes = [(path, open_dicom(path), t) for t in range(3)]
    seg = segmentation(tmp_path / "a.dcm", np.stack([LEFT, RIGHT]), [1, 2], NAMES, [path, path])
    data = open_dicom(seg)
    for group, number in zip(data.PerFrameFunctionalGroupsSequence, (3, 1)):
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    data.save_as(seg)
    found = drawn(seg, planes)
    assert [found[1][t].sum() for t in range(3)] == [0, 0, 84] and [found[2][t].sum() for t in range(3)] == [84, 0, 0]
    assert drawn(seg, planes[:1])[2].sum() == 84 and drawn(seg, planes[:1])[1].sum() == 0
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    data.save_as(seg)
    with pytest.raises(DataError, match="belongs to several slices"):
        drawn(seg, planes)
