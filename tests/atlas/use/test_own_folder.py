"Folders of pairs: found, read, brought to one range and size, and refused by name."

import numpy as np
import pytest
import torch
from PIL import Image

import taco.tasks.catalogue  # noqa: F401  enters the tasks
from taco.atlas.use.own import find_pairs, read_folder
from taco.base import DataError
from taco.data.pack import pack
from taco.data.store import Store
from tests.pairs import SIZE, pairs_of, save, save_pairs


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("packed")
    return Store.open(
        [pack(name, out=out, size=SIZE, source="phantom", subjects=12) for name in ("acdc", "busi")]
    )


@pytest.mark.parametrize("kind", [".png", ".tif", ".npz", ".bmp"])
def test_what_is_written_is_read(store, tmp_path, kind):
    input, output = pairs_of(store, "intensity_inversion")
    names, x, y = read_folder(save_pairs(tmp_path, input, output, kind), SIZE)
    assert names == sorted(str(i) for i in range(len(input))) and x.dtype == torch.float32
    assert (x - input).abs().max() < 2.1 / 255 and (y - output).abs().max() < 2.1 / 255


def test_jpeg_and_suffixes_and_other_words(store, tmp_path):
    input, output = pairs_of(store, "horizontal_flip", 3)
    for i in range(3):
        save(tmp_path / f"a{i}_before.jpg", input[i])
        save(tmp_path / f"a{i}_after.jpeg", output[i])
    (tmp_path / "notes.txt").write_text("not an image")
    save(tmp_path / "unrelated.png", input[0])
    names, x, y = read_folder(tmp_path, SIZE, words=("before", "after"))
    assert (
        names == ["a0", "a1", "a2"]
        and (x - input).abs().mean() < 0.03
        and (y - x.flip(-1)).abs().mean() < 0.03
    )
    with pytest.raises(DataError, match="no pairs"): read_folder(tmp_path, SIZE)


def test_one_archive_of_many_pairs(store, tmp_path):
    input, output = pairs_of(store, "intensity_inversion", 5)
    np.savez(
        tmp_path / "all.npz",
        input=input.permute(0, 2, 3, 1).numpy(),
        output=output.permute(0, 2, 3, 1).numpy(),
    )
    names, x, y = read_folder(tmp_path, SIZE)
    assert (
        len(names) == 5
        and torch.allclose(x, input, atol=1e-4)
        and torch.allclose(y, output, atol=1e-4)
    )
    np.savez(tmp_path / "all.npz", input=input[0, 0].numpy(), output=output[0, 0].numpy())
    assert torch.allclose(read_folder(tmp_path, SIZE)[1][0, 0], input[0, 0], atol=1e-4)


def test_any_size_any_depth(tmp_path):
    y, x = np.mgrid[:90, :140]
    image = (x / 140 * .5).astype(np.float32)
    save(tmp_path / "input/a.png", image)
    save(tmp_path / "output/a.png", image + .25)
    save(tmp_path / "input/b.tif", (image * 4000).astype(np.uint16))
    save(tmp_path / "output/b.tif", ((image + 0.25) * 4000).astype(np.uint16))
    save(tmp_path / "input/c.png", np.stack([(image * 255).astype(np.uint8)] * 4, -1))
    save(tmp_path / "output/c.png", image + 0.25)  # with an alpha channel
    _, a, b = read_folder(tmp_path, SIZE)
    assert (
        a.shape == (3, 3, SIZE, SIZE) and ((b - a).mean((1, 2, 3)) > 0.2).all()
    )  # the change of brightness survives in 16 bits too
    middle = image[45, 25:115]  # the largest centred square
    assert np.allclose(
        a[0, 0, 16],
        np.interp((np.arange(SIZE) + 0.5) * 90 / SIZE - 0.5, np.arange(90), middle),
        atol=0.02,
    )
    assert not np.allclose(read_folder(tmp_path, SIZE, fit="stretch")[1][0], a[0], atol=.02)


def test_maps_of_labels_are_made_visible(tmp_path):
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[8:20, 8:20] = 1
    labels[22:28, 22:28] = 2
    save(tmp_path / "input/a.png", np.random.default_rng(0).random((SIZE, SIZE)))
    save(tmp_path / "output/a.png", labels)
    with pytest.warns(UserWarning, match="map of labels"): _, _, y = read_folder(tmp_path, SIZE)
    assert sorted(y.unique().tolist()) == [0, .5, 1]


def test_masks_stay_sharp_when_they_are_reduced(tmp_path):
    y, x = np.mgrid[:301, :301]
    mask = ((y - 150) ** 2 + (x - 140) ** 2 < 90**2)[..., None] * np.array(
        [200, 30, 60]
    ) + np.array([10, 200, 100])
    save(tmp_path / "input/a.png", np.random.default_rng(0).random((301, 301)))
    save(tmp_path / "output/a.png", mask.astype(np.uint8))
    _, input, output = read_folder(tmp_path, SIZE)
    assert len(output[0].flatten(1).unique(dim=1).T) == 2 and len(input[0].unique()) > 100
    assert abs((output[0, 0] > .5).float().mean() - np.pi * 90 ** 2 / 301 ** 2) < .02


