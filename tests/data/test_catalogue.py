"The thirty-nine datasets: cards and phantoms agree, allowed tasks give valid pairs, datasets can be told apart."

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from taco.data.card import list_cards, load_card
from taco.data.catalogue import abilities, datasets, image_statistics, phantom_records
from taco.data.find import read
from taco.data.phantoms.catalogue import PHANTOMS
from taco.data.prepare import NEEDS, collate, prepare
from taco.tasks.catalogue import ALL_TASKS, allowance, get_task, refusals

SIZE, COUNT = 64, 12
DATASETS, MEDSEGBENCH, BEYOND = datasets(), list_cards("medsegbench"), list_cards("systems")
GREY = {
    "dca1",
    "chuac",
    "pandental",
    "bbbc010",
    "dynamicnuclear",
    "nuset",
    "deepbacs",
    "brifiseg",
    "busi",
    "covid19radio",
    "covidquex",
    "cystoidfluid",
    "promise12",
    "ultrasoundnerve",
    "usforkidney",
    "yeaz",
    "abdomenus",
    "fhpsaop",
    "mosmedplus",
    "isbi2012",
    "epfl",
    "acdc",
    "mmwhs",
}
# Tasks that the shape of what is labelled may rule out in a dozen records: thin things have no depth,
# one compact thing has no hull but itself and no second object.
THIN = {"drive", "chasedb1", "dca1", "chuac", "bbbc010", "nuclei"}
FULL = {"isbi2012", "nuset"}  # objects all over the view: their hull would leave no background
COMPACT = {
    "kvasir",
    "isic2016",
    "isic2018",
    "uwaterlooskincancer",
    "wbc",
    "promise12",
    "ultrasoundnerve",
    "usforkidney",
    "acdc",
    "busi",
    "cellnuclei",
    "m2caiseg",
}
SINGLE = {
    "kvasir",
    "isic2018",
    "isic2016",
    "uwaterlooskincancer",
    "pandental",
    "busi",
    "promise12",
    "robotool",
    "ultrasoundnerve",
    "usforkidney",
    "isbi2012",
}


@pytest.fixture(scope="module")
def prepared():
    "Prepared phantom records of a dataset, made once."
    made = {}

    def of(name):
        if name not in made:
            made[name] = [
                prepare(r, SIZE, load_card(name).fit) for r in phantom_records(name, COUNT, SIZE)
            ]
        return made[name]

    return of


def records_table(prepared, names) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": n, **{need: need in p.can for need in NEEDS}}
            for n in names
            for p in prepared(n)
        ]
    )


def test_all_cards_are_there():
    assert len(DATASETS) == len(set(DATASETS)) == 39 and len(MEDSEGBENCH) == 35
    assert set(DATASETS) | set(BEYOND) <= set(list_cards())


@pytest.mark.parametrize("name", DATASETS + BEYOND)
def test_card_and_phantom_agree(name, prepared):
    card = load_card(name)
    phantom = PHANTOMS[card.phantom["recipe"]]
    assert phantom.classes.items() <= card.classes.items(), (
        "the phantom's labels mean what the card says"
    )
    assert phantom.modality in card.modality
    records = [p.record for p in prepared(name)]
    assert {len(r.image) for r in records} == ({1} if name in GREY or name in BEYOND else {3})
    assert card.channels == 3 or {len(r.image) for r in records} == {1}, (
        "a grey dataset has a grey stand-in"
    )
    assert {r.dataset for r in records} == {name} and len({r.subject for r in records}) >= 3
    assert card.citation and card.licence and card.homepage.startswith("http")
    assert (
        (
            len(card.files) >= 2
            and all(len(f["md5"]) == 32 for f in card.files)
            and sum(card.counts.values()) > 0
        )
        if name in MEDSEGBENCH
        else card.access
    )
    assert card.split["rule"] in ("given", "subject")


