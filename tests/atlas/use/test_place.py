"taco.atlas.use.place: votes, novelty, errors; and real images of every task that their annotations allow."

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import taco
from taco.atlas.embedding import Embeddings
from taco.atlas.neighbours import novelty, usual_distances
from taco.atlas.rivals.baselines import RandomEncoder
from taco.atlas.use.place import Known, load_run, place, ranking
from taco.base import DataError, EncoderError, ParameterError, StoreError, TacoError
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.pairs import make_pairs
from taco.tasks.task import get_task
from tests.pairs import SIZE, pairs_of, save_pairs
from tests.trained import TASKS, train_run

CARDS = Path(__file__).parents[2] / "cards"

SHIPPED = dict(
    chase_db1="chasedb1", wbc_zheng="wbc", isic2016_part3b="isic2016", dsb2018_nuclei="cellnuclei"
)  # extract → card of the catalogue


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("packed")
    return Store.open(
        [
            pack(name, out=out, size=SIZE, source="phantom", subjects=12)
            for name in ("acdc", "busi", "kvasir")
        ]
    )


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path: return train_run(store, tmp_path_factory.mktemp("run"))


def quiet_place(*args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return place(*args, **more)


# ---------------------------------------------------------------- votes and novelty


def blobs(names, per=30, dim=8, spread=.1, seed=0):
    rng = np.random.default_rng(seed)
    points = np.repeat(np.eye(dim)[: len(names)], per, 0) + spread * rng.standard_normal(
        (per * len(names), dim)
    )
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), np.repeat(
        names, per
    )


def test_shares_are_votes_and_intervals_cover_them():
    bank, labels = blobs(list("abc"))
    new = np.concatenate(
        [blobs(list("abc"), 10, seed=1)[0][:10], blobs(list("abc"), 10, seed=1)[0][10:15]]
    )  # ten like a, five like b
    table = ranking(new, bank, labels).set_index("label")
    assert (
        table["share"].sum() == pytest.approx(1)
        and table.loc["a", "share"] == pytest.approx(2 / 3, abs=0.02)
        and table.loc["b", "share"] == pytest.approx(1 / 3, abs=0.02)
    )
    assert table.loc["a", "low"] < 2 / 3 < table.loc["a", "high"] and table.loc["c", "share"] < .01
    alone = ranking(new[:1], bank, labels)
    assert alone["label"][0] == "a" and alone[["low", "high"]].isna().all(axis=None)


def test_novelty_is_calibrated_across_datasets():
    "Pairs like the held-out ones raise the alarm as often as they should; pairs of a direction nobody knows always do."
    bank, _ = blobs(list("abcd"), 60)
    held, _ = blobs(list("abcd"), 100, seed=1)
    new, _ = blobs(list("abcd"), 100, seed=2)
    where = np.random.default_rng(0).choice(list("xyz"), len(bank))
    there = np.random.default_rng(1).choice(list("xyz"), len(held))
    usual = usual_distances(bank, where, held, there)
    found = novelty(new, bank, usual)
    assert (
        found.verdict == "known"
        and 0.0 <= found.beyond95 < 0.1
        and found.beyond99 < 0.04
        and found.level.min() >= 0
        and found.level.max() <= 1
    )
    far = np.zeros((6, 8), np.float32)
    far[:, 7] = 1
    assert novelty(far, bank, usual).verdict == "unlike anything known"
    apart = np.where(
        np.arange(len(bank)) < 120, "x", "y"
    )  # every dataset has tasks of its own: leaving it out must widen what is usual
    wider = usual_distances(bank, apart, held, np.where(np.arange(len(held)) < 200, "x", "y"))
    assert np.quantile(wider, .95) > 2 * found.threshold95


