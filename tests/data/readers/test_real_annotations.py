"Real annotations of every kind, read through cards alone. Skipped where the extracts are absent."

import csv
from collections import Counter
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.draw import disk
from skimage.segmentation import find_boundaries

from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.prepare import fit_square
from taco.data.readers.layers import overlaps, read_planes
from taco.data.store import Store

CARDS = Path(__file__).parents[2] / "cards"
MOVED = (
    lambda m: m[:, ::-1],
    lambda m: m[::-1],
    lambda m: m.T,
    lambda m: np.roll(m, 16, (0, 1)),
)  # mirrored, transposed, shifted by a sixteenth


MASKS = {
    "ivoct_plaque": (CARDS / "ivoct_plaque.toml", "channels", 10, 10, 3, set(range(5))),
    "covid_cxr_seg": (CARDS / "covid_cxr_seg.toml", "crops", 30, 30, 24, set(range(14))),
    "acdc_h5 volumes": (CARDS / "acdc_h5.toml", "hdf5", 6, 48, 3, set(range(4))),
    "acdc_h5 slices": ("acdc", "hdf5 slices", 34, 32, 34, set(range(4))),
}


def extract(shared_data: Path, name: str) -> Path:
    folder = shared_data / name.split()[0]
    if not folder.is_dir():
        pytest.skip(f"no extract at {folder}")
    return folder


@lru_cache
def records_of(card: Path | str, folder: Path) -> list:
    "All records, read once for all tests."
    return list(read(card, folder, "real"))


def honest(records: list, subjects: int) -> None:
    "Every subject in one part, and something to train and to test on."
    parts: dict[str, set] = {}
    for r in records:
        parts.setdefault(r.subject, set()).add(r.split)
    assert (
        len(parts) == subjects
        and all(len(p) == 1 for p in parts.values())
        and {"train", "test"} <= set.union(*parts.values())
    )


def edges(image: np.ndarray, labels: np.ndarray) -> float:
    "How much steeper the image is on the borders of the labels than elsewhere."
    slope = ndimage.gaussian_gradient_magnitude(image, 1)
    return slope[find_boundaries(labels)].mean() / slope.mean()


def lies_best(score, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[float]]:
    "Mean score of (image, map) as read, and of the map mirrored, transposed and shifted."
    right, *wrong = np.mean(
        [
            [score(image, m) for m in (labels, *(f(labels) for f in MOVED))]
            for image, labels in pairs
        ],
        0,
    )
    return right, wrong


@pytest.mark.parametrize("name", MASKS)
def test_masks_lie_on_their_images_with_their_classes_and_honest_splits(shared_data, name):
    card, layout, items, count, subjects, values = MASKS[name]
    folder = extract(shared_data, name)
    found = find(card, folder, "real")
    assert (
        found.layout == layout
        and len(found.items) == items
        and len({i.subject for i in found.items}) == subjects
    )
    records = records_of(card, folder)
    assert (
        len(records) == count
        and set().union(*(np.unique(r.semantic).tolist() for r in records)) == values
    )
    if name != "acdc_h5 slices":
        honest(records, subjects)
    small = [fit_square(r, 256) for r in records[::2]]
    right, wrong = lies_best(
        edges, [(r.image.mean(0), r.semantic) for r in small if r.semantic.any()]
    )
    assert all(right > 1.1 * w for w in wrong), (right, wrong)


def test_channels_are_painted_in_the_order_of_the_card(shared_data):
    folder = extract(shared_data, "ivoct_plaque")
    lost = 0
    for record in records_of(CARDS / "ivoct_plaque.toml", folder):
        planes = (
            np.asarray(Image.open(record.file.replace("/img/", "/mask/").replace(".png", ".tiff")))
            > 0
        )
        lumen, cap, lipid, vasa = np.moveaxis(planes, 2, 0)
        np.testing.assert_array_equal(record.semantic == 4, vasa)
        np.testing.assert_array_equal(record.semantic == 1, lumen & ~vasa)
        np.testing.assert_array_equal(record.semantic == 2, cap & ~lumen & ~vasa)
        np.testing.assert_array_equal(record.semantic == 3, lipid & ~cap & ~lumen & ~vasa)
        both = overlaps(
            read_planes(Path(record.file.replace("/img/", "/mask/").replace(".png", ".tiff")))
        )
        assert both[0, 0] == lumen.sum() and both[1, 2] == (cap & lipid).sum()
        lost += both[0, 1]
    assert lost > 10_000  # they do overlap: what lies below is lost, as the card says