@pytest.mark.parametrize("name", DATASETS)
def test_every_allowed_task_gives_valid_pairs(name, prepared):
    rows = prepared(name)
    done = 0
    for task in map(get_task, ALL_TASKS):
        able = [p for p in rows if task.needs <= p.can][:3]
        if not able:
            continue
        batch = collate(able)
        input, output = task(batch, seeds=torch.arange(len(able)))
        for side in (input, output):
            assert side.shape == (len(able), 3, SIZE, SIZE) and side.dtype == torch.float32, (
                task.name
            )
            assert torch.isfinite(side).all() and side.min() >= 0 and side.max() <= 1, task.name
        assert (input != output).flatten(1).any(1).all(), f"{task.name} leaves a record as it is"
        done += 1
    assert done >= 25, f"{name} allows only {done} tasks"


def test_what_a_dataset_does_not_allow_has_a_reason(prepared):
    table = records_table(prepared, DATASETS)
    share, none = allowance(table), refusals(table)
    assert share.shape == (39, 30) and len(none) == int((share == 0).to_numpy().sum())
    of = lambda task: set(none.dataset[none.task == task])
    assert of("colorization") == GREY
    assert of("multi_class_segmentation") == {n for n in DATASETS if len(load_card(n).classes) == 1}
    assert (
        of("distance_map") <= THIN
        and of("convex_hull") <= COMPACT | FULL
        and of("instance_segmentation") <= SINGLE
    )
    assert set(none.task) <= {
        "colorization",
        "multi_class_segmentation",
        "distance_map",
        "convex_hull",
        "instance_segmentation",
    }
    assert none.lacks.astype(bool).all() and none.why.str.startswith("no record has").all()


def test_refusals_name_needs_that_are_never_met_together():
    base = dict.fromkeys(NEEDS, True)
    table = pd.DataFrame(
        [{"dataset": "a", **base, "thick": False}, {"dataset": "a", **base, "semantic": False}]
    )
    assert refusals(table).why.tolist() == ["no record meets all needs at once"] and refusals(
        table
    ).task.tolist() == ["distance_map"]


def test_abilities_has_a_row_per_record():
    table = abilities(("drive", "acdc"), count=5, size=SIZE)
    assert (
        list(table.dataset.unique()) == ["drive", "acdc"]
        and table.key.is_unique
        and (table.groupby("dataset").size() >= 5).all()
    )
    assert table["image"].all() and not table.colour[table.dataset == "acdc"].any()
    assert table[table.dataset == "acdc"].subject.nunique() == 2, (
        "four slices of one patient, then the next"
    )


def test_statistics_are_finite_and_see_colour_and_direction():
    rng = np.random.default_rng(0)
    image = rng.random((1, SIZE, SIZE), dtype=np.float32)
    grey, flat = image_statistics(image), image_statistics(np.zeros((3, SIZE, SIZE), np.float32))
    assert grey.shape == flat.shape == (63,) and np.isfinite(grey).all() and np.isfinite(flat).all()
    assert not np.allclose(grey, image_statistics(np.concatenate([image, image, image * 0.5])))
    stripes = np.broadcast_to((np.arange(SIZE) % 8 < 4).astype(np.float32), (1, SIZE, SIZE))
    assert not np.allclose(image_statistics(stripes), image_statistics(stripes.transpose(0, 2, 1)))