def test_pairs_of_the_own_dataset_are_left_out_one_by_one():
    "The slow way: for each held-out pair the mean cosine to its nearest rows of other datasets, sorted."
    bank, _ = blobs(list("abcd"), 20)
    held, _ = blobs(list("abcd"), 8, seed=1)
    rng = np.random.default_rng(0)
    where, there = rng.choice(list("xxxy"), len(bank)), rng.choice(list("xyz"), len(held))
    others = [np.sort(bank[where != own] @ row)[::-1] for row, own in zip(held, there)]
    slow = sorted(1 - cosine[:25].mean() for cosine in others if len(cosine) >= 25)
    assert np.allclose(usual_distances(bank, where, held, there, 25), slow, atol=1e-6)
    alone = usual_distances(bank, np.full(len(bank), "x"), held, np.full(len(held), "x"), 5)
    assert len(alone) == len(held), "a bank of one dataset: nothing can be left out"


# ---------------------------------------------------------------- placing


def test_known_tasks_are_named_from_files(store, run, tmp_path):
    right = 0
    for name in TASKS:
        found = quiet_place(save_pairs(tmp_path / name, *pairs_of(store, name)), run, k=10)
        assert list(found.tasks.columns) == [
            "task",
            "family",
            "share",
            "low",
            "high",
            "similarity",
        ] and found.tasks["share"].sum() == pytest.approx(1)
        right += found.tasks["task"][0] == name
    assert right >= len(TASKS) - 1
    again = quiet_place(tmp_path / TASKS[-1], run, k=10)
    assert again.tasks.equals(found.tasks) and np.array_equal(again.vectors, found.vectors)


def test_the_three_ways_to_call_it_agree(store, run):
    rows = store.select(split="test", task=get_task("outpainting"))[:6]
    pairs = make_pairs(store, "outpainting", rows, torch.arange(6))
    encoder, embeddings = (
        PairEncoder.load(run / "train/encoder", device="cpu"),
        Embeddings.load(run / "embed/embeddings"),
    )
    ways = [
        quiet_place(pairs, run),
        quiet_place((pairs.input, pairs.output), encoder, embeddings),
        quiet_place(pairs, run / "train/encoder", run / "embed/embeddings"),
        quiet_place(pairs, Known(encoder, embeddings)),
    ]
    assert all(w.tasks.equals(ways[0].tasks) for w in ways)


def test_taco_place_is_there_without_importing_torch_at_once(run):
    assert taco.place is place
    with pytest.raises(AttributeError, match="no attribute 'plaec'"): taco.plaec  # noqa: B018
    code = "import sys, taco; assert 'torch' not in sys.modules; assert callable(taco.place) and taco.__version__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unheard_of_pair_is_not_called_known(store, run):
    "The bank without a task is what an encoder would know that had never heard of it."
    known = load_run(run)
    rest = known.embeddings.table["task"] != "binary_segmentation"
    less = Known(
        known.encoder,
        Embeddings(
            known.embeddings.table[rest].reset_index(drop=True),
            {"taco": np.asarray(known.embeddings["taco"])[rest]},
        ),
    )
    pairs = pairs_of(store, "binary_segmentation")
    assert quiet_place(pairs, known, k=10).novelty.verdict == "known"
    assert (
        quiet_place(pairs, less, k=10).novelty.distance.mean()
        > quiet_place(pairs, known, k=10).novelty.distance.mean()
    )


def test_warnings_say_what_is_missing(store, run):
    input, output = pairs_of(store, "intensity_inversion", 1)
    with pytest.warns(UserWarning) as said: found = place((input, output), run)
    text = " ".join(str(w.message) for w in said)
    assert "One pair only" in text and "knows 6 tasks" in text and "colorization" in text
    assert np.isnan(found.tasks["low"]).all() and "no interval" in repr(found)


