"Sets in the layout in which their publishers give them away, in small: shipped cards read what the test lays out."

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import DataError
from taco.data.card import load_card
from taco.data.check import check
from taco.data.find import find, read
from tests.data.readers.bodies import SPACE

SIDE = 24


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def square(value: int = 1, dtype=np.uint8) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype)
    mask[6:14, 8:20] = value
    return mask


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 255, shape).astype(np.uint8)


def lesion(root: Path, name: str) -> None:
    folder = root / "ph2/PH2Dataset/PH2 Dataset images" / name
    Image.fromarray(noise(SIDE, SIDE, 3)).save(place(folder / f"{name}_Dermoscopic_Image/{name}.bmp"))
    Image.fromarray(square(255)).convert("1").save(place(folder / f"{name}_lesion/{name}_lesion.bmp"))
    Image.fromarray(square(255)).convert("1").save(place(folder / f"{name}_roi/{name}_R1_Label1.bmp"))


TABLE = """|| Name   || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Streaks || Colors ||
|| IMD003 ||                        ||        0           ||     0     |    A    || 3  4   ||
|| IMD035 || Compound nevus         ||        1           ||     2     |    A    || 4      ||
|| IMD405 ||                        ||        2           ||     2     |    P    || 1  4 5 ||

Legends:
Clinical Diagnosis:
0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.
"""


def test_ph2_lesions_and_their_diagnoses(tmp_path):
    for name in ("IMD003", "IMD035", "IMD405"):
        lesion(tmp_path, name)
    assert [r.attributes for r in read("ph2", tmp_path, "real")] == [{}] * 3  # without the table
    (tmp_path / "ph2/PH2Dataset/PH2_dataset.txt").write_text(TABLE)
    records = list(read("ph2", tmp_path, "real"))
    assert [r.key for r in records] == ["IMD003", "IMD035", "IMD405"]
    assert [r.attributes["diagnosis"] for r in records] == [0, 1, 2]
    assert [r.attributes["melanoma"] for r in records] == [0, 0, 1]
    for record in records:
        assert record.image.shape == (3, SIDE, SIDE) and record.modality == "dermoscopy"
        np.testing.assert_array_equal(record.semantic, square())
    result = check("ph2", tmp_path)
    assert result.ok and sum(result.records.values()) == 3


def head(rows: float, columns: float) -> tuple[np.ndarray, np.ndarray]:
    "(40, 60) the outline of an ellipse about a point, and what it encloses."
    y, x = np.mgrid[:40, :60]
    away = ((y - rows) / 15) ** 2 + ((x - columns) / 20) ** 2
    return (away < 1) & (away > 0.85), away < 1


def test_fetal_heads_are_what_their_outlines_enclose(tmp_path):
    root, there = tmp_path / "hc18", {"000_HC": (20, 30), "001_HC": (36, 30), "001_2HC": (20, 57)}  # two are cut off
    for name, where in there.items():
        Image.fromarray(noise(40, 60)).save(place(root / f"training_set/{name}.png"))
        Image.fromarray(head(*where)[0].astype(np.uint8) * 255).save(root / f"training_set/{name}_Annotation.png")
    Image.fromarray(noise(40, 60)).save(place(root / "test_set/000_HC.png"))
    (root / "training_set_pixel_size_and_HC.csv").write_text(
        "filename,pixel size(mm),head circumference (mm)\n"
        "000_HC.png,0.069,44.3\n001_HC.png,0.09,56.81\n001_2HC.png,0.1,68\n"
    )
    found = find("hc18", tmp_path, "real")
    assert sorted(i.subject for i in found.items) == [
        "test_set/000", "training_set/000", "training_set/001", "training_set/001"]
    records = {r.key: r for i in found.items for r in i.load()}
    assert len(records) == 4
    for name, where in there.items():
        record = records[f"training_set/{name}"]
        inside = head(*where)[1]
        assert (record.semantic == inside).mean() > 0.99 and record.semantic.sum() > 0.97 * inside.sum()
    assert [records[f"training_set/{n}"].attributes["circumference"] for n in there] == [44.3, 56.81, 68]
    bare = records["test_set/000_HC"]
    assert bare.semantic is None and not bare.attributes


