"Channels and crops: masks that overlap."

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import DataError
from taco.data.find import read
from taco.data.readers.layers import overlaps, read_planes
from tests.data.made import (
    CHANNELS,
    CROPS,
    HEIGHT,
    WIDTH,
    card_of,
    failures,
    picture,
    refused,
    write,
)


def discs() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack(
        [np.hypot(x - 30, y - 30) < 12, np.hypot(x - 40, y - 30) < 12, np.zeros(x.shape, bool)], -1
    )


@pytest.mark.parametrize("kind", ["interleaved", "pages", "lzw"])
def test_channels_overlap_in_the_order_of_the_card(tmp_path, kind):
    picture(tmp_path / "toy/images/a.png")
    (tmp_path / "toy/masks").mkdir()
    path, planes = tmp_path / "toy/masks/a.tif", discs()
    pixels = (planes * 255).astype(np.uint8)
    if kind == "lzw":
        Image.fromarray(pixels).save(path, compression="tiff_lzw")
    elif kind == "pages":
        tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="minisblack")
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")
    for order, top in (("", 2), ("order = [2, 1]\n", 1)):
        (record,) = read(card_of(CHANNELS + order), tmp_path)
        both = planes[..., 0] & planes[..., 1]
        assert (
            (record.semantic[both] == top).all()
            and both.any()
            and set(np.unique(record.semantic)) == {0, 1, 2}
        )
        np.testing.assert_array_equal(record.semantic > 0, planes.any(-1))
    assert overlaps(planes)[0, 1] == both.sum() and overlaps(planes)[0, 0] == planes[..., 0].sum()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_bad_channels(tmp_path):
    picture(tmp_path / "toy/images/a.png")
    (tmp_path / "toy/masks").mkdir()
    path = tmp_path / "toy/masks/a.tif"
    planes = (discs() * 255).astype(np.uint8)
    tifffile.imwrite(
        path, np.dstack([planes, planes[..., 0]]), photometric="rgb", extrasamples=["unspecified"]
    )
    refused(
        DataError,
        card_of(CHANNELS),
        tmp_path,
        "a.tif",
        "4 channels, not empty: 0, 1, 3",
        "Declare all",
    )
    tifffile.imwrite(path, planes[..., 0], photometric="minisblack")
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "1 channels", "0, 1, 2")
    tifffile.imwrite(path, planes[:, ::2], photometric="rgb")
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "size of its image", "60 × 40")
    path.write_bytes(path.read_bytes()[:40])
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "cannot be read")
    path.unlink()
    refused(DataError, card_of(CHANNELS), tmp_path, "a.png", "mask of an image is missing")
    path.write_bytes(b"")
    picture(tmp_path / "toy/images/b.png")
    (tmp_path / "toy/images/a.png").unlink()
    message = [str(e) for e in failures(card_of(CHANNELS), tmp_path)]
    assert len(message) == 2 and any(
        "a.tif" in m and "image of a mask is missing" in m for m in message
    )
    with pytest.raises(DataError, match="cannot be read"):
        read_planes(path)


ROWS = (
    "image,mask,class,top,left\nfilm.jpg,masks/1.png,lung,10,20\nfilm.jpg,masks/2.png,heart,15,25\n"
)


def crops(root: Path, rows: str = ROWS) -> None:
    picture(root / "toy/film.jpg")
    write(root, "where.csv", rows)
    (root / "toy/masks").mkdir(exist_ok=True)
    crop = np.zeros((20, 30, 4), np.uint8)
    crop[2:18, 3:27, 1] = 200
    crop[..., 3] = 255  # alpha everywhere
    Image.fromarray(crop).save(root / "toy/masks/1.png")
    Image.fromarray(crop[:10, :10, 1]).save(root / "toy/masks/2.png")


def test_crops_go_where_the_table_says(tmp_path):
    crops(tmp_path)
    (record,) = read(card_of(CROPS), tmp_path)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[12:28, 23:47] = 1
    expected[17:25, 28:35] = 2
    np.testing.assert_array_equal(record.semantic, expected)
    (record,) = read(card_of(CROPS + "order = [2, 1]\n"), tmp_path)
    expected[12:28, 23:47] = 1
    np.testing.assert_array_equal(record.semantic, expected)


@pytest.mark.parametrize(
    "rows, parts",
    [
        (
            ROWS.replace("10,20", "45,20"),
            ("where.csv", "does not fit", "20 × 30 at row 45, column 20 (line 2", "60 × 80"),
        ),
        (ROWS.replace("10,20", "-1,20"), ("does not fit", "row -1")),
        (ROWS.replace("10,20", "ten,20"), ("not a number", "ten, 20 (line 2)")),
        (ROWS.replace("heart", "liver"), ("'liver' (line 3)", "lung, heart, box")),
        (ROWS.replace("2.png", "3.png"), ("masks/3.png", "missing")),
        (
            ROWS.replace("masks/2.png", ""),
            ("names no mask", "line 3: heart of film.jpg", "without_mask"),
        ),
        (ROWS + "other.jpg,masks/1.png,lung,0,0\n", ("line 4", "'other.jpg'", "absent_images")),
        (ROWS.replace("film.jpg", "other.jpg"), ("film.jpg", "annotation of an image is missing")),
        (ROWS.replace("top", "row"), ("columns.top", "no such column")),
    ],
)
def test_bad_crops(tmp_path, rows, parts):
    crops(tmp_path, rows)
    refused(DataError, card_of(CROPS), tmp_path, *parts)