def test_pictures_and_tables_are_written(store, run, tmp_path):
    found = quiet_place(pairs_of(store, "outpainting"), run)
    found.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "tasks.csv",
        "families.csv",
        "pairs.csv",
        "map.png",
        "map.pdf",
        "map.svg",
        "map.html",
    }
    assert Image.open(tmp_path / "out/map.png").size[0] > 800 and len(
        pd.read_csv(tmp_path / "out/pairs.csv")
    ) == len(found.names)
    known = load_run(run)
    test = known.embeddings.where(split="test")
    xy = np.random.default_rng(0).standard_normal((len(test), 2)).astype(np.float32)
    quiet_place(pairs_of(store, "outpainting"), Known(known.encoder, known.embeddings, xy)).save(
        tmp_path / "with_map"
    )
    assert (tmp_path / "with_map/map.png").read_bytes() != (tmp_path / "out/map.png").read_bytes()


def test_datasets_are_not_named(store, run, tmp_path):
    "The vote for a dataset, of images whose dataset the bank does not have, would mislead."
    found = quiet_place(pairs_of(store, "outpainting"), run)
    files = found.save(tmp_path).glob("*.csv")
    tables = [found.tasks, found.families, *map(pd.read_csv, files)]
    assert len(tables) == 5 and not any("dataset" in table for table in tables)
    known = set(store.datasets)
    assert not any(known & set(table.astype(str).to_numpy().ravel()) for table in tables)


def test_bad_runs_are_refused(store, run, tmp_path):
    pairs = pairs_of(store, "outpainting", 2)
    with pytest.raises(StoreError, match="'train'"): place(pairs, tmp_path)
    shutil.copytree(run / "train", tmp_path / "run/train")
    with pytest.raises(StoreError, match="'embed'"): place(pairs, tmp_path / "run")
    shutil.copytree(run / "embed", tmp_path / "run/embed")
    broken = np.load(tmp_path / "run/embed/embeddings/taco.npy")
    broken[3] = np.nan
    np.save(tmp_path / "run/embed/embeddings/taco.npy", broken)
    with pytest.raises(StoreError, match=r"taco\.npy"): quiet_place(pairs, tmp_path / "run")
    known = Embeddings.load(run / "embed/embeddings")
    Embeddings(known.table, dict(known.vectors, taco=broken)).save(tmp_path / "run/embed/embeddings")
    with pytest.raises(TacoError, match="not numbers"): quiet_place(pairs, tmp_path / "run")
    (tmp_path / "run/train/encoder/encoder.safetensors").unlink()
    with pytest.raises(EncoderError): place(pairs, tmp_path / "run")
    with pytest.raises(ParameterError, match="knows no tasks"):
        place(pairs, RandomEncoder(EncoderConfig(size=SIZE)))
    for k in (0, 10 ** 6, 2.5):
        with pytest.raises(ParameterError, match="neighbours"): quiet_place(pairs, run, k=k)
    for wrong in (
        (pairs[0], pairs[1][:1]),
        (pairs[0] * 300, pairs[1]),
        (pairs[0][:0], pairs[1][:0]),
        (pairs[0] * torch.nan, pairs[1]),
    ):
        with pytest.raises(DataError):
            place(wrong, run)


# ---------------------------------------------------------------- real images


def real_cards(shared_data: Path) -> dict[str, str | Path]:
    "Extract → card: the shipped ones, and every card of tests/cards that is named like an extract."
    cards = SHIPPED | {p.stem: p for p in sorted(CARDS.glob("*.toml"))}
    return {name: card for name, card in cards.items() if (shared_data / name).is_dir()}


def pack_real(name: str, card, shared_data: Path, out: Path, size: int) -> Path:
    "A card may expect its own folder or that of all extracts; the one that holds its files is used."
    try: return pack(card, shared_data / name, out, size, source="real", subjects=10)
    except DataError: return pack(card, shared_data, out, size, source="real", subjects=10)


@pytest.fixture(scope="session")
def trained(root) -> Known:
    folder = Path(os.environ.get("TACO_RUN") or root / "runs/quick")
    if "TACO_RUN" not in os.environ and not (folder / "embed/done.json").exists():
        pytest.skip(
            f"no trained run at {folder}; make one with `make reproduce PROFILE=quick`, or set TACO_RUN"
        )
    return load_run(folder)