def test_bad_folders_are_refused_by_name(tmp_path):
    picture = np.random.default_rng(0).random((20, 20))
    with pytest.raises(DataError, match="no such folder"): find_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no pairs"): find_pairs(tmp_path)
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()
    with pytest.raises(DataError, match="holds no pairs"): find_pairs(tmp_path)
    save_pairs(tmp_path, [picture] * 2, [picture] * 2)
    save(tmp_path / "input/left.png", picture)
    save(tmp_path / "output/right.png", picture)
    with pytest.raises(DataError, match="2 files have no partner") as error: find_pairs(tmp_path)
    assert "input/left.png" in str(error.value) and "output/right.png" in str(error.value)
    (tmp_path / "input/left.png").unlink()
    (tmp_path / "output/right.png").unlink()
    save(tmp_path / "input/0.tif", picture)
    with pytest.raises(DataError, match="same name"): find_pairs(tmp_path)


def test_bad_files_are_refused_by_name(tmp_path):
    picture = np.random.default_rng(0).random((20, 20))
    wrong = {
        "size": np.ones((20, 24)),
        "nan.npz": np.full((20, 20), np.nan),
        "text.npz": np.array([["a"] * 20] * 20),
        "shape.npz": np.zeros((20, 20, 7)),
        "empty.npz": np.zeros((0, 20)),
    }
    for name, array in wrong.items():
        folder = tmp_path / name.split(".")[0]
        save(folder / "input/first.png", picture)
        save(folder / "output/first.png", picture)
        save(folder / "input/bad.png", picture)
        save(folder / "output" / ("bad.npz" if "." in name else "bad.png"), array)
        with pytest.raises(DataError) as error: read_folder(folder, SIZE)
        assert "bad" in str(error.value) and "fix" in str(error.value), name
    folder = tmp_path / "cut"
    save_pairs(folder, [picture] * 2, [picture] * 2)
    (folder / "output/1.png").write_bytes((folder / "output/1.png").read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be read") as error: read_folder(folder, SIZE)
    assert "1.png" in str(error.value)
    (folder / "output/1.png").unlink()
    (folder / "output/1.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"): read_folder(folder, SIZE)


def spot() -> np.ndarray:
    "(32, 32, 3) uint8, red at the top right."
    picture = np.zeros((32, 32, 3), np.uint8) + 40
    picture[2:10, 20:30] = 200, 30, 30
    return picture


def folder_of(root, input, output, **options):
    for word, (name, picture) in dict(input=input, output=output).items():
        (root / word).mkdir(exist_ok=True)
        picture.save(root / word / name, **(options if word == "input" else {}))
    return root


def test_both_sides_are_read_as_they_are_seen(tmp_path):
    seen, exif = Image.fromarray(spot()), Image.Exif()
    exif[0x0112] = 6
    turned, plain = Image.fromarray(np.rot90(spot())), ("a.png", seen)
    indexed = seen.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    below = np.dstack([spot(), np.where(spot()[..., :1] > 100, 255, 0)]).astype(np.uint8)
    below[below[..., 3] == 0] = 255, 0, 255, 0
    cases = dict(exif=(("a.jpg", turned), dict(exif=exif, quality=95)), palette=(("a.tif", indexed), {}),
                 inks=(("a.tif", seen.convert("CMYK")), {}), gif=(("a.gif", seen), {}), webp=(("a.webp", seen), {}))
    for name, (input, options) in cases.items():
        (tmp_path / name).mkdir()
        names, x, y = read_folder(folder_of(tmp_path / name, input, plain, **options), 32)
        assert names == ["a"] and (x - y).abs().mean() < .01, name
        assert (y[0, :, 5, 25] * 255).round().tolist() == [200, 30, 30]
    (tmp_path / "layer").mkdir()
    x = read_folder(folder_of(tmp_path / "layer", ("a.png", Image.fromarray(below)), plain), 32)[1]
    assert (x[0, :, 5, 25] * 255).round().tolist() == [200, 30, 30] and x[0, :, 20, 5].max() == 0


def test_gif_and_webp_beside_png(tmp_path):
    for name in ("a.png", "b.gif", "c.webp"): folder_of(tmp_path, (name, Image.fromarray(spot())),
                                                        (name, Image.fromarray(spot())))
    assert read_folder(tmp_path, 32)[0] == ["a", "b", "c"]


def test_what_a_card_would_settle_is_refused_with_advice_for_folders(tmp_path):
    seen = Image.fromarray(spot())
    with pytest.raises(DataError, match="take the resolution out"):
        read_folder(folder_of(tmp_path, ("a.png", seen), ("a.png", seen), dpi=(200, 100)), 32)
    (tmp_path / "input/a.png").unlink()
    with pytest.raises(DataError, match="in a file of its own"):
        read_folder(folder_of(tmp_path, ("a.tif", seen), ("a.png", seen), save_all=True,
                              append_images=[Image.fromarray(spot()[::-1])]), 32)
