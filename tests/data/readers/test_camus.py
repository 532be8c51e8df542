"The published files of CAMUS: planes in a folder a patient, two views, two frames, and films that are not read."
from pathlib import Path

import nibabel
import numpy as np
import pytest

from taco.base import DataError
from taco.data.check import check
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.store import Store

WIDE, DEEP = 30, 40  # columns, rows
VIEWS = [f"{view}_{phase}" for view in ("2CH", "4CH") for phase in ("ED", "ES")]


def drawn(phase: str) -> np.ndarray:
    "Labels (DEEP, WIDE) as they are seen: the cavity above the atrium, muscle on its left; at ES all is shifted."
    late = int(phase == "ES")
    labels = np.zeros((DEEP, WIDE), np.uint8)
    labels[5:20 - 4 * late, 10:18], labels[5:20 - 4 * late, 6:10], labels[20 - 4 * late:30, 10:18] = 1, 2, 3
    return labels


def save(path: Path, seen: np.ndarray) -> None:
    "A picture (rows, columns) or film (rows, columns, frames) as ITK writes it: x first, to the left and back."
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.swapaxes(seen, 0, 1), np.diag([-.3, -.2, 1, 1])), path)


def patient(root: Path, number: int, names=VIEWS, ending: str = ".nii.gz") -> None:
    name = f"patient{number:04d}"
    folder = root / "camus/database_nifti" / name
    for view in names:
        labels = drawn(view[-2:])
        noise = np.random.default_rng([number, *view.encode()]).integers(0, 60, labels.shape)
        save(folder / f"{name}_{view}{ending}", (60 * (labels > 1) + noise).astype(np.uint8))
        save(folder / f"{name}_{view}_gt{ending}", labels)
    for view in ("2CH", "4CH"):
        film = np.zeros((DEEP, WIDE, 5), np.uint8)
        for kind in ("", "_gt"): save(folder / f"{name}_{view}_half_sequence{kind}{ending}", film)
        (folder / f"Info_{view}.cfg").write_text("ED: 1\nES: 5\nNbFrame: 5\n")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_the_frames_of_a_patient_are_one_subject_with_their_phase(tmp_path, ending):
    for number in (1, 2, 450): patient(tmp_path, number, ending=ending)
    found = find("camus", tmp_path)
    assert (found.source, found.layout) == ("real", "volumes") and len(found.items) == 12
    assert {i.subject for i in found.items} == {"patient0001", "patient0002", "patient0450"}
    assert not any("half_sequence" in i.file for i in found.items)
    records = list(read("camus", tmp_path))
    assert len(records) == len({r.key for r in records}) == 12
    for record in records:
        phase = Path(record.file).name.split("_")[2][:2]
        assert record.attributes["systole"] == int(phase == "ES") and type(record.attributes["systole"]) is int
        assert record.image.shape == (1, DEEP, WIDE) and record.modality == "ultrasound"
        np.testing.assert_array_equal(record.semantic, drawn(phase))
        assert record.spacing == pytest.approx((.2, .3))
    assert all(len({r.split for r in records if r.subject == s}) == 1 for s in {r.subject for r in records})


def test_a_store_knows_the_phase_and_films_are_named_as_left_over(tmp_path):
    for number in (1, 2, 3): patient(tmp_path, number)
    store = Store.open(pack("camus", tmp_path, tmp_path / "out", 32, source="real"))
    late = [int("_ES" in key) for key in store.table.key]
    assert store.attribute("systole").tolist() == late and sum(late) == 6
    result = check("camus", tmp_path)
    assert result.ok and sum(result.records.values()) == 12


def test_a_frame_without_labels_is_named(tmp_path):
    patient(tmp_path, 1)
    (tmp_path / "camus/database_nifti/patient0001/patient0001_4CH_ES_gt.nii.gz").unlink()
    with pytest.raises(DataError, match="label volume of an image is missing") as caught:
        list(read("camus", tmp_path))
    assert "patient0001_4CH_ES" in str(caught.value)


def test_a_value_beyond_the_three_parts_is_refused(tmp_path):
    patient(tmp_path, 1)
    labels = drawn("ED")
    labels[30:35] = 4
    save(tmp_path / "camus/database_nifti/patient0001/patient0001_2CH_ED_gt.nii.gz", labels)
    with pytest.raises(DataError, match="does not declare"):
        list(read("camus", tmp_path))
