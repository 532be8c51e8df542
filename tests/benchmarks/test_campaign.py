"The campaign of kills and faults: what it must see, that it goes on where it was stopped, and what its table says."

import contextlib
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import campaign
from benchmarks.campaign import OUT, SLOW, Row, kept, main, plan, table_of, tried
from taco.base import DataError, StoreError, atomic, disk_errors
from tests.campaign import faults
from tests.campaign.jobs import Far, far_shop, fetch_job, files_in
from tests.campaign.judge import FAULTS, FINE, Job, undisturbed

# ── jobs that are right, and jobs with one fault each ─────────────────────────────────────────────────────────────────

NAMES = ("a.txt", "b.txt", "c.txt")
WHOLE = (b"new of one piece", b"old of one piece")


def write(where: Path, value: str, pause: float = .004) -> None:
    "Three files that belong together, each in three parts; the old ones in the other order."
    where.mkdir(exist_ok=True)
    for name in NAMES if value == "new" else NAMES[::-1]:
        with open(where / name, "w") as file:
            for part in (value, " of one ", "piece"):
                file.write(part)
                file.flush()
                time.sleep(pause)


def rightly(folder: Path, value: str) -> None:
    with atomic(folder / "all") as spare: write(spare, value)


def in_place(folder: Path, value: str) -> None: write(folder / "all", value)


def once(folder: Path, value: str) -> None:
    "What is there is taken for whole."
    if not (folder / "all").exists(): in_place(folder, value)


def untidy(folder: Path, value: str) -> None:
    "Right, but for a hidden file."
    (folder / ".rest").touch()
    rightly(folder, value)


def never_again(folder: Path, value: str) -> None:
    "What was stopped cannot be started again."
    if (folder / "begun").exists(): raise ValueError("begun")
    (folder / "begun").touch()
    rightly(folder, value)
    (folder / "begun").unlink()


def read(folder: Path, checked: bool = True) -> dict[str, str]:
    "What lies there; `checked`: refused unless it is what somebody wrote."
    found = files_in(folder, "all")
    if not found or not checked: return found
    texts = {name: (folder / "all" / name).read_bytes() for name in NAMES if (folder / "all" / name).exists()}
    torn = [name for name, text in texts.items() if text not in WHOLE]
    if torn or len(set(texts.values())) > 1 or len(texts) < len(NAMES):
        raise StoreError("Damaged.", file=folder / "all" / (torn or NAMES)[0], fix="Write it again.")
    return found


def job(work=rightly, checked: bool = True, old: bool = True) -> Job:
    before = (lambda folder: rightly(folder, "old")) if old else None
    return Job("made", work=lambda folder: work(folder, "new"), result=lambda folder: read(folder, checked),
               files=lambda folder: files_in(folder, "all"), old=before,
               damaged=lambda folder: sorted((folder / "all").iterdir()))


def found(trial, of: Job, place: Path, count: int = 8) -> set[str]:
    "What so many trials say of a job."
    known, verdicts = undisturbed(of, place), []
    for number in range(count): verdicts += trial(of, known, place, number, 0) or []
    return {verdict.what for verdict in verdicts}


KILL, TERM = faults.random_kill(signal.SIGKILL), faults.random_kill(signal.SIGTERM)


LONG = pytest.mark.long


@pytest.mark.parametrize("trial", [faults.crash_point(True), TERM, *(
    pytest.param(trial, marks=LONG) for trial in (faults.crash_point(False), KILL))])
def test_what_is_written_in_one_step_survives(tmp_path, trial):
    assert found(trial, job(), tmp_path, 4) == {"survived"}


@pytest.mark.parametrize("work, checked, trial, said", [
    (in_place, False, KILL, "wrong"),                    # a reader that does not look sees half of it
    (in_place, True, faults.crash_point(True), "lost"),  # the old one is torn, and there is no new one
    (untidy, True, faults.crash_point(False), "left"),
    *(pytest.param(*planted, marks=LONG) for planted in (
        (in_place, False, faults.crash_point(False), "wrong"),
        (in_place, True, KILL, "lost"),
        (once, True, KILL, "lost"),                      # what is torn is never written again
        (once, False, TERM, "wrong"),
        (untidy, True, KILL, "left"),
        (never_again, True, KILL, "lost"))),
])
def test_a_writer_with_a_fault_is_seen_by_its_kills(tmp_path, work, checked, trial, said):
    assert said in found(trial, job(work, checked, old=work is not once), tmp_path)


