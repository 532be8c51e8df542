"Images with masks in files of their own."

import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import CardError, DataError
from taco.data.find import read
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, disc, make_card, told, write_pairs


@pytest.mark.parametrize(
    "kind", ["16-bit", "rgba", "palette", "grey+alpha", "bmp", "gif", "tif16", "jpeg"]
)
def test_pairs_of_every_usual_format(tmp_path, kind):
    write_pairs(tmp_path, 2, 1)
    image, mask = disc(0)
    place = tmp_path / "toy" / "images" / "p00_00.png"
    place.unlink()
    if kind == "16-bit":
        Image.fromarray(image.astype(np.uint16) * 16).save(place)
    elif kind == "rgba":
        Image.fromarray(np.stack([image, image // 2, image // 3, np.full_like(image, 7)], -1)).save(
            place
        )
    elif kind == "palette":
        Image.fromarray(np.stack([image, image, image], -1)).quantize(256).save(place)
    elif kind == "grey+alpha":
        Image.fromarray(np.stack([image, np.full_like(image, 9)], -1)).save(place)
    elif kind == "tif16":
        tifffile.imwrite(place.with_suffix(".tif"), image.astype(np.uint16) * 100)
    else:
        Image.fromarray(image).save(place.with_suffix({"jpeg": ".jpg"}.get(kind, "." + kind)))
    record = next(r for r in read(make_card(tmp_path), tmp_path) if r.key == "p00_00")
    assert record.image.shape == ((3 if kind in ("rgba", "palette", "gif") else 1), *mask.shape)
    np.testing.assert_array_equal(record.semantic, mask)
    assert record.image[0][mask].mean() > record.image[0][~mask].mean() + 0.2


@pytest.mark.parametrize("kind", ["1-bit", "palette", "rgb grey", "rgba grey"])
def test_masks_of_every_usual_format(tmp_path, kind):
    write_pairs(tmp_path, 2, 1)
    _, mask = disc(0)
    place = tmp_path / "toy" / "masks" / "p00_00.png"
    if kind == "1-bit":
        Image.fromarray(mask).save(place)
    elif kind == "palette":
        picture = Image.fromarray(mask.astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 200, 30, 30])
        picture.save(place)
    else:
        grey = (mask * 255).astype(np.uint8)
        Image.fromarray(
            np.stack([grey] * 3 + [np.full_like(grey, 255)] * (kind == "rgba grey"), -1)
        ).save(place)
    text = (
        CARD + CLASSES + PAIRS.replace("{0 = 0, 255 = 1}", "{0 = 0, 1 = 1, 255 = 1}") + BY_SUBJECT
    )
    record = next(iter(read(make_card(tmp_path, text), tmp_path)))
    np.testing.assert_array_equal(record.semantic, mask)


def test_colour_masks_thresholds_and_one_mask_a_class(tmp_path):
    write_pairs(tmp_path, 1, 1)
    image, mask = disc(0)
    place = tmp_path / "toy" / "masks" / "p00_00.png"
    ring = np.roll(mask, 5, 1) & ~mask
    colours = np.zeros((*mask.shape, 3), np.uint8)
    colours[mask], colours[ring] = (255, 0, 0), (0, 128, 0)
    Image.fromarray(colours).save(place)
    text = (
        CARD
        + CLASSES
        + '2 = "ring"\n'
        + PAIRS.replace(
            "values = {0 = 0, 255 = 1}", 'colours = {"#000000" = 0, "#ff0000" = 1, "#008000" = 2}'
        )
        + BY_SUBJECT
    )
    np.testing.assert_array_equal(
        next(read(make_card(tmp_path, text), tmp_path)).semantic, mask + 2 * ring
    )
    with pytest.raises(DataError) as error:
        next(read(make_card(tmp_path, text.replace("#008000", "#00ff00")), tmp_path))
    told(error, "p00_00.png", "mask", "#008000")

    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "noisy.jpg", quality=30)
    Image.open(tmp_path / "noisy.jpg").save(place)
    text = (
        CARD + CLASSES + PAIRS.replace("values = {0 = 0, 255 = 1}", "threshold = 127") + BY_SUBJECT
    )
    assert (next(read(make_card(tmp_path, text), tmp_path)).semantic == mask).mean() > 0.97

    for name, drawn in (("disc", mask), ("ring", ring)):
        Image.fromarray(drawn).save(tmp_path / "toy" / "masks" / f"p00_00_{name}.png")
    place.unlink()
    text = (
        CARD
        + CLASSES
        + '2 = "ring"\n'
        + PAIRS.replace(
            'masks = "masks/*.{png,tif,bmp,gif}"\nvalues = {0 = 0, 255 = 1}',
            'masks = {1 = "masks/*_disc.png", 2 = "masks/*_ring.png"}',
        )
        + BY_SUBJECT
    )
    np.testing.assert_array_equal(
        next(read(make_card(tmp_path, text), tmp_path)).semantic, mask + 2 * ring
    )