def test_heads_that_somebody_filled_stay_as_they_are(shared_data, tmp_path):
    root = shared_data / "hc18_fetal_us"
    if not root.is_dir():
        pytest.skip(f"no extract at {root}")
    (tmp_path / "hc18").symlink_to(root)
    mine = load_card(Path(__file__).parents[2] / "cards/hc18_fetal_us.toml")
    for ours, theirs in zip(read("hc18", tmp_path, "real"), read(mine, shared_data, "real"), strict=True):
        dice = 2 * (ours.semantic * theirs.semantic).sum() / (ours.semantic.sum() + theirs.semantic.sum())
        assert dice > 0.995 and (ours.semantic >= theirs.semantic).all()
        assert 40 < ours.attributes["circumference"] < 350


def scan(path: Path, voxels: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.4, 1.4, 5, 1])), place(path))


def heart() -> np.ndarray:
    "The challenge's values: muscle 200 round the left ventricle 500, the right ventricle 600."
    mask = np.zeros((SIDE, SIDE, 4), np.int16)
    mask[4:16, 4:16], mask[7:13, 7:13], mask[17:22, 6:14] = 200, 500, 600
    return mask


def test_mscmr_late_enhancement_and_its_own_label_values(tmp_path):
    folder = tmp_path / "mscmr_lge/C0LET2_nii45_for_challenge19"
    for n in (1, 2, 30):
        for sequence in ("C0", "T2", "LGE"):
            scan(folder / f"images/patient{n}_{sequence}.nii.gz", noise(SIDE, SIDE, 4).astype(np.int16))
            if sequence != "T2":
                scan(folder / f"labels/patient{n}_{sequence}_manual.nii.gz", heart())
    found = find("mscmr_lge", tmp_path, "real")
    assert [i.subject for i in found.items] == ["patient1", "patient2", "patient30"]
    records = found.items[0].load()
    assert len(records) == 4 and all("_LGE" in r.file for r in records)
    count = {v: int(sum((r.semantic == v).sum() for r in records)) for v in (1, 2, 3)}
    assert count == {1: 4 * 5 * 8, 2: 4 * (144 - 36), 3: 4 * 36}
    assert load_card("mscmr_lge").classes == load_card("acdc").classes
    assert find("mscmr_lge", source="phantom").layout == "acdc"


def test_left_atria_lie_in_folders_of_twenty_signs(tmp_path):
    folder = tmp_path / "la2018/Training Set"
    names = ("06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU")
    mask = np.zeros((SIDE, SIDE, 20), np.uint8)
    mask[5:15, 6:18, 2:18] = 255
    for name in names:
        nrrd.write(str(place(folder / name / "lgemri.nrrd")), noise(SIDE, SIDE, 20), SPACE)
        for label in ("laendo", "lawall"):
            nrrd.write(str(folder / name / f"{label}.nrrd"), mask, SPACE)
    found = find("la2018", tmp_path, "real")
    assert sorted(i.subject for i in found.items) == sorted(names)
    records = found.items[0].load()
    slices = [r.slice for r in records]
    assert len(slices) == 4 and set(np.diff(slices)) == {5}
    assert all(set(np.unique(r.semantic)) == {0, 1} for r in records)


def glioma(root: Path, patient: str, slices: int, tumour: int) -> None:
    for n in range(1, slices + 1):
        path = place(root / f"lgg_flair/kaggle_3m/{patient}/{patient}_{n}.tif")
        tifffile.imwrite(path, noise(SIDE, SIDE, 3), photometric="rgb")
        mask = square(255 if n == tumour else 0)
        tifffile.imwrite(path.with_name(f"{patient}_{n}_mask.tif"), mask, photometric="minisblack")


