"One's own pictures, and the encoder that comes with the package: an answer without a card, a store or a training."
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import taco
from taco.atlas.neighbours import weighted_knn
from taco.atlas.use.own import DEMO, embed_pair, write_demo
from taco.atlas.use.place import load_run, place
from taco.base import DataError, EncoderError, TacoError, TaskError
from taco.cli.main import app
from taco.learning.encoder import SHIPPED, PairEncoder
from taco.tasks.catalogue import ALL_TASKS, get_task
from tests.made_run import told

COLOURS = np.random.default_rng(0).integers(0, 255, (48, 60, 3), np.uint8)
MASK = np.zeros((48, 60), np.int64)
MASK[10:30, 20:44] = 1


@pytest.fixture(scope="module")
def known(): return load_run("pretrained")


def pixels(picture) -> np.ndarray: return np.asarray(picture)


# ---------------------------------------------------------------- a task on one picture


def test_a_picture_is_the_same_however_it_is_given(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    blur = get_task("deblurring")
    wanted = blur.on(COLOURS, seed=4, side=32)
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(COLOURS), COLOURS / 255,
                  torch.from_numpy(COLOURS).movedim(2, 0)):
        found = blur.on(given, seed=4, side=32)
        assert np.abs(pixels(found.input).astype(int) - pixels(wanted.input)).max() <= 1
        assert np.abs(pixels(found.output).astype(int) - pixels(wanted.output)).max() <= 1
    assert wanted.output.size == (32, 32) and (pixels(wanted.input) != pixels(wanted.output)).any()


@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_task_is_done_to_one_picture(name):
    two = MASK.copy()
    two[14:20, 4:12] = 2
    cells = two.copy()
    cells[10:30, 32] = 0
    cells[10:30, 33:44] = 3
    pair = get_task(name).on(COLOURS, side=48, labels=dict(semantic=two, instances=cells))
    assert pair.input.size == pair.output.size == (48, 48)
    assert (pixels(pair.input) != pixels(pair.output)).any()