def test_damage_is_seen_by_whoever_looks_and_the_harness_sees_who_does_not(tmp_path):
    assert found(faults.damage, job(), tmp_path / "one", 6) == {"detected"}
    assert found(faults.damage, job(checked=False), tmp_path / "two", 6) == {"wrong"}
    def raw(folder):
        try: return read(folder)
        except StoreError: raise ValueError("torn") from None
    assert found(faults.damage, replace(job(), result=raw), tmp_path / "three", 6) == {"raw"}


@LONG
def test_two_at_once(tmp_path):
    assert found(faults.two_at_once, job(), tmp_path / "one", 4) == {"survived"}
    slowly = lambda folder, value: write(folder / "all", value, .03)
    careless = replace(job(slowly, checked=False), old=lambda folder: slowly(folder, "old"))
    assert "wrong" in found(faults.two_at_once, careless, tmp_path / "two")


@LONG
def test_a_clock_set_back(tmp_path):
    def by_time(folder, value):
        "Writes again only what looks older than now."
        if not (folder / "all").exists() or (folder / "all").stat().st_mtime <= time.time(): rightly(folder, value)
    assert found(faults.clock_set_back, job(), tmp_path / "one", 4) == {"survived"}
    assert "wrong" in found(faults.clock_set_back, job(by_time), tmp_path / "two", 4)


@LONG
def test_data_that_go_away(tmp_path):
    def packer(place: Path, careless: bool) -> Job:
        home = place / "data"
        home.mkdir(parents=True)
        for n in range(20): (home / f"{n}.txt").write_text(f"{n}")

        def work(folder):
            with atomic(folder / "all") as spare:
                spare.mkdir()
                for n in range(20):
                    time.sleep(.01)
                    try: (spare / f"{n}.txt").write_text((home / f"{n}.txt").read_text())
                    except FileNotFoundError as error:
                        if not careless: raise DataError("A file is missing.", file=home, fix="Look.") from error

        whole = lambda folder: files_in(folder, "all")
        return Job("packer", work=work, result=whole, files=whole, home=home)

    for careless, said in ((False, "refused"), (True, "wrong")):
        of = packer(tmp_path / said, careless)
        assert found(faults.unplugged(False), of, tmp_path / said / "work", 3) == {said}
        assert len(list(of.home.iterdir())) == 20  # and is back


@LONG
def test_a_disk_that_takes_no_more(tmp_path):
    def heavy(folder, value):
        with atomic(folder / "all") as spare:
            write(spare, value)
            (spare / "more.bin").write_bytes(bytes(200_000))

    def careless(folder, value):
        try: heavy(folder, value)
        except StoreError: raise OSError("No space left on device") from None

    def deaf(folder, value):
        with contextlib.suppress(StoreError): heavy(folder, value)

    try:
        said = found(faults.full_disk, job(heavy, False, False), tmp_path / "one", 6)
        assert "refused" in said and said <= {"refused", "harmless"}
        assert "raw" in found(faults.full_disk, job(careless, False, False), tmp_path / "two", 6)
        assert "wrong" in found(faults.full_disk, job(deaf, False, False), tmp_path / "three", 6)
        assert found(faults.read_only, job(heavy, False, False), tmp_path / "four", 1) == {"refused"}
        assert found(faults.read_only, job(deaf, False, False), tmp_path / "five", 1) == {"wrong"}
    except faults.CannotBeTried as error: pytest.skip(str(error))


@LONG
def test_a_network_with_other_manners(tmp_path):
    with far_shop(tmp_path / "shop") as shop:
        of = fetch_job(shop, "good")
        for manners in ("cut", "rest"): assert found(faults.network(manners), of, tmp_path / manners, 1) == {"refused"}
        assert isinstance(shop, Far)

        def trusting(folder):
            "Takes what comes."
            import requests
            with disk_errors(folder): (folder / "toy").mkdir(parents=True, exist_ok=True)
            for name in shop.files:
                if not (folder / "toy" / name).exists():
                    (folder / "toy" / name).write_bytes(requests.get(shop.row(name)["url"], timeout=9).content)

        known = undisturbed(of, tmp_path / "known")
        shop.manners = "other 5"
        trusting(tmp_path / "taken")
        assert of.result(tmp_path / "taken") != known.result and "torn" in of.result(tmp_path / "taken").values()