def test_crops_may_be_left_out_where_the_card_says_so(tmp_path):
    crops(
        tmp_path,
        ROWS.replace("masks/2.png", "").replace("lung", "box") + "other.jpg,masks/1.png,lung,0,0\n",
    )
    (record,) = read(card_of(CROPS + 'without_mask = "skip"\nabsent_images = "skip"\n'), tmp_path)
    assert not record.semantic.any()


def soft_discs() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    soft = lambda cx: (255 / (1 + np.exp(np.hypot(x - cx, y - 30) - 12))).astype(np.uint8)
    return np.stack([soft(30), soft(46), np.zeros(x.shape, np.uint8)], -1)


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_soft_channels_need_a_threshold_and_follow_it(tmp_path, ending):
    picture(tmp_path / "toy/images/a.png")
    (tmp_path / "toy/masks").mkdir()
    soft, card = soft_discs(), CHANNELS.replace("*.tif", f"*.{ending}")
    Image.fromarray(soft).save(tmp_path / f"toy/masks/a.{ending}", quality=95)
    refused(DataError, card_of(card), tmp_path, "not clear", "threshold = 127")
    for limit in (127, 60):
        record, = read(card_of(card + f"threshold = {limit}\n"), tmp_path)
        wanted = np.where(soft[..., 1] > limit, 2, soft[..., 0] > limit)
        assert (record.semantic == wanted).mean() > (.98 if ending == "jpg" else .9999)


def test_channels_that_ignore_that_are_turned_and_that_count_from_white(tmp_path):
    picture(tmp_path / "toy/images/a.png")
    (tmp_path / "toy/masks").mkdir()
    path, planes = tmp_path / "toy/masks/a.tif", (discs() * 255).astype(np.uint8)
    wanted = next(iter(_read(planes, path, tmp_path, photometric="rgb"))).semantic
    turn = [(274, 3, 1, 6, True)]
    turned, = _read(np.rot90(planes), path, tmp_path, photometric="rgb", extratags=turn)
    assert (turned.semantic == wanted).all()
    pages, = _read(255 - np.moveaxis(planes, 2, 0), path, tmp_path, photometric="miniswhite")
    assert (pages.semantic == wanted).all()
    separate, = _read(np.moveaxis(planes, 2, 0), path, tmp_path, photometric="rgb", planarconfig="separate")
    assert (separate.semantic == wanted).all()
    opaque, = _read(np.dstack([planes, planes[..., 0] | 255]), path, tmp_path, photometric="rgb",
                    extrasamples=["unassalpha"])
    assert (opaque.semantic == wanted).all()
    planes[:5, :, 0] = 7
    tifffile.imwrite(path, planes, photometric="rgb")
    refused(DataError, card_of(CHANNELS), tmp_path, "0, 7, 255")
    record, = read(card_of(CHANNELS + "ignore = 7\n"), tmp_path)
    assert (record.semantic == wanted).all() and record.ignore[:5].all() and not record.ignore[5:].any()


def _read(pixels, path, root, **options):
    tifffile.imwrite(path, pixels, **options)
    return read(card_of(CHANNELS), root)


@pytest.mark.parametrize("said, count", [("keep", 1), ("empty", 1), ("skip", 0)])
def test_images_without_channels_and_without_crops(tmp_path, said, count):
    picture(tmp_path / "toy/images/a.png")
    records = list(read(card_of(CHANNELS + f'unlabelled = "{said}"\n'), tmp_path))
    assert len(records) == count and all((r.semantic is None) == (said == "keep") for r in records)
    crops(tmp_path / "other", ROWS.replace("film.jpg", "b.jpg"))
    card = card_of(CROPS + f'unlabelled = "{said}"\nabsent_images = "skip"\n')
    records = list(read(card, tmp_path / "other"))
    assert len(records) == count and all((r.semantic is None) == (said == "keep") for r in records)


def test_soft_crops_need_a_threshold_and_tables_stay_inside(tmp_path):
    crops(tmp_path)
    soft = np.tile(np.linspace(0, 250, 30).astype(np.uint8), (20, 1))
    Image.fromarray(soft).save(tmp_path / "toy/masks/1.png")
    refused(DataError, card_of(CROPS), tmp_path, "not clear", "masks/1.png", "threshold = ")
    record, = read(card_of(CROPS.replace("heart = 2", "heart = 0") + "threshold = 100\n"), tmp_path)
    assert (record.semantic[10:30, 20:50] == (soft > 100)).all()
    for place in ("../1.png", str(tmp_path / "1.png")):
        Image.fromarray(soft).save(tmp_path / "1.png")
        crops(tmp_path, ROWS.replace("masks/1.png", place))
        refused(DataError, card_of(CROPS), tmp_path, "out of its dataset", "line 2")


def test_a_mask_of_endless_pages_is_refused_at_once(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(257): writer.write(np.zeros((4, 4), np.uint8), contiguous=False)
    with pytest.raises(DataError) as error: read_planes(tmp_path / "a.tif")
    for word in ("not channels", "257 pages", "a.tif"): assert word in str(error.value)
