"Bad luck in packing that needs a second process, or a disk that fails at the very end."

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from taco.base import DataError, StoreError
from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store, read_manifest
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, make_card, told, write_pairs
from tests.data.readers.test_arrays import write_npz

pytestmark = pytest.mark.long  # a campaign: it takes long and seldom breaks

VOLUME = '\n[[read]]\nreader = "volumes"\nimages = "img/*.nii.gz"\nmasks = "lab/*.nii.gz"\nslices = "all"\n'
NPZ = '\n[[read]]\nreader = "npz"\nfile = "toy_{size}.npz"\n\n[split]\nrule = "given"\n'


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def child(code: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["img", "lab"])
def test_a_truncated_volume_is_named_and_left_out_on_request(tmp_path, kind):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for folder, values in (
            ("img", rng.normal(0, 9, (24, 20, 12)).astype(np.float32)),
            ("lab", rng.integers(0, 2, (24, 20, 12)).astype(np.uint8)),
        ):
            (tmp_path / "toy" / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "toy" / folder / f"{name}.nii.gz"
            )
    bad = tmp_path / "toy" / kind / "b.nii.gz"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    card = make_card(
        tmp_path, CARD.replace("fluorescence microscopy", "MR") + CLASSES + VOLUME + BY_SUBJECT
    )
    with pytest.raises(DataError) as error:
        pack(card, tmp_path, tmp_path / "out", 16)
    told(error, str(bad), "fix:")
    assert names(tmp_path / "out") == []
    manifest = read_manifest(pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True))
    assert (
        manifest["records"] == 12
        and [Path(s["file"]).name for s in manifest["skipped"]] == ["b.nii.gz"]
        and str(bad) in manifest["skipped"][0]["reason"]
    )


def test_rows_behind_a_damaged_place_of_an_array_are_left_out_and_listed(tmp_path):
    write_npz(tmp_path / "toy_128.npz", side=64)
    arrays = dict(np.load(tmp_path / "toy_128.npz"))
    arrays["train_label"][2, 3, 4] = 77  # nobody declared it
    np.savez_compressed(tmp_path / "toy_128.npz", **arrays)
    card = make_card(tmp_path, CARD.replace("channels = 1", "channels = 3") + CLASSES + NPZ)
    with pytest.raises(DataError) as error:
        pack(card, tmp_path, tmp_path / "out", 16)
    told(error, "toy_128.npz", "77", "toy.toml")
    manifest = read_manifest(pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True))
    assert (
        manifest["records"] == 10
        and len(manifest["skipped"]) == 1
        and "77" in manifest["skipped"][0]["reason"]
    )


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_folder_that_may_not_be_read_stops_the_packing(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "toy/masks").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be listed"):
            pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)
    finally:
        (tmp_path / "toy/masks").chmod(0o755)
    assert names(tmp_path / "out") == []


# ---------------------------------------------------------------- the disk


@pytest.mark.parametrize("what", ["manifest", "table"])
def test_a_disk_that_is_full_at_the_very_end(tmp_path, monkeypatch, what):
    "The last files are small; a disk may be full just for them."
    write_pairs(tmp_path, 4)
    card = make_card(tmp_path)
    old = pack(card, tmp_path, tmp_path / "out", 16, seed=1)

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if what == "manifest":
        write = Path.write_text
        monkeypatch.setattr(
            Path,
            "write_text",
            lambda self, *a, **k: (
                full(self) if self.name == "manifest.json" else write(self, *a, **k)
            ),
        )
    else:
        monkeypatch.setattr("pandas.DataFrame.to_csv", full)
    with pytest.raises(StoreError) as error:
        pack(card, tmp_path, tmp_path / "out", 16)
    told(error, "disk is full", "MB free")
    assert (
        names(tmp_path / "out") == [old.name]
        and read_manifest(old)["seed"] == 1
        and len(Store.open([old])) == 4
    )  # what was there is whole


def test_files_that_may_not_grow_in_a_real_process(tmp_path):
    "RLIMIT_FSIZE makes the kernel refuse the write, as a full disk or a quota does; nothing is simulated."
    code = f"""
import resource
from taco.base import StoreError
from taco.data.pack import pack
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try: pack("drive", out={str(tmp_path / "out")!r}, size=64, subjects=12, source="phantom")
except StoreError as error: print("REFUSED", error)
"""
    process = child(code)
    text, _ = process.communicate(timeout=200)
    assert (
        process.returncode == 0
        and "REFUSED A file may not grow any further." in text
        and "drive-phantom-64" in text
        and "fix:" in text
    ), text
    assert names(tmp_path / "out") == []


# ---------------------------------------------------------------- killed