def test_instances_one_file_an_object(tmp_path):
    for seed, name in enumerate(("a", "b")):
        image, _ = disc(seed)
        (tmp_path / "toy" / name / "images").mkdir(parents=True)
        (tmp_path / "toy" / name / "masks").mkdir()
        Image.fromarray(np.stack([image] * 4, -1)).save(
            tmp_path / "toy" / name / "images" / f"{name}.png"
        )
        for k in range(3):
            cell = np.zeros(image.shape, np.uint8)
            cell[4 + 12 * k : 12 + 12 * k, 5:20] = 255
            Image.fromarray(cell).save(tmp_path / "toy" / name / "masks" / f"{k}.png")
    text = (
        CARD
        + CLASSES
        + '\n[[read]]\nreader = "instances"\nimages = "*/images/*.png"\nobjects = "*/masks/*.png"\n'
        + BY_SUBJECT
    )
    records = list(read(make_card(tmp_path, text), tmp_path))
    assert [r.key for r in records] == ["a", "b"] and {r.split for r in records} == {
        "train",
        "test",
    }
    assert (
        np.unique(records[0].instances).tolist() == [0, 1, 2, 3]
        and (records[0].semantic == (records[0].instances > 0)).all()
    )
    for path in (tmp_path / "toy" / "b" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, text), tmp_path))
    told(error, "b.png", "objects")


HEAD = CARD + CLASSES + '2 = "ring"\n3 = "dot"\n'
ONE = '\n[[read]]\nreader = "pairs"\nimages = "*_img.{png,jpg,tif}"\nmasks = "*_mask.{png,jpg,tif}"\n'


def read_one(root, options="", table=ONE, annotation="semantic"):
    text = HEAD.replace('"semantic"', f'"{annotation}"') + table + options + BY_SUBJECT
    return list(read(make_card(root, text), root))


def put(root, name, array, **options):
    path = root / "toy" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif" and not options: tifffile.imwrite(path, array)
    else: (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)


GREY = np.full((20, 24), 90, np.uint8)
ROUND = np.zeros((20, 24), np.uint8)
ROUND[5:9, 6:16] = 1


def test_threshold_holds_for_one_file_a_class(tmp_path):
    put(tmp_path, "a_img.png", GREY)
    soft = np.asarray(Image.fromarray(ROUND * 255).resize((48, 40)).resize((24, 20), Image.Resampling.BICUBIC))
    put(tmp_path, "a_mask.png", soft)
    table = ONE.replace('masks = "*_mask.{png,jpg,tif}"', 'masks = {2 = "*_mask.png"}')
    with pytest.raises(DataError) as error: read_one(tmp_path, table=table)
    told(error, "not clear", "a_mask.png", "threshold = 127")
    assert (read_one(tmp_path, "threshold = 127\n", table)[0].semantic == 2 * (soft > 127)).all()
    assert (read_one(tmp_path, "threshold = 200\n", table)[0].semantic == 2 * (soft > 200)).all()


def test_square_photographs_are_turned_before_their_masks_are_laid_on_them(tmp_path):
    seen = np.full((32, 32), 40, np.uint8)
    seen[2:10, 20:30] = 220
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path, "a_img.jpg", Image.fromarray(np.rot90(seen)), exif=exif, quality=95)
    put(tmp_path, "a_mask.png", (seen > 100).astype(np.uint8))
    record, = read_one(tmp_path)
    assert record.image[0][record.semantic > 0].min() > .7 and record.image[0][record.semantic == 0].max() < .4
    put(tmp_path, "a_img.jpg", Image.fromarray(np.rot90(seen[:, 8:])), exif=exif, quality=95)
    put(tmp_path, "a_mask.png", (seen[:, 8:] > 100).astype(np.uint8))
    record, = read_one(tmp_path)
    assert record.image.shape == (1, 32, 24) and record.image[0][record.semantic > 0].min() > .7
    put(tmp_path, "a_mask.png", np.rot90(seen[:, 8:] > 100).astype(np.uint8))
    with pytest.raises(DataError) as error: read_one(tmp_path)
    told(error, "24 × 32 pixels", "EXIF orientation 6", 'orientation = "stored"')
    record, = read_one(tmp_path, 'orientation = "stored"\n')  # the advice, followed
    assert record.image.shape == (1, 24, 32) and record.image[0][record.semantic > 0].min() > .7


