"Real files in their original layout, read through cards alone; skipped, saying why, where the extracts are absent."

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

from taco.base import DataError
from taco.data.card import load_card
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.prepare import fit_square
from taco.data.store import Store

CARDS = Path(__file__).parents[1] / "cards"

# extract → (card, files, subjects, label values); a shipped card goes by its name
EXTRACTS = {
    "chase_db1": ("chasedb1", 28, 14, {0, 1}),
    "wbc_zheng": ("wbc", 40, 40, {0, 1, 2}),
    "hc18_fetal_us": (CARDS / "hc18_fetal_us.toml", 40, 40, {0, 1}),
    "isic2016_part3b": ("isic2016", 21, 21, {0, 1}),
    "dsb2018_nuclei": ("cellnuclei", 26, 26, {0, 1}),
    "msd_hippocampus": (CARDS / "msd_hippocampus.toml", None, 40, {0, 1, 2}),
    "axondeepseg_sem": (CARDS / "axondeepseg_sem.toml", 8, 6, {0, 1, 2}),
    "ibsi_lung_ct": (CARDS / "ibsi_lung_ct.toml", None, 1, {0, 1}),
}


def extract(shared_data: Path, name: str) -> Path:
    folder = shared_data / name
    if not folder.is_dir():
        pytest.skip(f"no extract at {folder}")
    return folder


def edges(image: np.ndarray, labels: np.ndarray) -> float:
    "How much steeper the image is on the borders of the labels than elsewhere."
    slope = ndimage.gaussian_gradient_magnitude(image, 1)
    return slope[find_boundaries(labels)].mean() / slope.mean()


@pytest.mark.parametrize("name", EXTRACTS)
def test_an_extract_is_read_with_its_labels_and_honest_splits(shared_data, name):
    card, images, subjects, values = EXTRACTS[name]
    found = find(card, extract(shared_data, name), "real")
    assert found.source == "real" and len({i.subject for i in found.items}) == subjects
    if images:
        assert len(found.items) == images
    splits: dict[str, set] = {}
    seen: set = set()
    scores = []
    for record in read(card, shared_data / name, "real", subjects=6):
        splits.setdefault(record.subject, set()).add(record.split)
        seen |= set(np.unique(record.semantic).tolist())
        assert record.semantic.shape == record.image.shape[1:] and record.semantic.any()
        small = fit_square(record, 256)
        image, labels = small.image.mean(0), small.semantic
        if labels.any():
            scores.append(
                [
                    edges(image, m)
                    for m in (
                        labels,
                        labels[:, ::-1],
                        labels[::-1],
                        labels.T,
                        np.roll(labels, 16, (0, 1)),
                    )
                ]
            )
    assert seen == values
    assert all(len(s) == 1 for s in splits.values())
    assert (
        {"train"} == set.union(*splits.values())
        if subjects == 1
        else {"train", "test"} <= set.union(*splits.values())
    )
    right, *wrong = np.mean(
        scores, 0
    )  # masks lie on what they name: better than mirrored, transposed or shifted by a sixteenth
    assert all(right > 1.1 * w for w in wrong), (right, wrong)


def test_both_eyes_of_a_child_stay_together(shared_data):
    records = find("chasedb1", extract(shared_data, "chase_db1"), "real")
    assert records.layout == "pairs" and sorted({i.subject for i in records.items})[:2] == [
        "01",
        "02",
    ]
    eyes = {}
    for item in records.items:
        eyes.setdefault(item.subject, []).append(Path(item.file).name)
    assert eyes["07"] == ["Image_07L.jpg", "Image_07R.jpg"]


def test_pixels_and_labels_are_those_of_the_files(shared_data):
    "Every format once, against a plain reading of the file."
    folder = extract(shared_data, "chase_db1")
    record = next(r for r in read("chasedb1", folder, "real") if r.file.endswith("Image_03R.jpg"))
    np.testing.assert_allclose(
        record.image,
        np.asarray(Image.open(folder / "CHASEDB1/Image_03R.jpg")).transpose(2, 0, 1)
        / np.float32(255),
        rtol=1e-6,
    )
    np.testing.assert_array_equal(
        record.semantic, np.asarray(Image.open(folder / "CHASEDB1/Image_03R_1stHO.png"))
    )

    folder = extract(shared_data, "msd_hippocampus") / "Task04_Hippocampus"
    record = next(read(CARDS / "msd_hippocampus.toml", shared_data))
    name = f"{record.subject}.nii.gz"
    labels = nibabel.as_closest_canonical(nibabel.load(folder / "labelsTr" / name)).get_fdata()
    np.testing.assert_array_equal(record.semantic, labels[:, :, record.slice].T[::-1, ::-1])
    assert record.spacing == (1., 1.)

    folder = extract(shared_data, "dsb2018_nuclei")
    record = next(read("cellnuclei", folder, "real"))
    masks = sorted((folder / "stage1_train" / record.key / "masks").glob("*.png"))
    assert record.image.shape[0] == 3 and len(np.unique(record.instances)) - 1 == len(
        masks
    )  # RGBA, one nucleus a file
    np.testing.assert_array_equal(
        record.instances > 0, np.any([np.asarray(Image.open(m)) > 0 for m in masks], axis=0)
    )