def test_real_pairs_of_every_task_are_named_first(shared_data, trained, tmp_path):
    """Real images that no training saw, as PNG files in a folder, for every task that their annotations allow.

    The right task is named first for at least 80 % of the (dataset, task) combinations.
    """
    found, size = [], trained.size
    for name, card in real_cards(shared_data).items():
        store = Store.open([pack_real(name, card, shared_data, tmp_path / "packed", size)])
        for task in map(get_task, sorted(set(trained.embeddings.table["task"]))):
            rows = store.select(task=task)
            if not len(rows): continue
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:8])
            folder = save_pairs(
                tmp_path / name / task.name,
                *task(store.batch(rows), seeds=torch.arange(len(rows)) + 1000),
            )
            placed = quiet_place(folder, trained, draws=20)
            top = placed.tasks.set_index("task")["share"]
            found.append(
                dict(
                    dataset=name,
                    task=task.name,
                    pairs=len(rows),
                    first=placed.tasks["task"][0],
                    share=round(float(top[task.name]), 2),
                    right=placed.tasks["task"][0] == task.name,
                    novelty=placed.novelty.verdict,
                )
            )
    table = pd.DataFrame(found)
    with pd.option_context("display.max_rows", 999, "display.width", 160):
        print(
            "\nby task\n", table.groupby("task")["right"].agg(["mean", "size"]).sort_values("mean")
        )
        print(
            "\nby dataset\n",
            table.groupby("dataset")["right"].agg(["mean", "size"]).sort_values("mean"),
        )
        print("\nwrong\n", table[~table["right"]].to_string())
        print("\nverdicts\n", table["novelty"].value_counts().to_dict())
    share, datasets = table["right"].mean(), table["dataset"].nunique()
    print(f"\nright task first: {share:.1%} of {len(table)} combinations of {datasets} real datasets")
    assert table["dataset"].nunique() >= 4 and set(table["task"]) == set(
        trained.embeddings.table["task"]
    )
    assert table["right"].mean() >= .8


# ---------------------------------------------------------------- several at once


def test_several_are_placed_as_each_alone(store, run, tmp_path):
    "As a list of folders, and as a dict of folders and tensors; each has the numbers that it has alone."
    flipped, inverted = (pairs_of(store, name) for name in ("horizontal_flip", "intensity_inversion"))
    folders = [save_pairs(tmp_path / name, *pairs) for name, pairs in (("flip", flipped), ("ink", inverted))]
    listed = quiet_place(folders, run, k=10)
    mixed = quiet_place({"a $1": folders[0], "b": inverted}, run, k=10)
    alone = quiet_place(folders[0], run, k=10)
    assert list(listed.placed) == ["flip", "ink"] and list(mixed.placed) == ["a $1", "b"]
    for found in (listed["flip"], mixed["a $1"]):
        assert found.tasks.equals(alone.tasks) and np.array_equal(found.vectors, alone.vectors)
    assert repr(alone) in repr(listed) and listed["ink"].tasks["task"][0] == "intensity_inversion"
    mixed.save(tmp_path / "out")
    tasks = pd.read_csv(tmp_path / "out/tasks.csv")
    assert list(tasks)[:2] == ["folder", "task"] and set(tasks["folder"]) == {"a $1", "b"}
    assert len(pd.read_csv(tmp_path / "out/pairs.csv")) == 16
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"tasks.csv", "families.csv", "pairs.csv", "map.pdf", "map.png", "map.svg", "map.html"}


@pytest.mark.parametrize("several", [[], {}, ["pairs", "other/pairs"]])
def test_none_and_two_of_one_name_are_refused(several, run):
    with pytest.raises(ParameterError, match="nothing to place|the same name"): place(several, run)


def test_what_are_no_pairs_is_named(run):
    for wrong in (3, (torch.zeros(1, 3, 8, 8),), ("pairs", torch.zeros(1, 3, 8, 8))):
        with pytest.raises(DataError, match="a folder or two tensors"): quiet_place(wrong, run)