def test_parameters_seeds_and_cuts():
    flip = get_task("horizontal_flip").on(COLOURS, side=24, fit="stretch")
    assert (pixels(flip.output) == pixels(flip.input)[:, ::-1]).all()
    noise = get_task("gaussian_denoising")
    first, again, other = (pixels(noise.on(COLOURS, seed=seed, side=24).input) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    mask = get_task("binary_segmentation").on(COLOURS, side=48, labels=dict(semantic=MASK))
    assert len(np.unique(pixels(mask.output).reshape(-1, 3), axis=0)) == 2
    sheet = mask.side_by_side()
    assert sheet.size == (100, 48) and mask._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(("given", "how", "kind", "words"), [
    (np.arange(400, dtype=np.uint16).reshape(20, 20), {}, EncoderError, "window"),
    (np.zeros((2, 20, 20, 20, 3)), {}, EncoderError, "one image"),
    (COLOURS, dict(amount=3), TaskError, "no parameter 'amount'"),
    (COLOURS, dict(labels=dict(semantic=MASK[:9])), DataError, "size of its image"),
    ("nowhere.png", {}, DataError, "nowhere.png"),
])
def test_what_is_refused(given, how, kind, words):
    with pytest.raises(kind, match=words): get_task("horizontal_flip").on(given, **how)


def test_a_task_that_needs_labels_says_so():
    with pytest.raises(TaskError, match="foreground"): get_task("binary_segmentation").on(COLOURS)
    sixteen = get_task("horizontal_flip").on(np.arange(400, dtype=np.uint16).reshape(20, 20), window=(0, 399), side=20)
    assert pixels(sixteen.input).max() == 255 and pixels(sixteen.input).min() == 0


# ---------------------------------------------------------------- before and after


def test_a_pair_lies_where_a_folder_of_it_does(tmp_path, known):
    after = np.ascontiguousarray(COLOURS[:, ::-1])
    for word, image in (("input", COLOURS), ("output", after)):
        (tmp_path / word).mkdir()
        Image.fromarray(image).save(tmp_path / word / "1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        placed = place(tmp_path, known)
    single, several = embed_pair(COLOURS, after), taco.embed_pair([COLOURS, after], [after, COLOURS])
    assert single.shape == (128,) and several.shape == (2, 128) and single.dtype == np.float32
    assert np.allclose(single, placed.vectors[0], atol=1e-5) and np.allclose(single, several[0], atol=1e-5)
    assert not np.allclose(several[0], several[1], atol=1e-3)


@pytest.mark.parametrize(("before", "after", "words"), [
    ([COLOURS], [], "as many"), ([], [], "at least one"), (COLOURS, COLOURS[:20], "differ in size")])
def test_pairs_that_are_none(before, after, words):
    with pytest.raises(DataError, match=words): embed_pair(before, after)


# ---------------------------------------------------------------- what comes with the package


def test_the_shipped_encoder_is_small_free_and_knows_thirty_tasks(known):
    size = lambda folder: sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert size(SHIPPED / "train") < 10e6 and size(SHIPPED / "embed/embeddings") < 3e6 and size(SHIPPED) < 10e6
    trained = known.embeddings.where(split="train").table
    assert set(trained["task"]) == set(ALL_TASKS) and set(known.bank.table["task"]) == {*ALL_TASKS, "nothing_done"}
    assert set(known.embeddings.table["source"]) <= {"phantom", "packaged"}, "nothing restricted was seen"
    text = (SHIPPED / "README.md").read_text()
    assert "No image of a restricted dataset was seen" in text and f"{len(trained)} training pairs" in text
    assert not PairEncoder.pretrained("cpu").training


def test_the_shipped_bank_answers_as_its_card_says(known):
    asked = known.held_out
    vectors = lambda part: np.asarray(part["taco"], np.float32)
    found = weighted_knn(vectors(known.bank), known.bank.table["task"].to_numpy(), vectors(asked))
    right = (found == asked.table["task"].to_numpy()).mean()
    rows = [row.split("|") for row in (SHIPPED / "README.md").read_text().splitlines() if row.startswith("| ")]
    said = [float(row[2]) for row in rows if row[2].strip()[:2] in ("0.", "1.")]
    assert min(said) - .03 < right < max(said) + .03


def test_what_was_left_as_it_is_is_called_so(known, tmp_path):
    store = taco.Store.open([taco.pack("kvasir", out=tmp_path, size=64, source="phantom", subjects=24)])
    image = store.batch(range(12)).image
    input = image.float() / 255 if image.dtype == torch.uint8 else image
    again = (input + .02 * torch.randn(input.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    for output in (input, again):
        first = place((input, output), known).tasks.iloc[0]
        assert first["task"] == "nothing_done" and first["share"] > .5
    assert place((input, input.flip(-1)), known).tasks["task"][0] == "horizontal_flip"


def test_a_demonstration_without_any_training(tmp_path):
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    tables = {name: np.genfromtxt(tmp_path / "demo" / name / "placed/tasks.csv", str, delimiter=",") for name in DEMO}
    assert sum(tables[name][1, 0] == task for name, task in DEMO.items()) >= 3
    data = told(tmp_path / "demo/atlas.html")
    assert len(data["record"]) == len(load_run("pretrained").held_out) and data["maps"]
    (tmp_path / "file").touch()
    with pytest.raises(TacoError, match="is a folder"):
        app(["demo", "-o", str(tmp_path / "file")], standalone_mode=False)


def test_the_demonstration_is_of_pictures_no_training_has_seen(known, tmp_path):
    assert write_demo(tmp_path, pairs=2) == DEMO
    assert not set(DEMO) & set(known.bank.table["dataset"])
    assert sorted(p.name for p in (tmp_path / "skimage_cell/input").iterdir()) == ["0.png", "1.png"]