def test_ignored_pixels_are_background_and_remembered(tmp_path):
    put(tmp_path, "a_img.png", GREY)
    mask = ROUND.copy()
    mask[9] = 255
    put(tmp_path, "a_mask.png", mask)
    with pytest.raises(DataError, match="255"): read_one(tmp_path)
    record, = read_one(tmp_path, "ignore = 255\n")
    assert (record.semantic == ROUND).all() and (record.ignore == (mask == 255)).all()
    record, = read_one(tmp_path, "ignore = [255, 1]\n")
    assert not record.semantic.any() and (record.ignore == (mask > 0)).all()
    record, = read_one(tmp_path, "ignore = 255\nobjects = true\n", annotation="instances")
    assert (record.instances == ROUND).all() and (record.ignore == (mask == 255)).all()
    assert read_one(tmp_path, "values = {0 = 0, 1 = 1, 255 = 0}\n")[0].ignore is None


@pytest.mark.parametrize("said, labelled", [("keep", None), ("empty", 0), ("skip", "none")])
def test_images_without_mask(tmp_path, said, labelled):
    for name in "ab": put(tmp_path, f"{name}_img.png", GREY)
    put(tmp_path, "a_mask.png", ROUND)
    with pytest.raises(DataError, match='unlabelled = "keep"'): read_one(tmp_path)
    for more in ("", "objects = true\n"):
        records = {r.key: r for r in read_one(tmp_path, f'unlabelled = "{said}"\n{more}')}
        assert (records["a"].semantic == ROUND).all()
        if labelled == "none": assert list(records) == ["a"]
        elif labelled is None: assert records["b"].semantic is None and records["b"].instances is None
        else: assert not records["b"].semantic.any() and (records["b"].instances is None) == (not more)
    table = ONE.replace('masks = "*_mask.{png,jpg,tif}"', 'masks = {1 = "*_mask.png", 2 = "*_ring.png"}')
    records = {r.key: r for r in read_one(tmp_path, f'unlabelled = "{said}"\n', table)}
    assert ("b" in records) == (labelled != "none")


TEETH = np.zeros((20, 24), np.uint16)
TEETH[2:6, 2:6], TEETH[2:6, 10:14], TEETH[12:16, 2:6] = 11, 12, 21


@pytest.mark.parametrize("options, factor", [
    ("values = {0 = 0, 11 = 1, 12 = 1, 21 = 2}\nobjects = true\n", 1),
    ('objects = "class*10+number"\n', 1),
    ('objects = "class * 1000 + number"\n', 100),
    ('objects = "number*10+class"\nvalues = {0 = 0, 1 = 1, 2 = 2}\n', 0)])