def test_gliomas_lie_slice_by_slice_in_pairs(tmp_path):
    patients = ["TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405", "TCGA_HT_A61B_19991127"]
    for patient in patients:
        glioma(tmp_path, patient, 11, 4)
    table = tmp_path / "lgg_flair/kaggle_3m/data.csv"
    lines = ("TCGA_CS_4941,2,67", "TCGA_DU_5849,1,32", "TCGA_HT_A61B,,")
    table.write_text("\n".join(("Patient,neoplasm_histologic_grade,age_at_initial_pathologic", *lines)))
    records = list(read("lgg_flair", tmp_path, "real"))
    assert len(records) == 33 and {r.subject for r in records} == {p[:12] for p in patients}
    parts: dict[str, set] = {}
    for record in records:
        parts.setdefault(record.subject, set()).add(record.split)
    assert all(len(p) == 1 for p in parts.values())
    by_key = {r.key: r for r in records}
    ill = by_key["TCGA_CS_4941_19960909_4"]
    assert ill.attributes == {"grade": 2, "age": 67} and ill.image.shape == (3, SIDE, SIDE)
    np.testing.assert_array_equal(ill.semantic, square())
    assert not by_key["TCGA_CS_4941_19960909_11"].semantic.any()
    assert by_key["TCGA_HT_A61B_19991127_4"].attributes == {}
    Path(tmp_path / "lgg_flair/kaggle_3m" / patients[0] / f"{patients[0]}_4_mask.tif").unlink()
    with pytest.raises(DataError, match="mask"):
        list(read("lgg_flair", tmp_path, "real"))


def test_the_decathlon_tells_its_hippocampi_by_number(tmp_path):
    folder = tmp_path / "msd_hippocampus/Task04_Hippocampus"
    mask = np.zeros((SIDE, SIDE, 12), np.uint8)
    mask[4:12, 4:20], mask[12:20, 4:20] = 1, 2
    for n in ("001", "033", "367"):
        scan(folder / f"imagesTr/hippocampus_{n}.nii.gz", noise(SIDE, SIDE, 12))
        scan(folder / f"labelsTr/hippocampus_{n}.nii.gz", mask)
    scan(folder / "imagesTs/hippocampus_002.nii.gz", noise(SIDE, SIDE, 12))
    place(folder / "imagesTr/._hippocampus_001.nii.gz").write_bytes(b"what a Mac leaves behind")
    found = find("msd_hippocampus", tmp_path, "real")
    assert [i.subject for i in found.items] == [f"hippocampus_{n}" for n in ("001", "033", "367")]
    records = found.items[0].load()
    assert len(records) == 4 and set(np.diff([r.slice for r in records])) == {3}
    assert all(set(np.unique(r.semantic)) == {0, 1, 2} for r in records)


def test_the_shipped_card_reads_the_real_hippocampi(shared_data):
    folder = shared_data / "msd_hippocampus"
    if not folder.is_dir():
        pytest.skip(f"no extract at {folder}")
    found = find("msd_hippocampus", shared_data, "real")
    assert len(found.items) == 40 and len({i.subject for i in found.items}) == 40


@pytest.mark.parametrize("name", ["hc18", "ph2", "mscmr_lge", "la2018", "lgg_flair", "msd_hippocampus"])
def test_the_card_of_an_extract_has_the_origin_and_classes_of_the_shipped_one(name):
    shipped, mine = load_card(name), load_card(Path(__file__).parents[2] / f"cards/{name}.toml")
    origin = "tcga_glioma" if name == "lgg_flair" else name  # the archive that other sets of gliomas took from, too
    assert shipped.origin == mine.origin == origin and shipped.classes == mine.classes
    assert shipped.access and shipped.note and not shipped.study
