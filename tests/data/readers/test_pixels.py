"Pixels of every usual kind become unit images."

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.find import read
from taco.data.readers.pixels import to_unit
from tests.data.made import disc, make_card, told, write_pairs


def test_to_unit_of_every_usual_kind():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    np.testing.assert_allclose(to_unit(grey)[0], grey / np.float32(255), rtol=1e-6)
    assert to_unit(grey[..., None]).shape == to_unit(np.stack([grey, grey], -1)).shape == (1, 9, 7)
    np.testing.assert_array_equal(to_unit(np.stack([grey] * 4, -1))[1], to_unit(grey)[0])
    wide = to_unit(grey.astype(np.uint16) * 10)  # twelve bits in sixteen: stretched, not black
    assert wide.min() == 0 and wide.max() == 1 and wide.dtype == np.float32
    assert to_unit(np.full((4, 4), 700, np.uint16)).max() <= 1
    with pytest.raises(DataError, match="NaN"):
        to_unit(np.array([[0, np.nan]]), file="a.tif")
    with pytest.raises(DataError, match="one image"):
        to_unit(np.zeros((3, 8, 8, 8)))


def test_undeclared_labels_are_listed(tmp_path):
    write_pairs(tmp_path, 2)
    Image.fromarray((disc(0)[1] * 200).astype(np.uint8)).save(
        tmp_path / "toy" / "masks" / "p00_00.png"
    )
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path), tmp_path))
    told(error, "p00_00.png", "0, 200", "255→1 (disc)", "toy.toml")
