"Packing: what is fresh, what is written, and what is said about files that cannot be used."

import errno
import os
import time
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from taco.base import DataError, StoreError
from taco.data.pack import NOT_USED, Appender, code_of, pack
from taco.data.store import Store, read_manifest
from taco.fingerprint import modules_behind
from tests.data.made import (
    BY_SUBJECT,
    CARD,
    CLASSES,
    GIVEN,
    NPZ,
    disc,
    make_card,
    told,
    write_pairs,
)
from tests.data.readers.test_arrays import write_npz
from tests.data.readers.test_volumes import VOLUMES, write_volume
from tests.data.spoiled import FAULTS, spoil


def test_fresh_is_not_redone_and_stale_is(tmp_path):
    write_pairs(tmp_path, 4)
    card, out = make_card(tmp_path), tmp_path / "out"
    folder = pack(card, tmp_path, out, 16)
    first = read_manifest(folder)["key"]
    before = (folder / "image.npy").stat().st_mtime_ns
    assert (
        pack(card, tmp_path, out, 16) == folder
        and (folder / "image.npy").stat().st_mtime_ns == before
    )
    assert pack(card, tmp_path, out, 24) != folder
    keys = {first}
    for changed in (dict(fit="contain"), dict(seed=1), dict(subjects=2)):
        keys.add(read_manifest(pack(card, tmp_path, out, 16, **changed))["key"])
    pack(replace(card, classes={1: "another name"}), tmp_path, out, 16)
    keys.add(read_manifest(folder)["key"])
    Image.fromarray(disc(9)[0]).save(tmp_path / "toy" / "images" / "p00_00.png")
    pack(card, tmp_path, out, 16)
    keys.add(read_manifest(folder)["key"])
    assert len(keys) == 6


def test_several_workers_give_the_same_store(tmp_path):
    write_pairs(tmp_path, 6)
    card = make_card(tmp_path)
    a, b = (Store.open([pack(card, tmp_path, tmp_path / f"out{n}", 16, workers=n)]) for n in (1, 2))
    torch.testing.assert_close(a.batch(range(6)).image, b.batch(range(6)).image)
    assert a.table.drop(columns="file").equals(b.table.drop(columns="file"))
    (tmp_path / "npz").mkdir()
    write_npz(tmp_path / "npz" / "toy_128.npz")
    card = make_card(tmp_path, CARD + CLASSES + NPZ + GIVEN)
    a, b = (
        Store.open([pack(card, tmp_path / "npz", tmp_path / f"npz{n}", 16, workers=n)])
        for n in (1, 2)
    )
    torch.testing.assert_close(a.batch(range(11)).image, b.batch(range(11)).image)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_file_is_named_and_nothing_half_written_is_left(tmp_path, fault):
    write_pairs(tmp_path, 6)
    spoil(tmp_path / "toy", fault)
    card, out = make_card(tmp_path), tmp_path / "out"
    with pytest.raises(DataError) as error:
        pack(card, tmp_path, out, 16)
    message = told(error, *FAULTS[fault])
    assert "fix:" in message
    assert list(out.iterdir()) == []
    # left out only when asked, and then it is on record
    folder = pack(card, tmp_path, out, 16, skip_bad=True)
    manifest = read_manifest(folder)
    assert (
        manifest["records"] == 5
        and len(manifest["skipped"]) == 1
        and FAULTS[fault][0].split(".")[0] in manifest["skipped"][0]["file"]
    )
    with pytest.raises(DataError):
        pack(
            card, tmp_path, out, 16
        )  # a store with gaps is not fresh for someone who did not ask for gaps
    assert [p.name for p in out.iterdir()] == [folder.name]


def test_empty_dataset(tmp_path):
    (tmp_path / "toy" / "images").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)
    told(error, "toy", "read", "0 files")
    assert not (tmp_path / "out").exists()
    write_volume(tmp_path)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((20, 24, 10), np.int16), np.diag([1.0, 1.5, 3.0, 1.0])),
        tmp_path / "toy" / "lab" / "v1.nii.gz",
    )
    with pytest.raises(DataError) as error:  # no slice has foreground, and the card leaves such volumes out
        pack(
            make_card(tmp_path, CARD + CLASSES + VOLUMES.rstrip() + '\nhealthy = "skip"\n' + BY_SUBJECT),
            tmp_path,
            tmp_path / "out",
            16,
        )
    told(error, "toy.toml", "no usable record")
    assert list((tmp_path / "out").iterdir()) == []


def test_one_image_is_a_dataset(tmp_path):
    write_pairs(tmp_path, 1)
    store = Store.open([pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)])
    assert len(store) == 1 and store.table.split[0] == "train" and len(store.select("test")) == 0


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    write_pairs(tmp_path, 4)

    def full(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Appender, "append", full)
    with pytest.raises(StoreError) as error:
        pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)
    told(error, "disk is full", "toy-real-16", "MB free")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_run_left_is_not_opened_and_is_swept(tmp_path):
    write_pairs(tmp_path, 4)
    out = tmp_path / "out"
    rest = out / ".toy-real-16-abc" / "toy-real-16"
    rest.mkdir(parents=True)
    (rest / "image.npy").write_bytes(b"half")
    with pytest.raises(StoreError):
        Store.open([rest])
    for path in (rest / "image.npy", rest, rest.parent):
        os.utime(path, (time.time() - 7200,) * 2)
    folder = pack(make_card(tmp_path), tmp_path, out, 16)
    assert [p.name for p in out.iterdir()] == [folder.name] and len(Store.open([folder])) == 4


def test_the_code_behind_a_source_is_followed_and_what_it_does_not_need_is_left_out():
    behind = {
        s: {f.stem for f in modules_behind(["taco.data.pack"], without=w)}
        for s, w in NOT_USED.items()
    }
    for modules in behind.values():
        assert {
            "pack",
            "find",
            "prepare",
            "record",
            "card",
            "source",
            "masks",
            "dicom",
            "scans",
            "base",
        } <= modules
        assert not {"fingerprint", "experiment", "fetch", "check"} & modules
    assert "packaged" in behind["packaged"] and not {"packaged", "phantoms"} & behind["real"]
    assert len(behind["phantom"] - behind["real"]) > 5 and len({code_of(s) for s in NOT_USED}) == 3