def test_crops_are_pasted_where_the_table_says(shared_data):
    folder = extract(shared_data, "covid_cxr_seg")
    with open(folder / "structure.csv", encoding="utf-8") as file:
        rows = [
            r
            for r in csv.DictReader(file)
            if r["Mask"] and (folder / "images" / r["Filename"]).is_file()
        ]
    records = {Path(r.file).name: r for r in records_of(CARDS / "covid_cxr_seg.toml", folder)}
    names = {"COVID-19 Right Lung": 2, "COVID-19 Left Lung": 1, "COVID-19 Nosogastric Tube": 12}
    seen = Counter()
    for row in rows:
        if row["Class"] not in names:
            continue
        crop = np.asarray(Image.open(folder / row["Mask"]))[..., :3].any(-1)
        value, semantic = names[row["Class"]], records[row["Filename"]].semantic
        whole = np.zeros(semantic.shape, bool)
        whole[int(row["Top"]) :, int(row["Left"]) :][: crop.shape[0], : crop.shape[1]] = crop
        assert not (semantic == value)[
            ~whole
        ].any()  # nothing outside the crop; inside it, others may lie on top
        if value == 12:
            assert (semantic == 12)[whole].all()  # the tube lies on top of all
        seen[value] += 1
    assert seen == {1: 30, 2: 30, 12: 5}
    centre = {
        v: np.mean(
            [
                np.argwhere(r.semantic == v)[:, 1].mean() / r.semantic.shape[1]
                for r in records.values()
                if (r.semantic == v).any()
            ]
        )
        for v in (1, 2)
    }
    assert centre[2] < 0.4 < 0.6 < centre[1]  # the right lung lies on the left of the picture


def test_a_patient_of_the_table_is_one_subject_and_the_finding_an_attribute(shared_data):
    folder = extract(shared_data, "covid_cxr_seg")
    with open(folder / "metadata.csv", encoding="utf-8") as file:
        rows = {r["filename"]: r for r in csv.DictReader(file)}
    records = records_of(CARDS / "covid_cxr_seg.toml", folder)
    honest(records, 24)
    for r in records:
        assert r.subject == rows[Path(r.file).name]["patientid"] and r.attributes == {
            "finding": rows[Path(r.file).name]["finding"]
        }
    assert max(Counter(r.subject for r in records).values()) == 3


def test_volumes_and_slices_of_hdf5_are_those_of_the_files(shared_data):
    folder = extract(shared_data, "acdc_h5")
    records = [
        r
        for r in records_of(CARDS / "acdc_h5.toml", folder)
        if r.key.startswith("patient021_frame13")
    ]
    with h5py.File(folder / "ACDC/ACDC_training_volumes/patient021_frame13.h5") as file:
        label, image = file["label"][()], file["image"][()]
    assert [r.slice for r in records] == [
        k for k in range(len(label)) if (label[k] > 0).mean() >= 0.005
    ] and len(records) > 4
    for r in records:
        np.testing.assert_array_equal(r.semantic, label[r.slice])
        assert np.corrcoef(r.image[0].ravel(), image[r.slice].ravel())[0, 1] > 0.95
        assert r.subject == "patient021" and r.spacing is None
    slices = {r.key: r for r in records_of("acdc", folder)}
    one = slices["patient030_frame12_slice_8"]
    with h5py.File(folder / "ACDC/ACDC_training_slices/patient030_frame12_slice_8.h5") as file:
        np.testing.assert_array_equal(one.semantic, file["label"][()])
    assert (
        one.slice == 8
        and one.subject == "patient030"
        and "patient001_frame01_slice_0" not in slices
    )  # beyond the heart: nothing is labelled
    volumes = find(
        "acdc", folder / "ACDC/ACDC_training_volumes", "real"
    )  # the shipped card reads them too
    assert volumes.layout == "hdf5 volumes" and {i.subject for i in volumes.items} == {
        "patient001",
        "patient021",
        "patient041",
    }


def test_boxes_of_blood_cells(shared_data):
    folder = extract(shared_data, "bccd_boxes")
    records = records_of(CARDS / "bccd_boxes.toml", folder)
    honest(records, 40)
    assert Counter(np.concatenate([r.box_classes for r in records]).tolist()) == {
        1: 484,
        2: 39,
        3: 57,
    }
    one = next(r for r in records if r.key == "BloodImage_00229")
    first = (
        ElementTree.parse(folder / "BCCD/Annotations/BloodImage_00229.xml")
        .getroot()
        .find("object/bndbox")
    )
    np.testing.assert_allclose(
        one.boxes[0] * [640, 480, 640, 480],
        [int(t.text) - (t.tag in ("xmin", "ymin")) for t in first],
        atol=1e-3,
    )
    pairs = [(r.image[0] - r.image[1], boxes_map(r)) for r in records]
    inside = lambda image, m: (
        image[m].mean() - image[~m].mean() if m.shape == image.shape else cut(image, m)
    )
    right, wrong = lies_best(
        inside, pairs
    )  # cells are redder (or more violet) than the plasma around them
    assert right > 0 and all(right > 1.1 * w for w in wrong), (right, wrong)


