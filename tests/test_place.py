"taco.atlas.place: folders of pairs, votes, novelty, errors; and real images of every task that their annotations allow."
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import taco
from taco.atlas.baselines import RandomEncoder
from taco.atlas.embedding import Embeddings, embed, plan_pairs
from taco.atlas.place import Known, find_pairs, load_run, novelty, place, place_command, ranking, read_folder, usual_distances
from taco.base import DataError, EncoderError, ParameterError, StoreError, TacoError
from taco.data.store import Store, pack
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task

CARDS = Path(__file__).parent / "cards"
SHIPPED = dict(chase_db1="chasedb1", wbc_zheng="wbc", isic2016_part3b="isic2016", dsb2018_nuclei="cellnuclei")  # extract → card of the catalogue
SIZE = 32


def save(file: Path, image) -> None:
    "A (3, S, S) or (H, W) image in [0, 1], or an array of pixels, as a file."
    image = np.asarray(image)
    if image.dtype.kind == "f" and file.suffix != ".npz": image = (image * 255).round().astype(np.uint8)
    if image.ndim == 3 and image.shape[0] == 3: image = image.transpose(1, 2, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz": np.savez(file, image)
    elif file.suffix in (".tif", ".tiff"): tifffile.imwrite(file, image)
    else: Image.fromarray(image).save(file)


def save_pairs(folder: Path, input, output, kind=".png") -> Path:
    for i, pair in enumerate(zip(input, output)):
        for word, image in zip(("input", "output"), pair): save(folder / word / f"{i}{kind}", image)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("packed")
    return Store.open([pack(name, out=out, size=SIZE, source="phantom", subjects=12) for name in ("acdc", "busi", "kvasir")])


TASKS = ["intensity_inversion", "horizontal_flip", "gaussian_denoising", "binary_segmentation", "outpainting", "brightness_change"]


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    "A run folder as a profile leaves it, of an encoder trained for a few steps."
    from taco.learning.training import TrainConfig, train
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(steps=40, pairs_per_task=6, learning_rate=3e-3, device="cpu", precision="32", encoder=EncoderConfig(backbone="resnet10", width=.25, size=SIZE))
    encoder = train(store, TASKS, config, folder / "state", progress=False)
    encoder.save(folder / "train/encoder")
    plan = pd.concat([plan_pairs(store, TASKS, split, 8, seed) for seed, split in enumerate(("train", "test"))], ignore_index=True)
    Embeddings(plan, {"taco": embed(encoder, store, plan)}).save(folder / "embed/embeddings")
    return folder


def quiet_place(*args, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return place(*args, **more)


def pairs_of(store, name, count=8, seed=50):
    rows = store.select(split="test", task=get_task(name))[:count]
    return get_task(name)(store.batch(rows), seeds=torch.arange(len(rows)) + seed)


# ---------------------------------------------------------------- folders

@pytest.mark.parametrize("kind", [".png", ".tif", ".npz", ".bmp"])
def test_what_is_written_is_read(store, tmp_path, kind):
    input, output = pairs_of(store, "intensity_inversion")
    names, x, y = read_folder(save_pairs(tmp_path, input, output, kind), SIZE)
    assert names == sorted(str(i) for i in range(len(input))) and x.dtype == torch.float32
    assert (x - input).abs().max() < 2.1 / 255 and (y - output).abs().max() < 2.1 / 255


def test_jpeg_and_suffixes_and_other_words(store, tmp_path):
    input, output = pairs_of(store, "horizontal_flip", 3)
    for i in range(3):
        save(tmp_path / f"a{i}_before.jpg", input[i]); save(tmp_path / f"a{i}_after.jpeg", output[i])
    (tmp_path / "notes.txt").write_text("not an image"); save(tmp_path / "unrelated.png", input[0])
    names, x, y = read_folder(tmp_path, SIZE, words=("before", "after"))
    assert names == ["a0", "a1", "a2"] and (x - input).abs().mean() < .03 and (y - x.flip(-1)).abs().mean() < .03
    with pytest.raises(DataError, match="no pairs"): read_folder(tmp_path, SIZE)


def test_one_archive_of_many_pairs(store, tmp_path):
    input, output = pairs_of(store, "intensity_inversion", 5)
    np.savez(tmp_path / "all.npz", input=input.permute(0, 2, 3, 1).numpy(), output=output.permute(0, 2, 3, 1).numpy())
    names, x, y = read_folder(tmp_path, SIZE)
    assert len(names) == 5 and torch.allclose(x, input, atol=1e-4) and torch.allclose(y, output, atol=1e-4)
    np.savez(tmp_path / "all.npz", input=input[0, 0].numpy(), output=output[0, 0].numpy())
    assert torch.allclose(read_folder(tmp_path, SIZE)[1][0, 0], input[0, 0], atol=1e-4)


def test_any_size_any_depth(tmp_path):
    y, x = np.mgrid[:90, :140]
    image = (x / 140 * .5).astype(np.float32)
    save(tmp_path / "input/a.png", image); save(tmp_path / "output/a.png", image + .25)
    save(tmp_path / "input/b.tif", (image * 4000).astype(np.uint16)); save(tmp_path / "output/b.tif", ((image + .25) * 4000).astype(np.uint16))
    save(tmp_path / "input/c.png", np.stack([(image * 255).astype(np.uint8)] * 4, -1)); save(tmp_path / "output/c.png", image + .25)  # with an alpha channel
    _, a, b = read_folder(tmp_path, SIZE)
    assert a.shape == (3, 3, SIZE, SIZE) and ((b - a).mean((1, 2, 3)) > .2).all()  # the change of brightness survives in 16 bits too
    middle = image[45, 25:115]  # the largest centred square
    assert np.allclose(a[0, 0, 16], np.interp((np.arange(SIZE) + .5) * 90 / SIZE - .5, np.arange(90), middle), atol=.02)
    assert not np.allclose(read_folder(tmp_path, SIZE, fit="stretch")[1][0], a[0], atol=.02)


def test_maps_of_labels_are_made_visible(tmp_path):
    labels = np.zeros((SIZE, SIZE), np.uint8); labels[8:20, 8:20] = 1; labels[22:28, 22:28] = 2
    save(tmp_path / "input/a.png", np.random.default_rng(0).random((SIZE, SIZE))); save(tmp_path / "output/a.png", labels)
    with pytest.warns(UserWarning, match="map of labels"): _, _, y = read_folder(tmp_path, SIZE)
    assert sorted(y.unique().tolist()) == [0, .5, 1]


def test_masks_stay_sharp_when_they_are_reduced(tmp_path):
    y, x = np.mgrid[:301, :301]
    mask = ((y - 150) ** 2 + (x - 140) ** 2 < 90 ** 2)[..., None] * np.array([200, 30, 60]) + np.array([10, 200, 100])
    save(tmp_path / "input/a.png", np.random.default_rng(0).random((301, 301))); save(tmp_path / "output/a.png", mask.astype(np.uint8))
    _, input, output = read_folder(tmp_path, SIZE)
    assert len(output[0].flatten(1).unique(dim=1).T) == 2 and len(input[0].unique()) > 100
    assert abs((output[0, 0] > .5).float().mean() - np.pi * 90 ** 2 / 301 ** 2) < .02


def test_bad_folders_are_refused_by_name(tmp_path):
    picture = np.random.default_rng(0).random((20, 20))
    with pytest.raises(DataError, match="no such folder"): find_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no pairs"): find_pairs(tmp_path)
    (tmp_path / "input").mkdir(); (tmp_path / "output").mkdir()
    with pytest.raises(DataError, match="holds no pairs"): find_pairs(tmp_path)
    save_pairs(tmp_path, [picture] * 2, [picture] * 2)
    save(tmp_path / "input/left.png", picture); save(tmp_path / "output/right.png", picture)
    with pytest.raises(DataError, match="2 files have no partner") as error: find_pairs(tmp_path)
    assert "input/left.png" in str(error.value) and "output/right.png" in str(error.value)
    (tmp_path / "input/left.png").unlink(); (tmp_path / "output/right.png").unlink()
    save(tmp_path / "input/0.tif", picture)
    with pytest.raises(DataError, match="same name"): find_pairs(tmp_path)


def test_bad_files_are_refused_by_name(tmp_path):
    picture = np.random.default_rng(0).random((20, 20))
    wrong = {"size": np.ones((20, 24)), "nan.npz": np.full((20, 20), np.nan), "text.npz": np.array([["a"] * 20] * 20), "shape.npz": np.zeros((20, 20, 7)), "empty.npz": np.zeros((0, 20))}
    for name, array in wrong.items():
        folder = tmp_path / name.split(".")[0]
        save(folder / "input/first.png", picture); save(folder / "output/first.png", picture)
        save(folder / "input/bad.png", picture); save(folder / "output" / ("bad.npz" if "." in name else "bad.png"), array)
        with pytest.raises(DataError) as error: read_folder(folder, SIZE)
        assert "bad" in str(error.value) and "fix" in str(error.value), name
    folder = tmp_path / "cut"
    save_pairs(folder, [picture] * 2, [picture] * 2)
    (folder / "output/1.png").write_bytes((folder / "output/1.png").read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be read") as error: read_folder(folder, SIZE)
    assert "1.png" in str(error.value)
    (folder / "output/1.png").unlink(); (folder / "output/1.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"): read_folder(folder, SIZE)


# ---------------------------------------------------------------- votes and novelty

def blobs(names, per=30, dim=8, spread=.1, seed=0):
    rng = np.random.default_rng(seed)
    points = np.repeat(np.eye(dim)[:len(names)], per, 0) + spread * rng.standard_normal((per * len(names), dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), np.repeat(names, per)


def test_shares_are_votes_and_intervals_cover_them():
    bank, labels = blobs(list("abc"))
    new = np.concatenate([blobs(list("abc"), 10, seed=1)[0][:10], blobs(list("abc"), 10, seed=1)[0][10:15]])  # ten like a, five like b
    table = ranking(new, bank, labels).set_index("label")
    assert table["share"].sum() == pytest.approx(1) and table.loc["a", "share"] == pytest.approx(2 / 3, abs=.02) and table.loc["b", "share"] == pytest.approx(1 / 3, abs=.02)
    assert table.loc["a", "low"] < 2 / 3 < table.loc["a", "high"] and table.loc["c", "share"] < .01
    alone = ranking(new[:1], bank, labels)
    assert alone["label"][0] == "a" and alone[["low", "high"]].isna().all(axis=None)


def test_novelty_is_calibrated_across_datasets():
    "Pairs like the held-out ones raise the alarm as often as they should; pairs of a direction nobody knows always do."
    bank, _ = blobs(list("abcd"), 60); held, _ = blobs(list("abcd"), 100, seed=1); new, _ = blobs(list("abcd"), 100, seed=2)
    where = np.random.default_rng(0).choice(list("xyz"), len(bank)); there = np.random.default_rng(1).choice(list("xyz"), len(held))
    usual = usual_distances(bank, where, held, there)
    found = novelty(new, bank, usual)
    assert found.verdict == "known" and .0 <= found.beyond95 < .1 and found.beyond99 < .04 and 0 <= found.level.min() and found.level.max() <= 1
    far = np.zeros((6, 8), np.float32); far[:, 7] = 1
    assert novelty(far, bank, usual).verdict == "unlike anything known"
    apart = np.where(np.arange(len(bank)) < 120, "x", "y")  # every dataset has tasks of its own: leaving it out must widen what is usual
    wider = usual_distances(bank, apart, held, np.where(np.arange(len(held)) < 200, "x", "y"))
    assert np.quantile(wider, .95) > 2 * found.threshold95


# ---------------------------------------------------------------- placing

def test_known_tasks_are_named_from_files(store, run, tmp_path):
    right = 0
    for name in TASKS:
        found = quiet_place(save_pairs(tmp_path / name, *pairs_of(store, name)), run, k=10)
        assert list(found.tasks.columns) == ["task", "family", "share", "low", "high", "similarity"] and found.tasks["share"].sum() == pytest.approx(1)
        right += found.tasks["task"][0] == name
    assert right >= len(TASKS) - 1
    again = quiet_place(tmp_path / TASKS[-1], run, k=10)
    assert again.tasks.equals(found.tasks) and np.array_equal(again.vectors, found.vectors)


def test_the_three_ways_to_call_it_agree(store, run):
    from taco.learning.pairs import make_pairs
    rows = store.select(split="test", task=get_task("outpainting"))[:6]
    pairs = make_pairs(store, "outpainting", rows, torch.arange(6))
    encoder, embeddings = PairEncoder.load(run / "train/encoder", device="cpu"), Embeddings.load(run / "embed/embeddings")
    ways = [quiet_place(pairs, run), quiet_place((pairs.input, pairs.output), encoder, embeddings), quiet_place(pairs, run / "train/encoder", run / "embed/embeddings"), quiet_place(pairs, Known(encoder, embeddings))]
    assert all(w.tasks.equals(ways[0].tasks) for w in ways)


def test_taco_place_is_there_without_importing_torch_at_once(run):
    assert taco.place is place
    with pytest.raises(AttributeError, match="no attribute 'plaec'"): taco.plaec
    code = "import sys, taco; assert 'torch' not in sys.modules; assert callable(taco.place) and taco.__version__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unheard_of_pair_is_not_called_known(store, run):
    "The bank without a task is what an encoder would know that had never heard of it."
    known = load_run(run)
    rest = known.embeddings.table["task"] != "binary_segmentation"
    less = Known(known.encoder, Embeddings(known.embeddings.table[rest].reset_index(drop=True), {"taco": np.asarray(known.embeddings["taco"])[rest]}))
    pairs = pairs_of(store, "binary_segmentation")
    assert quiet_place(pairs, known, k=10).novelty.verdict == "known"
    assert quiet_place(pairs, less, k=10).novelty.distance.mean() > quiet_place(pairs, known, k=10).novelty.distance.mean()


def test_warnings_say_what_is_missing(store, run):
    input, output = pairs_of(store, "intensity_inversion", 1)
    with pytest.warns(UserWarning) as said: found = place((input, output), run)
    text = " ".join(str(w.message) for w in said)
    assert "One pair only" in text and "knows 6 tasks" in text and "colorization" in text
    assert np.isnan(found.tasks["low"]).all() and "no interval" in repr(found)


def test_pictures_and_tables_are_written(store, run, tmp_path):
    found = quiet_place(pairs_of(store, "outpainting"), run)
    found.save(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"tasks.csv", "families.csv", "datasets.csv", "pairs.csv", "map.png", "map.svg"}
    assert Image.open(tmp_path / "out/map.png").size[0] > 800 and len(pd.read_csv(tmp_path / "out/pairs.csv")) == len(found.names)
    known = load_run(run)
    test = known.embeddings.where(split="test")
    xy = np.random.default_rng(0).standard_normal((len(test), 2)).astype(np.float32)
    quiet_place(pairs_of(store, "outpainting"), Known(known.encoder, known.embeddings, xy)).save(tmp_path / "with_map")
    assert (tmp_path / "with_map/map.png").read_bytes() != (tmp_path / "out/map.png").read_bytes()


def test_bad_runs_are_refused(store, run, tmp_path):
    import shutil
    pairs = pairs_of(store, "outpainting", 2)
    with pytest.raises(StoreError, match="'train'"): place(pairs, tmp_path)
    shutil.copytree(run / "train", tmp_path / "run/train")
    with pytest.raises(StoreError, match="'embed'"): place(pairs, tmp_path / "run")
    shutil.copytree(run / "embed", tmp_path / "run/embed")
    broken = np.load(tmp_path / "run/embed/embeddings/taco.npy"); broken[3] = np.nan
    np.save(tmp_path / "run/embed/embeddings/taco.npy", broken)
    with pytest.raises(TacoError, match="not numbers"): quiet_place(pairs, tmp_path / "run")
    (tmp_path / "run/train/encoder/encoder.safetensors").unlink()
    with pytest.raises(EncoderError): place(pairs, tmp_path / "run")
    with pytest.raises(ParameterError, match="knows no tasks"): place(pairs, RandomEncoder(EncoderConfig(size=SIZE)))
    for k in (0, 10 ** 6, 2.5):
        with pytest.raises(ParameterError, match="neighbours"): quiet_place(pairs, run, k=k)
    for wrong in ((pairs[0], pairs[1][:1]), (pairs[0] * 300, pairs[1]), (pairs[0][:0], pairs[1][:0]), (pairs[0] * torch.nan, pairs[1])):
        with pytest.raises(DataError): place(wrong, run)


def test_the_command(store, run, tmp_path):
    app = typer.Typer(); app.command()(place_command)
    save_pairs(tmp_path / "pairs", *pairs_of(store, "intensity_inversion"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        done = CliRunner().invoke(app, [str(tmp_path / "pairs"), "--encoder", str(run), "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "intensity_inversion" in done.output and "held-out pairs" in " ".join(done.output.split()) and (tmp_path / "out/map.png").exists()
    for wrong, kind in ((["--words", "same,same"], ParameterError), (["--encoder", str(tmp_path)], StoreError), (["--fit", "squeeze"], DataError)):
        done = CliRunner().invoke(app, [str(tmp_path / "pairs"), "--encoder", str(run), *wrong])
        assert isinstance(done.exception, kind), done.output


# ---------------------------------------------------------------- real images

def real_cards(shared_data: Path) -> dict[str, str | Path]:
    "Extract → card: the shipped ones, and every card of tests/cards that is named like an extract."
    cards = SHIPPED | {p.stem: p for p in sorted(CARDS.glob("*.toml"))}
    return {name: card for name, card in cards.items() if (shared_data / name).is_dir()}


def pack_real(name: str, card, shared_data: Path, out: Path, size: int) -> Path:
    "A card may expect the folder of all extracts or its own; the one that holds its files is used."
    try: return pack(card, shared_data, out, size, source="real", subjects=10)
    except DataError: return pack(card, shared_data / name, out, size, source="real", subjects=10)


@pytest.fixture(scope="session")
def trained(root) -> Known:
    folder = Path(os.environ.get("TACO_RUN") or root / "runs/quick")
    if "TACO_RUN" not in os.environ and not (folder / "embed/done.json").exists():
        pytest.skip(f"no trained run at {folder}; make one with `make reproduce PROFILE=quick`, or set TACO_RUN")
    return load_run(folder)


def test_real_pairs_of_every_task_are_named_first(shared_data, trained, tmp_path):
    """Real images that no training saw, as PNG files in a folder, for every task that their annotations allow: the right task is named first
    for at least 80 % of the (dataset, task) combinations."""
    found, size = [], trained.size
    for name, card in real_cards(shared_data).items():
        store = Store.open([pack_real(name, card, shared_data, tmp_path / "packed", size)])
        for task in map(get_task, sorted(set(trained.embeddings.table["task"]))):
            rows = store.select(task=task)
            if not len(rows): continue
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:8])
            folder = save_pairs(tmp_path / name / task.name, *task(store.batch(rows), seeds=torch.arange(len(rows)) + 1000))
            placed = quiet_place(folder, trained, draws=20)
            top = placed.tasks.set_index("task")["share"]
            found.append(dict(dataset=name, task=task.name, pairs=len(rows), first=placed.tasks["task"][0], share=round(float(top[task.name]), 2),
                              right=placed.tasks["task"][0] == task.name, novelty=placed.novelty.verdict))
    table = pd.DataFrame(found)
    with pd.option_context("display.max_rows", 999, "display.width", 160):
        print("\nby task\n", table.groupby("task")["right"].agg(["mean", "size"]).sort_values("mean"))
        print("\nby dataset\n", table.groupby("dataset")["right"].agg(["mean", "size"]).sort_values("mean"))
        print("\nwrong\n", table[~table["right"]].to_string())
        print("\nverdicts\n", table["novelty"].value_counts().to_dict())
    print(f"\nright task first: {table['right'].mean():.1%} of {len(table)} combinations of {table['dataset'].nunique()} real datasets")
    assert table["dataset"].nunique() >= 4 and set(table["task"]) == set(trained.embeddings.table["task"])
    assert table["right"].mean() >= .8
