"Every option of every reader changes what is read: the table of declarations, gone through row by row."

import tomllib
from pathlib import Path

import pytest

from taco.data.options import NEEDED, OPTIONS, known_readers, options_of
from taco.data.readers.catalogue import READERS
from taco.data.readers.source import COMMON
from tests.data.readers.test_option_scenes import SCENES
from tests.data.readers.toys import TOYS, outcome

ANY = {  # option → what it is set to, for all readers that admit it and have nothing of their own below
    "layout": "slices",
    "modality": "CT",
    "folder": "elsewhere",
    "subject": "re:(.)[^/]*$",
    "split": "re:([ab])[^/]*$",
    "attributes": {"side": {"pattern": "re:([a-z])"}},
    "window": [30, 90],
    "percentiles": [20, 60],
    "values": {0: 0, 1: 2, 2: 1, 3: 3},
    "threshold": 1,
    "exclude": "**/b*",
    "images": "**/a*.png",
    "spacing": [0.3, 0.4],
    "slices": "all",
    "every": 3,
    "number": 2,
    "foreground": 0.4,
    "axis": 1,
    "tag": "flair",
    "clip": True,
    "classes": {"red": 2, "white": 1},
    "unlabelled": "empty",
    "absent_images": "skip",
    "first": 0,
    "header": True,
}
GONE = {"unlabelled": "a1", "absent_images": "a1"}  # the file that is taken away before
BOX = {n: n for n in ("x0", "y0", "x1", "y1")}
OWN = {  # (reader, option) → (what stands there without it, with it)
    ("pairs", "masks"): ({}, {"masks": "colour/*.png"}),
    ("pairs", "images"): ({}, {"images": "images/a*.png"}),
    ("pairs", "objects"): ({}, {"objects": True}),
    ("pairs", "colours"): (
        {"masks": "colour/*.png"},
        {"masks": "colour/*.png", "colours": {"#000000": 0, "#ff0000": 2}},
    ),
    ("pairs", "tolerance"): ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 1}),
    ("instances", "images"): ({}, {"images": "a*/image.png"}),
    ("instances", "objects"): ({}, {"objects": "re:([^/]+)/masks/0[^/]+"}),
    ("instances", "values"): ({}, {"values": {0: 0, 1: 0, 255: 1}}),
    ("instances", "threshold"): ({}, {"threshold": 100}),
    ("instances", "tolerance"): (
        {"values": {0: 0, 250: 1}},
        {"values": {0: 0, 250: 1}, "tolerance": 20},
    ),
    ("instances", "class"): ({}, {"class": 2}),
    ("channels", "images"): ({}, {"images": "images/a*.png"}),
    ("channels", "masks"): ({}, {"masks": "masks/a*.tif"}),
    ("channels", "channels"): ({}, {"channels": {0: 2, 1: 1, 2: 0}}),
    ("channels", "order"): ({}, {"order": [2, 1]}),
    ("channels", "threshold"): ({}, {"threshold": 250}),
    ("crops", "images"): ({}, {"images": "a*.jpg"}),
    ("crops", "table"): ({}, {"table": "none.csv"}),
    ("crops", "columns"): (
        {},
        {"columns": {"image": 0, "mask": 1, "class": 2, "top": 3, "left": 3}},
    ),
    ("crops", "order"): ({}, {"order": [3, 2, 1]}),
    ("crops", "threshold"): ({}, {"threshold": 250}),
    ("crops", "separator"): ({}, {"separator": ";"}),
    ("crops", "header"): ({}, {"header": False}),
    ("voc", "annotations"): ({}, {"annotations": "a*.xml"}),
    ("table", "annotations"): ({}, {"annotations": "a*.csv"}),
    ("coco", "annotations"): ({}, {"annotations": "none.json"}),
    ("yolo", "annotations"): ({}, {"annotations": "a*.txt"}),
    ("coco", "exclude"): ({}, {"exclude": "a.png"}),
    ("coco", "subject"): ({}, {"subject": r"re:\.(png)"}),
    ("coco", "images"): ({}, {"images": "b*.png"}),
    ("coco", "classes"): ({}, {"classes": {"red": 2, "white": 0}}),
    ("coco", "split"): ({}, {"split": "re:(a)", "splits": {"a": "test"}}),
    ("yolo", "classes"): ({}, {"classes": {0: 2, 1: 1}}),
    ("yolo", "names"): ({}, {"names": "none.txt"}),
    ("table", "columns"): ({}, {"columns": BOX | {"x0": "y0", "class": "kind"}}),
    ("table", "separator"): ({}, {"separator": ";"}),
    ("table", "header"): ({}, {"header": False}),
    ("table", "units"): ({}, {"units": "fractions"}),
    ("table", "class"): ({"columns": BOX}, {"columns": BOX, "class": 2}),
    ("table", "first"): ({}, {"first": 1}),
    ("volumes", "images"): ({}, {"images": "a*_image.nii.gz"}),
    ("volumes", "masks"): ({}, {"masks": "a*_label.nii.gz"}),
    ("hdf5", "files"): ({}, {"files": "a*.h5"}),
    ("hdf5", "image"): ({}, {"image": "other"}),
    ("hdf5", "label"): ({}, {"label": "empty"}),
    ("hdf5", "slice"): (
        {"image": "plane", "label": None},
        {"image": "plane", "label": None, "slice": r"re:_(\d+)"},
    ),
    ("npz", "file"): ({}, {"file": "toy_48.npz"}),
    ("npz", "variant"): ({}, {"variant": "x"}),
    ("npz", "labels"): ({}, {"labels": {"cup": 2}}),
    ("npz", "attributes"): ({}, {"attributes": {"side": {"pattern": r"re:\[(\d)\]$"}}}),
    ("packaged", "image"): ({}, {"image": "thorax_ct"}),
    ("dicom", "images"): ({}, {"images": "re:(?P<id>a)1/[^/]+"}),
    ("dicom", "masks"): ({}, {"masks": "none/*.nii.gz"}),
    ("dicom", "series"): ({}, {"series": "no such description"}),
    ("dicom", "slices"): ({}, {"slices": [1]}),
    ("dicom", "exclude"): ({}, {"exclude": "b1/*"}),
}
for name in ("volumes", "hdf5"):
    OWN[name, "tolerance"] = ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 1})