def boxes_map(r) -> np.ndarray:
    h, w = r.image.shape[1:]
    inside = np.zeros((h, w), bool)
    for x0, y0, x1, y1 in np.round(r.boxes * [w, h, w, h]).astype(int):
        inside[y0:y1, x0:x1] = True
    return inside


def cut(image: np.ndarray, m: np.ndarray) -> float:
    "The score of a transposed map on the part that both share."
    h, w = np.minimum(image.shape, m.shape)
    return image[:h, :w][m[:h, :w]].mean() - image[:h, :w][~m[:h, :w]].mean()


def test_points_of_red_cells(shared_data):
    folder = extract(shared_data, "chula_rbc12")
    records = records_of(CARDS / "chula_rbc12.toml", folder)
    honest(records, 40)
    words = Counter(
        int(line.split()[2]) or 13
        for path in (folder / "Label").glob("*.txt")
        for line in path.read_text().splitlines()
    )
    assert (
        Counter(np.concatenate([r.point_classes for r in records]).tolist()) == words
        and sum(words.values()) == 1573
    )
    one = next(r for r in records if r.key == "1")
    np.testing.assert_allclose(one.points[0] * [640, 480], [594.5, 95.5], atol=1e-3)
    pairs = []
    for r in records:
        dots = np.zeros(r.image.shape[1:], bool)
        for x, y in r.points * [640, 480]:
            dots[disk((y, x), 12, shape=dots.shape)] = True
        pairs.append((-r.image[1], dots))  # haemoglobin absorbs green
    inside = lambda image, m: (
        image[m].mean() - image[~m].mean() if m.shape == image.shape else cut(image, m)
    )
    right, wrong = lies_best(inside, pairs)
    assert right > 0 and all(right > 1.1 * w for w in wrong), (right, wrong)


def test_the_kind_of_a_white_cell_stands_in_the_table(shared_data):
    folder = extract(shared_data, "wbc_zheng")
    names = ["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"]
    kinds = {}
    for number in (1, 2):
        with open(folder / f"Class Labels of Dataset {number}.csv", encoding="utf-8-sig") as file:
            kinds |= {
                (number, int(row[0])): names[int(row[1]) - 1]
                for row in list(csv.reader(file))[1:]
                if row and row[0]
            }
    records = records_of("wbc", folder)
    assert len(records) == 40 and len({r.attributes["cell"] for r in records}) >= 4
    for r in records:
        number, name = r.key.split("/")
        assert r.attributes == {"cell": kinds[int(number), int(name)]}


def test_lesions_without_a_list_of_diagnoses_have_no_diagnosis(shared_data):
    records = list(read("isic2016", extract(shared_data, "isic2016_part3b"), "real", subjects=4))
    assert records and all(r.attributes == {} for r in records)


def test_they_go_into_a_store(shared_data, tmp_path):
    "Boxes and points become tables of the store, attributes a column; masks of crops become shapes."
    folders = {
        name: extract(shared_data, name)
        for name in ("bccd_boxes", "chula_rbc12", "covid_cxr_seg", "wbc_zheng")
    }
    cards = {name: CARDS / f"{name}.toml" for name in folders} | {"wbc_zheng": "wbc"}
    store = Store.open(
        [pack(cards[n], folders[n], tmp_path, 64, source="real", subjects=6) for n in folders]
    )
    table = store.table
    assert set(store.attribute("finding")[table.dataset == "covid_cxr_seg"]) & {
        "COVID-19",
        "Pneumocystis",
        "COVID-19, ARDS",
    }
    assert (
        store.attribute("cell")[table.dataset == "wbc"].notna().all()
        and store.attribute("cell")[table.dataset != "wbc"].isna().all()
    )
    for dataset, need in (
        ("bccd_boxes", "boxes"),
        ("chula_rbc12", "points"),
        ("covid_cxr_seg", "classes"),
    ):
        assert table.loc[table.dataset == dataset, need].mean() > 0.6, dataset
    assert not table.loc[table.dataset == "bccd_boxes", "semantic"].any()
    for _, rows in table.groupby(["dataset", "subject"]):
        assert rows.split.nunique() == 1