SLOW = """
import time
from taco.data import pack as packing
quick = packing.row_of
def slow(*a): time.sleep(.3); return quick(*a)
packing.row_of = slow
packing.pack("drive", out={out!r}, size=24, subjects=30, source="phantom", workers={workers})
"""


def kill_in_the_middle(out: Path, workers: int = 1) -> None:
    "Start packing in another process and kill it when it has begun to write."
    process = child(SLOW.format(out=str(out), workers=workers))
    try:
        stop = time.time() + 120
        while not list(out.glob(".drive-*/drive-phantom-24/image.npy")):
            assert process.poll() is None and time.time() < stop, process.communicate()[0]
            time.sleep(0.05)
        time.sleep(0.4)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_killed_while_packing_then_started_again(tmp_path):
    out = tmp_path / "out"
    kill_in_the_middle(out)
    (rest,) = names(out)
    assert rest.startswith(".drive-")
    with pytest.raises(StoreError, match="There is no packed dataset"):
        Store.open([out / "drive-phantom-24"])
    with pytest.raises(StoreError, match="manifest"):
        Store.open([out / rest / "drive-phantom-24"])  # not even by its hidden name
    folder = pack("drive", out=out, size=24, subjects=30, source="phantom")
    assert (
        names(out) == [folder.name] and len(Store.open([folder])) == 30
    )  # the rest of the dead process is gone


def test_killed_while_replacing_a_stale_store_leaves_the_old_one(tmp_path):
    out = tmp_path / "out"
    old = pack("drive", out=out, size=24, subjects=5, source="phantom")
    kill_in_the_middle(out)
    assert len(Store.open([old])) == 5
    assert len(
        Store.open([pack("drive", out=out, size=24, subjects=30, source="phantom")])
    ) == 30 and names(out) == [old.name]


def test_the_rest_of_a_living_process_is_left_alone(tmp_path):
    out = tmp_path / "out"
    process = child(SLOW.format(out=str(out), workers=1))
    try:
        stop = time.time() + 120
        while not list(out.glob(".drive-*")):
            assert process.poll() is None and time.time() < stop, process.communicate()[0]
            time.sleep(0.05)
        pack("drive", out=out, size=24, subjects=2, source="phantom")
        assert process.poll() is None and len(names(out)) == 2  # ours is done, the other goes on
    finally:
        process.kill()
        process.wait()


def test_a_store_that_was_damaged_is_packed_again_and_not_called_fresh(tmp_path):
    folder = pack("drive", out=tmp_path, size=24, subjects=3, source="phantom")
    before = (folder / "image.npy").read_bytes()
    for spoil in (
        lambda: (folder / "image.npy").write_bytes(before[:500]),
        lambda: (folder / "semantic.npy").unlink(),
        lambda: (folder / "manifest.json").write_text("{"),
    ):
        spoil()
        with pytest.raises(StoreError, match="pack again|Pack it"):
            Store.open([folder])
        assert pack("drive", out=tmp_path, size=24, subjects=3, source="phantom") == folder
        assert (folder / "image.npy").read_bytes() == before and len(Store.open([folder])) == 3


def test_progress_hears_of_every_item(tmp_path):
    heard = []
    write_pairs(tmp_path, 6)
    card = make_card(tmp_path)
    (tmp_path / "toy/masks/p01_02.png").unlink()
    pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True, progress=lambda *n: heard.append(n))
    assert heard == [(n, 6) for n in range(1, 7)]
    pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True, progress=lambda *n: heard.append(n))
    assert len(heard) == 6  # it was there


def test_a_card_that_is_wrong_stops_before_anything_is_made(tmp_path):
    write_pairs(tmp_path, 4)
    with pytest.raises(DataError, match="pairs|images"):
        pack(
            make_card(
                tmp_path, (CARD + CLASSES + PAIRS + BY_SUBJECT).replace("images/*", "pictures/*")
            ),
            tmp_path,
            tmp_path / "out",
            16,
        )
    with pytest.raises(DataError, match="Register at"):
        pack(load_card("acdc"), tmp_path, tmp_path / "out", 16, source="real")
    assert names(tmp_path / "out") == []


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="mapped pages are counted by Linux"
)
def test_reading_a_large_store_does_not_grow_the_process(tmp_path):
    "Every row of a store of 130 MB is read; what is mapped is let go on the way, and the rows are still right."
    import psutil

    from benchmarks.data import enlarge

    small = pack("monusac", out=tmp_path, size=64, subjects=4, source="phantom")
    store, me = Store.open([enlarge(small, tmp_path / "large", 750)]), psutil.Process()
    first = store.batch(range(4)).image
    before = me.memory_info().shared
    for start in range(0, len(store), 250):
        store.batch(range(start, start + 250))
    assert me.memory_info().shared - before < 30e6
    assert (store.batch(range(2996, 3000)).image == first).all()