@pytest.mark.long
def test_a_linear_probe_tells_the_datasets_apart():
    "Learned from subjects 0 …, asked about subjects 100 …: at least four of five images find their dataset."

    def table(count, first):
        return map(
            np.array,
            zip(
                *[
                    (image_statistics(r.image), n)
                    for n in DATASETS
                    for r in phantom_records(n, count, SIZE, first=first)
                ]
            ),
        )

    (x, y), (held, truth) = table(12, 0), table(8, 100)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y)
    right = pd.Series(probe.predict(held) == truth).groupby(truth).mean()
    print(
        f"linear probe: {right.mean():.3f} over {len(right)} datasets, {len(truth)} images; "
        f"weakest: {right.nsmallest(5).to_dict()}"
    )
    assert len(right) == 39 and right.mean() >= 0.8
    assert right.min() >= 0.4, (
        f"no dataset may be lost among the others: {right.nsmallest(3).to_dict()}"
    )


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def test_the_lungs_of_montgomery_are_kept_apart(tmp_path):
    for i, sick in ((1, 0), (2, 1)):
        left, right = np.zeros((2, 40, 50))
        left[10:30, 30:45] = 255
        right[10:30, 5:20] = 255
        save(tmp_path / f"MontgomerySet/CXR_png/MCUCXR_000{i}_{sick}.png", np.full((40, 50), 90))
        save(tmp_path / f"MontgomerySet/ManualMask/leftMask/MCUCXR_000{i}_{sick}.png", left)
        save(tmp_path / f"MontgomerySet/ManualMask/rightMask/MCUCXR_000{i}_{sick}.png", right)
    records = list(read("montgomery", tmp_path, "real"))
    assert [r.key for r in records] == ["MCUCXR_0001_0", "MCUCXR_0002_1"] and len(
        {r.subject for r in records}
    ) == 2
    assert (
        records[0].semantic[15, 35],
        records[0].semantic[15, 10],
        records[0].semantic[0, 0],
    ) == (1, 2, 0)
    phantom = phantom_records("montgomery", 1)[0].semantic
    assert np.argwhere(phantom == 1)[:, 1].mean() > 32 > np.argwhere(phantom == 2)[:, 1].mean(), (
        "the patient's left is on the right of a film"
    )


def test_shenzhen_films_find_their_masks(tmp_path):
    save(tmp_path / "CXR_png/CHNCXR_0001_0.png", np.full((30, 40, 3), 100))
    mask = np.zeros((30, 40))
    mask[5:20, 5:15] = 255
    save(tmp_path / "mask/CHNCXR_0001_0_mask.png", mask)
    (record,) = read("shenzhen", tmp_path, "real")
    np.testing.assert_array_equal(record.semantic, mask > 0)


def test_hvsmr_reads_the_cropped_volumes_and_nothing_else(tmp_path):
    image, label = np.random.default_rng(0).random((2, 20, 24, 12))
    label = (label * 9).astype(np.uint8)
    for name, array in (
        ("pat3_cropped", image),
        ("pat3_cropped_norm", image),
        ("pat3_cropped_seg", label),
        ("pat3_cropped_seg_endpoints", label * 0 + 1),
    ):
        (tmp_path / "cropped").mkdir(exist_ok=True)
        nibabel.save(
            nibabel.Nifti1Image(
                array.astype(np.float32 if "seg" not in name else np.uint8), np.eye(4)
            ),
            tmp_path / "cropped" / f"{name}.nii.gz",
        )
    records = list(read("hvsmr", tmp_path, "real"))
    assert {r.subject for r in records} == {"pat3"} and set(
        np.unique([r.semantic for r in records])
    ) == set(range(9))
    np.testing.assert_array_equal(records[0].semantic, label[:, :, records[0].slice].T[::-1, ::-1])


def test_the_four_masks_of_idrib_become_one_map(tmp_path):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.full((2, 128, 128, 3), 80, np.uint8)
        arrays[f"{split}_label"] = np.zeros((2, 128, 128), np.uint8)
        for k in range(1, 5):
            arrays[f"{split}_label_C{k}"] = mask = np.zeros((2, 128, 128), np.uint8)
            mask[:, 20 * k : 20 * k + 25] = 1  # neighbours overlap
    np.savez(tmp_path / "idrib_128.npz", **arrays)
    records = list(read("idrib", tmp_path, "real"))
    assert len(records) == 6 and {r.split for r in records} == {"train", "val", "test"}
    assert records[0].semantic[[0, 30, 42, 50, 62, 82, 90], 0].tolist() == [0, 1, 2, 2, 3, 4, 4]


def test_a_name_with_a_hyphen_finds_its_file(tmp_path):
    arrays = {
        f"{s}_{k}": np.zeros((1, 128, 128, 3) if k == "images" else (1, 128, 128), np.uint8)
        for s in ("train", "val", "test")
        for k in ("images", "label")
    }
    arrays["train_label"][0, :9, :9] = 2
    np.savez(tmp_path / "bkai-igh_128.npz", **arrays)
    assert np.unique(next(read("bkai-igh", tmp_path, "real")).semantic).tolist() == [0, 2]