OWN["npz", "tolerance"] = ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 2})
OWN["hdf5", "spacing"] = ({}, {"spacing": [0.3, 0.4]})
for name in known_readers():
    if "splits" not in options_of(name):
        continue
    OWN[name, "splits"] = (
        {"split": "re:([ab])[^/]*$"},
        {"split": "re:([ab])[^/]*$", "splits": {"a": "train", "b": "test"}},
    )
OWN["dicom", "splits"] = (
    {"split": "re:([ab])1/"},
    {"split": "re:([ab])1/", "splits": {"a": "train", "b": "test"}},
)

# Options whose files are a long story; each of these pairs has its test, with values, beside the others of its reader.
ELSEWHERE = {
    ("volumes", "unlabelled"): "test_volumes.py::test_volumes_without_labels",
    ("volumes", "healthy"): "test_volumes.py::test_healthy_volumes",
    ("volumes", "segments"): "test_volumes.py::test_segments_are_read_by_their_names",
    ("volumes", "spacing"): "test_volumes.py::test_spacing_of_the_card_and_of_the_file",
    ("volumes", "frame"): "test_volumes.py::test_a_frame_of_four_dimensions_and_a_stack_of_pages",
    ("volumes", "series"): "test_volumes.py::test_series_and_channels_of_stacks",
    ("volumes", "channel"): "test_volumes.py::test_series_and_channels_of_stacks",
    ("volumes", "stack"): "test_volumes.py::test_a_file_a_slice",
    ("npz", "subject"): "test_attributes.py::test_a_row_goes_by_its_place",
    ("hdf5", "unlabelled"): "test_arrays.py::test_hdf5_labels_that_are_absent_or_alone",
    ("hdf5", "healthy"): "test_arrays.py::test_hdf5_pictures_without_foreground",
    ("dicom", "unlabelled"): "test_dicom.py::test_images_without_a_mask",
    ("dicom", "colours"): "test_dicom.py::test_numbers_of_a_mask_have_a_meaning",
    ("dicom", "ignore"): "test_unknown.py::test_dicom_files_of_which_a_part_is_unknown",
    ("dicom", "order"): "test_series.py::test_regions_that_overlap",
    ("dicom", "segments"): "test_series.py::test_segments_of_a_series_become_classes_by_name",
    ("dicom", "frame"): "test_dicom.py::test_a_loop_of_frames",
    ("dicom", "tag"): "test_dicom.py::test_options_change_what_is_read",
    ("dicom", "where"): "test_series.py::test_one_echo_of_several",
    ("dicom", "inverted"): "test_series.py::test_a_series_in_which_small_numbers_are_white",
}
PAIRS = [(r, o.name) for o in OPTIONS for r in o.readers]
HERE = [p for p in PAIRS if p not in SCENES and p not in ELSEWHERE and (p in OWN or p[1] in ANY)]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    made: dict = {}

    def toy(reader: str):
        if reader not in made:
            root = tmp_path_factory.mktemp(reader)
            (root / "toy").mkdir()
            made[reader] = root, TOYS[reader](root / "toy")
        return made[reader]

    return toy


@pytest.mark.parametrize("reader, option", HERE, ids=lambda word: word)
def test_an_option_changes_what_is_read(toys, reader, option):
    root, base = toys(reader)
    without, given = OWN.get((reader, option), ({}, {option: ANY.get(option)}))
    if (reader, option) not in OWN and option == "images":
        given = {"images": base["images"].replace("*", "a*", 1)}
    if reader in ("volumes", "dicom") and option == "spacing":
        given = {"spacing": [0.3, 0.4, 0.5]}
    plain, changed = outcome(base | without, root), outcome(base | given, root)
    assert plain != changed, plain
    assert "no such option" not in str(changed) and "cannot use this value" not in str(changed), (
        changed
    )


def test_every_pair_of_reader_and_option_has_a_test():
    assert not [pair for pair in PAIRS if pair not in HERE and pair not in SCENES and pair not in ELSEWHERE]
    assert not {*SCENES, *ELSEWHERE, *OWN} - {*PAIRS}


@pytest.mark.parametrize("pair", ELSEWHERE, ids=str)
def test_a_test_elsewhere_is_there_and_speaks_of_the_option(pair):
    file, name = ELSEWHERE[pair].split("::")
    text = (Path(__file__).parent / file).read_text().split(f"def {name}(")
    before = text[0].rpartition("\n\n\n")[2]  # its decorators
    assert len(text) == 2 and pair[1] in before + text[1].split("\ndef ")[0]


def test_the_register_agrees_with_the_declarations():
    assert set(READERS) <= set(known_readers()) == set(NEEDED)
    for name, reader in READERS.items():
        assert set(reader.options) == {"reader", *options_of(name)}
        assert all(o.meaning and o.example for o in options_of(name).values()), name
        assert set(NEEDED[name].split()) <= set(options_of(name))
    assert set(COMMON) - {"reader"} <= {option.name for option in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.name}-{o.readers[0]}")
def test_an_example_of_an_option_can_be_used(option):
    value = tomllib.loads(f"{option.name} = {option.example}")[option.name]
    assert not list(option.check(value, {1: "disc", 2: "cup", 3: "rim"}))