def test_class_and_object_in_one_number(tmp_path, options, factor):
    put(tmp_path, "a_img.png", GREY)
    stored = TEETH * factor if factor else TEETH // 10 + 10 * (TEETH % 10)
    put(tmp_path, "a_mask.tif", stored.astype(np.uint16))
    record, = read_one(tmp_path, options, annotation="instances")
    assert (record.semantic == TEETH // 10).all() and (record.instances == stored).all()
    with pytest.raises(DataError): read_one(tmp_path, options.replace("2 = 2", "3 = 2").replace("21 = 2", "22 = 2")
                                            .replace('"class*10+', '"class*2+').replace('class * 1000', "class * 9"),
                                            annotation="instances")


def test_a_formula_that_is_none(tmp_path):
    put(tmp_path, "a_img.png", GREY)
    put(tmp_path, "a_mask.tif", TEETH)
    for formula in ("class*0+number", "class+number", "class*10+class", "teeth"):
        with pytest.raises(CardError, match="a formula such as"):
            read_one(tmp_path, f'objects = "{formula}"\n', annotation="instances")


def test_objects_by_number_by_colour_by_threshold_and_in_several_files(tmp_path):
    put(tmp_path, "a_img.png", GREY)
    put(tmp_path, "a_mask.tif", (TEETH.astype(np.uint32) * 5000))
    record, = read_one(tmp_path, 'objects = true\nvalues = "nonzero"\n', annotation="instances")
    assert np.unique(record.instances).tolist() == [0, 1, 2, 3] and (record.semantic == (TEETH > 0)).all()
    (tmp_path / "toy/a_mask.tif").unlink()
    coloured = np.stack([TEETH * 7, TEETH * 3, TEETH * 0], -1).astype(np.uint8)
    put(tmp_path, "a_mask.png", coloured)
    record, = read_one(tmp_path, "objects = true\n", annotation="instances")
    assert len(np.unique(record.instances)) == 4 and (record.semantic == (TEETH > 0)).all()
    put(tmp_path, "a_mask.png", (TEETH > 0) * np.uint8(200) + GREY // 90)
    record, = read_one(tmp_path, "objects = true\nthreshold = 100\n", annotation="instances")
    assert np.unique(record.instances).tolist() == [0, 1, 2, 3] and (record.semantic == (TEETH > 0)).all()
    for value, name in ((11, "x"), (21, "y")):
        put(tmp_path, f"a_{name}.png", (value == TEETH).astype(np.uint8) * (1 if value == 11 else 2))
    table = ONE.replace('masks = "*_mask.{png,jpg,tif}"', 'masks = {1 = "*_x.png", 2 = "*_y.png"}')
    record, = read_one(tmp_path, "objects = true\n", table, annotation="instances")
    assert len(np.unique(record.instances)) == 3
    assert (record.semantic == np.select([TEETH == 11, TEETH == 21], [1, 2], 0)).all()


def test_one_of_several_pages(tmp_path):
    put(tmp_path, "a_img.tif", np.stack([GREY, GREY + 60]))
    put(tmp_path, "a_mask.png", ROUND)
    with pytest.raises(DataError, match="page = 0 … 1"): read_one(tmp_path)
    for k in (0, 1): assert abs(read_one(tmp_path, f"page = {k}\nwindow = [0, 255]\n")[0].image * 255
                                - (90, 150)[k]).max() < .01
    (tmp_path / "toy/a_mask.png").unlink()
    put(tmp_path, "a_mask.tif", np.stack([ROUND, ROUND[::-1]]))
    assert (read_one(tmp_path, "page = 1\n")[0].semantic == ROUND[::-1]).all()


def test_pixels_that_are_not_square_need_a_spacing(tmp_path):
    put(tmp_path, "a_img.png", GREY, dpi=(200, 100))
    put(tmp_path, "a_mask.png", ROUND)
    with pytest.raises(DataError) as error: read_one(tmp_path)
    told(error, "not square", "a_img.png", "spacing = [2, 1]")
    assert read_one(tmp_path, "spacing = [2, 1]\n")[0].spacing == (2, 1)


def test_two_images_of_one_identity_are_refused_and_objects_follow_the_card(tmp_path):
    for name in ("c1/images/a", "c2/images/a", "c2/images/b"): put(tmp_path, f"{name}.png", GREY)
    for case in ("c1", "c2"):
        for k in range(2): put(tmp_path, f"{case}/masks/{k}.png", np.roll(ROUND, 6 * k, 0) * np.uint8(255))
    table = '\n[[read]]\nreader = "instances"\nimages = "*/images/*.png"\nobjects = "*/masks/*.png"\n'
    with pytest.raises(CardError) as error: read_one(tmp_path, table=table, annotation="instances")
    told(error, "c2/images/a.png and c2/images/b.png", "group id")
    (tmp_path / "toy/c2/images/b.png").unlink()
    assert [len(np.unique(r.instances)) for r in read_one(tmp_path, table=table, annotation="instances")] == [3, 3]
    put(tmp_path, "c2/masks/1.png", np.roll(ROUND, 6, 0) * np.uint8(200) + GREY // 90)
    with pytest.raises(DataError, match="201"): read_one(tmp_path, table=table, annotation="instances")
    records = read_one(tmp_path, "threshold = 127\n", table, annotation="instances")
    assert (records[1].instances == ROUND + 2 * np.roll(ROUND, 6, 0)).all()
    record = read_one(tmp_path, "ignore = [1, 201]\n", table, annotation="instances")[1]
    assert (record.instances == ROUND).all() and record.ignore.all()
    for path in (tmp_path / "toy/c1/masks").iterdir(): path.unlink()
    said = {s: read_one(tmp_path, f'threshold = 127\nunlabelled = "{s}"\n', table) for s in ("keep", "empty", "skip")}
    assert [len(s) for s in said.values()] == [2, 2, 1]
    assert said["keep"][0].instances is None and not said["empty"][0].instances.any()


def test_images_are_not_their_own_masks(tmp_path):
    write_pairs(tmp_path, 1, 1)
    same = PAIRS.replace("masks/", "images/").replace(",gif}", ",gif,jpg}")
    with pytest.raises(CardError) as error:
        list(read(make_card(tmp_path, CARD + CLASSES + same + BY_SUBJECT), tmp_path))
    told(error, "read.masks", "images/", "Name the folder")