def test_stray_label_values_are_refused_unless_the_card_allows_them(shared_data):
    folder = extract(shared_data, "wbc_zheng")
    card = load_card("wbc")
    for table in card.read:
        table.pop("tolerance", None)
    with pytest.raises(DataError) as error:
        list(read(card, folder, "real"))
    message = str(error.value)
    assert (
        "076.png" in message
        and "0, 24, 37, 50, 128, 255" in message
        and "Declare 24, 37, 50" in message
    )
    record = next(r for r in read("wbc", folder, "real") if r.file.endswith("Dataset 2/076.bmp"))
    raw = np.asarray(Image.open(folder / "Dataset 2" / "076.png"))
    assert (record.semantic == 2).sum() == (raw == 255).sum() and (record.semantic == 1).sum() == (
        raw == 128
    ).sum()


@pytest.fixture(scope="module")
def real_store(shared_data, tmp_path_factory) -> Store:
    "Three datasets of different layouts (photographs with one-bit masks, BMP, volumes), packed."
    out = tmp_path_factory.mktemp("real")
    for name in ("chase_db1", "wbc_zheng", "msd_hippocampus"):
        extract(shared_data, name)
    return Store.open(
        [
            pack("chasedb1", shared_data / "chase_db1", out, 64, source="real"),
            pack("wbc", shared_data / "wbc_zheng", out, 64, source="real"),
            pack(CARDS / "msd_hippocampus.toml", shared_data, out, 64, subjects=10),
        ]
    )


def test_real_files_become_a_store(real_store):
    table = real_store.table
    assert set(table.source) == {"real"} and real_store.datasets == [
        "chasedb1",
        "wbc",
        "msd_hippocampus",
    ]
    assert set(table.modality) == {"fundus photography", "light microscopy", "MR"}
    for _, rows in table.groupby(["dataset", "subject"]):
        assert rows.split.nunique() == 1
    assert all(
        len(real_store.select(split, dataset=d))
        for split in ("train", "test")
        for d in real_store.datasets
    )


def test_real_records_become_pairs_of_every_task_they_allow(real_store):
    from taco.tasks.catalogue import ALL_TASKS
    from taco.tasks.task import get_task
    shown = 0
    for name in ALL_TASKS:
        task = get_task(name)
        rows = real_store.select(task=task)
        assert len(rows), name
        batch = real_store.batch(rows[:: max(1, len(rows) // 6)][:6])
        source, target = task(batch, torch.Generator().manual_seed(0))
        assert (
            source.shape == target.shape == (len(batch), 3, 64, 64)
            and torch.isfinite(target).all()
            and target.min() >= 0
            and target.max() <= 1
        )
        assert (source != target).flatten(1).any(1).all(), name
        shown += 1
    assert shown == 30


def test_real_files_go_through_training_embedding_and_neighbours(real_store, tmp_path):
    "The whole path on real input: a short training on real training images, then kNN of pairs of real held-out images."
    from taco.atlas.embedding import embed, plan_pairs
    from taco.atlas.neighbours import weighted_knn
    from taco.learning.encoder import EncoderConfig
    from taco.learning.recipe import TrainConfig
    from taco.learning.training import train

    tasks = [
        "binary_segmentation",
        "centre_point_detection",
        "salt_and_pepper_denoising",
        "super_resolution",
        "outpainting",
        "colorization",
        "free_rotation",
        "intensity_inversion",
    ]
    config = TrainConfig.of(
        steps=50,
        pairs_per_task=6,
        learning_rate=3e-3,
        device="cpu",
        precision="32",
        encoder=EncoderConfig(backbone="resnet10", width=0.25),
    )
    encoder = train(real_store, tasks, config, tmp_path / "run", progress=False)
    bank, queries = (
        plan_pairs(real_store, tasks, split, per_cell=8, seed=seed)
        for split, seed in (("train", 0), ("test", 1))
    )
    assert set(queries["source"]) == {"real"} and not set(bank["subject"] + bank["dataset"]) & set(
        queries["subject"] + queries["dataset"]
    )
    guess = weighted_knn(
        embed(encoder, real_store, bank), bank["task"], embed(encoder, real_store, queries), k=5
    )
    accuracy = (guess == queries["task"].to_numpy()).mean()
    assert accuracy > 0.5, (
        f"task kNN of held-out real images {accuracy:.2f}, chance {1 / len(tasks):.2f}"
    )