# ── rows, and the table ───────────────────────────────────────────────────────────────────────────────────────────────


def test_trials_are_kept_and_not_repeated(tmp_path, monkeypatch):
    asked, file = [], tmp_path / "row.json"

    def trial(job, known, place, number, seed):
        asked.append((number, seed))
        if number == 2 and asked.count((2, 5)) == 1: raise KeyboardInterrupt
        return [faults.Verdict("survived")] if number < 4 else []

    row, subject = Row("pack", "odd", trial, 10), lambda: (None, None, None)
    with pytest.raises(KeyboardInterrupt): tried(row, subject, file, 5)
    both = [tried(row, subject, file, 5) for _ in range(2)]
    assert [n for n, _ in asked] == [0, 1, 2, 2, 3, 4] and both[0] == both[1] and len(both[0]["verdicts"]) == 4
    file.write_bytes(file.read_bytes().replace(b"survived", b"survivet"))
    assert kept(file, row)["trials"] == 0  # damaged
    tried(row, subject, file, 5)
    monkeypatch.setattr(campaign, "code", lambda: "other")
    assert kept(file, row)["trials"] == 0
    table = table_of(both, 5)
    assert table.loc[0, ["tried", "survived", "wrong", "seed"]].tolist() == [4, 4, 0, 5]


def test_what_cannot_be_tried_stands_in_the_table_and_faults_end_with_one(tmp_path, monkeypatch, capsys):
    def cannot(*_): raise faults.CannotBeTried("nothing can be mounted here")
    rows = [Row("made", "full", cannot, 3), Row("made", "odd", lambda *_: [faults.Verdict("wrong", "7")], 2)]
    monkeypatch.setattr(campaign, "plan", lambda kills: rows)
    monkeypatch.setattr(campaign.Subjects, "__getitem__", lambda self, name: (None, None, None))
    words = ["--out", str(tmp_path / "t.csv"), "--kept", str(tmp_path / "kept")]
    assert main([*words, "--only", "full"]) == 0 and main(words) == 1 and main([*words, "--only", "nobody"]) == 2
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["note"].tolist() == ["nothing can be mounted here", "7"] and table["tried"].tolist() == [0, 2]
    assert "wrong: made: odd, 0: 7" in capsys.readouterr().out


@LONG
def test_the_real_thing_in_small(tmp_path):
    "Two kills and two kinds of damage of a packing, as the command does it."
    words = ["--only", "pack: SIGKILL at", "pack: bit", "--most", "2", "--seed", "3"]
    assert main([*words, "--out", str(tmp_path / "t.csv"), "--kept", str(tmp_path / "kept")]) == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert (table["tried"] >= 2).all() and len(table) == 2 and table["survived"].max() == 2


def test_the_table_in_the_repository_is_of_the_whole_plan_and_has_no_fault():
    "At least 200 random kills and 200 places of a store; nothing lost, nothing wrong."
    table, rows = pd.read_csv(OUT, keep_default_na=False), plan()
    assert list(zip(table["subject"], table["fault"])) == [(row.subject, row.fault) for row in rows]
    untried = table[table["tried"] == 0]
    assert (untried["note"] != "").all() and set(untried["fault"]) <= {f for f in table["fault"] if "read-only" in f
                                                                       or "disk" in f}
    assert (table[[*FINE, *FAULTS]].sum(1) == table["tried"]).all() and (table[list(FAULTS)] == 0).all().all()
    kills = table[table["fault"].str.contains("random moment") & table["fault"].str.startswith("SIG")]
    assert kills["tried"].sum() >= 200 and (kills["survived"] == kills["tried"]).all()
    assert {how[:7] for how in kills["fault"]} == {"SIGKILL", "SIGTERM"}
    assert {"pack", "train", "embed", "publish", "fetch", "Snakemake", *SLOW[1:]} <= set(kills["subject"])
    store = table[(table["subject"] == "pack") & table["fault"].str.startswith("bit flipped")]
    assert store["tried"].item() >= 3 * 200 == 600 and store["detected"].item() + store["harmless"].item() >= 600
    enough = {row.name: row.count for row in rows if row.count < campaign.EVERY}
    names = table["subject"] + ": " + table["fault"]
    assert np.all([n >= enough.get(name, 15) for name, n in zip(names, table["tried"]) if n])
