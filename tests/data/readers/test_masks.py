"Images with masks in files of their own."

import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import DataError
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
    image, _ = disc(0)
    for name in ("a", "b"):
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
