"UMS-Rep: what counts as not worse and as chance, what a saving consists of, and curves by hand."
import dataclasses

import numpy as np
import pandas as pd
import pytest

from taco.base import StoreError
from taco.transfer.unified.networks import Arm, Scored, keep
from taco.transfer.unified.representation import Representation, pretext_net
from taco.transfer.unified.results import (
    MARGINS,
    REFERENCE,
    SAVINGS,
    Results,
    amortised,
    beats_chance,
    curve,
    denoiser,
    difference,
    mean_curve,
    not_worse,
    not_worse_at_all,
    on_val,
    over_best_baseline,
    parts_of_saving,
    saved_beside_denoising,
    spent,
    stage_one,
    table_of,
    value,
)
from taco.transfer.unified.study import Division, Modality, division_folder
from tests.transfer.unified.toys import ARMS, IMAGES, TARGETS, WIDTHS, WITHIN, made, scores_of

MADE = [Arm("separate"), Arm("full", None, ("denoising", "told"))]


@pytest.fixture(scope="module")
def results(): return made()


@pytest.fixture(scope="module")
def table(results): return table_of(results).set_index("arm")


# ---------------------------------------------------------------- not worse

def test_not_worse_is_read_from_the_lower_end_of_the_interval():
    dice = lambda low, **more: not_worse(pd.Series({"dice change low": low} | more), "dice")
    assert dice(-.01) and not dice(-.0100001) and dice(.2)
    assert not dice(-.17, **{"dice change": .05}), "a wide interval is not the same as no loss"
    assert dice(-.0099, **{"dice change high": -.001}), "worse, but by less than matters"
    row = pd.Series({"dice change low": -.05})
    assert not_worse(row, "dice", dict(dice=.05)) and not not_worse(row, "dice", dict(dice=.049))
    assert not not_worse(row, "psnr") and not not_worse(pd.Series({"psnr change low": np.nan}), "psnr")


def test_not_worse_at_all_means_the_class_the_masks_and_the_image():
    edge = {f"{m} change low": -MARGINS[m] for m in ("accuracy", "auroc", "dice", "psnr")}
    fair = lambda **lower: not_worse_at_all(pd.Series(edge | {f"{m} change low": low for m, low in lower.items()}))
    assert fair() and fair(accuracy=-1.) and fair(auroc=-1.) and not fair(accuracy=-1., auroc=-1.)
    assert not fair(dice=-.011) and not fair(psnr=-.31)
    assert not_worse_at_all(pd.Series({"dice change low": 0.})), "there is no class and no image"


def test_what_chance_is():
    truth = [0., 1.] * 20
    scores = lambda right: pd.DataFrame({"correct finding": right, "class finding": truth, "margin finding": 0.,
                                         "set": 0, "subject": range(40)})
    results = lambda *each: Results("toy", TARGETS, {REFERENCE: [scores(e) for e in each]}, {}, {}, {})
    good, coin = [1.] * 38 + [0.] * 2, [1., 0.] * 20
    assert beats_chance(results(good, good)) and not beats_chance(results(coin, coin))
    assert not beats_chance(results(good, coin)), "seeds that disagree"


# ---------------------------------------------------------------- values

def test_values_and_changes_are_means_with_intervals(results, table):
    assert table.index.tolist() == list(ARMS) and table.loc["full-6", "labelled"] == 6
    for arm, (_, pretexts, _, flops, right, dice) in ARMS.items():
        row = table.loc[arm]
        assert row["accuracy"] == pytest.approx(right) and row["dice"] == pytest.approx(dice)
        assert row["accuracy low"] <= row["accuracy"] <= row["accuracy high"] <= 1
        assert row["pretexts"] == "+".join(pretexts)
        assert row["saved"] == pytest.approx(1 - flops / 1000) and row["gflops"] == pytest.approx(flops / 1e9)
    assert table.loc["frozen-all", "dice change"] == pytest.approx(-.2)
    assert table.loc["guided-all", "dice change low"] == pytest.approx(-.05), "paired, for images have one noise"
    assert np.isnan(table.loc["full-6", "dice change"]), "few labels have no reference"
    assert table.loc["separate-all", "steps"] == 12 and table.loc["full-all", "steps"] == 4


def test_a_difference_is_drawn_by_subject(results):
    "Four images of each subject, which all turn out alike, say less than forty that do not."
    rng = np.random.default_rng(0)
    gain = .1 * rng.standard_normal(10).repeat(4)
    of = lambda dice, subject: scores_of(1., .5).assign(**{"dice organs": dice, "subject": subject})
    wide, narrow = (Results("toy", WITHIN, dict(a=[of(gain, who)], b=[of(0., who)]), {}, {}, {})
                    for who in (np.arange(10).repeat(4), np.arange(IMAGES)))
    each = [difference(r, "a", "b", "dice") for r in (wide, narrow)]
    spans = [high - low for _, (low, high) in each]
    assert each[0][0] == each[1][0] == pytest.approx(gain.mean()) and spans[0] > 1.5 * spans[1]


def test_auroc_is_drawn_by_subject_as_well():
    "Six images of a patient that are all alike say no more than one."
    truth = np.arange(20) % 2
    margin = truth + np.random.default_rng(0).standard_normal(20)
    one = pd.DataFrame({"class finding": 1. * truth, "margin finding": margin, "subject": range(20), "set": 0})
    six = one.loc[one.index.repeat(6)].reset_index(drop=True)
    few, many = (value(Results("toy", WITHIN, dict(a=[t]), {}, {}, {}), "a", "auroc") for t in (one, six))
    spans = [high - low for _, (low, high) in (few, many)]
    assert few[0] == pytest.approx(many[0]) and spans[1] > .8 * spans[0]


def test_auroc_is_fold_by_fold(results):
    "Margins of the second fold lie elsewhere: pooled they would hide that each is told rightly."
    whole = results.scores[REFERENCE][0]
    late = np.arange(IMAGES) >= IMAGES // 2
    found = whole.assign(fold=late * 1, **{"margin finding": 2 * whole["class finding"] - 30. * late})
    tables = found, found.drop(columns="fold")
    folded, pooled = (Results("toy", WITHIN, dict(a=[t], b=[t]), {}, {}, {}) for t in tables)
    assert value(folded, "a", "auroc")[0] == 1 and value(folded, "a", "auroc")[1] == pytest.approx((1, 1))
    assert value(pooled, "a", "auroc")[0] == pytest.approx(.75)
    assert difference(folded, "a", "b", "auroc") == (0, (0, 0))


def test_intervals_stay_within_what_is_possible():
    few = scores_of(.975, .99).assign(**{"psnr Gaussian": 200., "psnr speckle": 200.})
    toy = Results("toy", WITHIN, dict(a=[few, scores_of(1., .99)]), {}, {}, {})
    for metric in ("accuracy", "dice", "auroc"):
        mean, (low, high) = value(toy, "a", metric)
        assert 0 <= low <= mean <= high <= 1
    assert value(toy, "a", "psnr")[1][1] > 1


def test_images_of_another_source_are_asked_by_every_division(results):
    asked = {REFERENCE: [scores_of(.9, .6)] * 6, "full-all": [scores_of(.9, .7)] * 6}
    other = dataclasses.replace(results, asked=asked)
    assert value(other, "full-all", "dice", True)[0] == pytest.approx(.7)
    assert value(other, "full-all", "dice")[0] == pytest.approx(.8)
    assert difference(other, "full-all", REFERENCE, "dice", True)[0] == pytest.approx(.1)


# ---------------------------------------------------------------- savings

def test_the_parts_of_a_saving_sum_to_it(results, table):
    "Per step: the three networks 250, the shared one 75 with all images to denoise, 62.5 with few, 50 as it was."
    parts = parts_of_saving(results, "full-all")
    assert tuple(parts) == SAVINGS and sum(parts.values()) == pytest.approx(table.loc["full-all", "saved"]) == .8
    assert list(parts.values()) == pytest.approx([0, .7, .05, .05])
    other = made(**{"full-all": ("full", [], None, 1500, .9, .8)})
    assert sum(parts_of_saving(other, "full-all").values()) == pytest.approx(-.5), "nothing is saved"
    briefly = lambda cost: cost | dict(networks=dict(full=cost["networks"]["full"] | dict(steps=2)))
    costs = results.costs | {"full-all": [briefly(cost) for cost in results.costs["full-all"]]}
    half = dataclasses.replace(results, costs=costs)
    assert parts_of_saving(half, "full-all")["fewer steps"] == pytest.approx(.5)


def test_stage_1_is_counted_once_for_so_many_fine_tunings(results, table):
    assert stage_one(results, "full-all") == 100 and stage_one(results, "full.denoising+told-all") == 150
    assert not any(stage_one(results, arm) for arm in ("separate-all", "guided-all", "joint-all"))
    assert amortised(results, "full-all", 1) == pytest.approx(.7) == table.loc["full-all", "saved_with_first"]
    assert amortised(results, "full-all", 4) == pytest.approx(1 - 900 / 4000)
    assert denoiser(results, "full-all") == denoiser(results, "joint-all") == 0
    for cost in results.costs["full-all"]:  # now it keeps the denoiser of stage 1, which half of the reference is for
        for network in cost["networks"].values(): network["looks"].pop("loss denoising", None)
    assert denoiser(results, "full-all") == 500 and saved_beside_denoising(results, "full-all") == pytest.approx(.6)
    assert amortised(results, "full-all", 1) == pytest.approx(.7)
    assert amortised(results, "full-all", 4) == pytest.approx(1 - 900 / (500 + 4 * 500))
    assert amortised(results, "joint-all", 3) == pytest.approx(.1) and spent(results, "full-all", "seconds") == 1


# ---------------------------------------------------------------- curves

def looks(step, value, each, **scores) -> dict:
    return dict(looks=dict(step=step, value=value, flops=[each * s for s in step], **scores))


def test_a_curve_is_of_the_best_weights_so_far():
    cost = dict(networks=dict(
        a=looks([10, 20, 30, 40], [.3, .8, .6, .8], 1, dice=[.1, .5, .9, .7]),
        b=looks([10, 20], [1., 2.], 2, psnr=[20., 22.])))
    found = curve(cost, WITHIN)
    assert found.index.tolist() == [10, 20, 30, 40] and list(found) == ["dice", "psnr", "flops"]
    assert found["dice"].tolist() == [.1, .5, .5, .5], "by the value, and the first of two that are alike"
    assert found["psnr"].tolist() == [20, 22, 22, 22], "one that has ended waits"
    assert found["flops"].tolist() == [30, 60, 70, 80]
    assert list(curve(cost, WITHIN, ["psnr"])) == ["psnr", "flops"]


def test_a_curve_follows_each_target_where_each_is_waited_for():
    looks = {"step": [2, 4, 6], "flops": [1, 2, 3], "dice": [.2, .9, .5], "psnr": [10., 12., 11.],
             "value": [0., 1., 2.], "value organs": [0., 2., 1.], "value denoising": [3., 1., 4.]}
    found = curve(dict(networks=dict(joint=dict(looks=looks))), WITHIN)
    assert found["dice"].tolist() == [.2, .9, .9] and found["psnr"].tolist() == [10, 10, 11]


def test_a_mean_curve_begins_where_all_have_been_looked_at():
    costs = [dict(networks=dict(a=looks([10, 20], [1., 2.], each, dice=dice))) for each, dice in
             ((1, [.2, .4]), (2, [.4, .8]))]
    toy = Results("toy", WITHIN, {}, dict(a=costs), {}, {})
    grid, mean = mean_curve(toy, "a", "dice", points=3)
    assert grid == pytest.approx([20, 20 * 2**.5, 40]) and mean == pytest.approx([.4, .4, .6])
    early = lambda each: looks([0, 10, 20], [1., 2., 3.], each, dice=[.1, .3, .5])
    before = Results("toy", WITHIN, {}, dict(a=[dict(networks=dict(a=early(each))) for each in (1, 2)]), {}, {})
    grid, mean = mean_curve(before, "a", "dice", points=2)
    assert grid == pytest.approx([20, 40]) and mean == pytest.approx([.4, .5]), "a logarithmic scale has no 0"
    assert len(mean_curve(before, "a", "psnr")[0]) == 0 and on_val(before, "a", "psnr") == -np.inf, "it was ready"
    blind = [dict(networks=dict(a=looks([10], [1.], 1, auroc=[np.nan])))]
    for found in mean_curve(Results("toy", WITHIN, {}, dict(a=blind), {}, {}), "a", "auroc"): assert len(found) == 0
    assert on_val(toy, "a", "dice") == pytest.approx(.6)
    assert on_val(Results("toy", WITHIN, {}, dict(a=blind), {}, {}), "a", "auroc") == -np.inf


# ---------------------------------------------------------------- few labels

def test_ours_is_chosen_on_val_and_theirs_on_the_test(results):
    found = over_best_baseline(results, 6, "dice")
    assert (found["ours"], found["baseline"]) == ("full-6", "separate-6") and found["value"] == pytest.approx(.2)
    assert found["ci"][0] <= found["value"] <= found["ci"][1]
    assert over_best_baseline(results, 25, "dice") is None, "there is no such arm"
    val = lambda arm, dice: [c | dict(networks={k: n | dict(looks=n["looks"] | dict(dice=[0., dice]))
                                                for k, n in c["networks"].items()}) for c in results.costs[arm]]
    changed = {"frozen-all": val("frozen-all", .95), "guided-all": val("guided-all", .99)}
    other = dataclasses.replace(results, costs=results.costs | changed)
    found = over_best_baseline(other, "all", "dice")
    assert found["ours"] == "frozen-all", "val says so, and the test must not be asked"
    assert found["baseline"] == "separate-all", "on the test, whatever val says"
    assert found["value"] == pytest.approx(-.2)
    assert over_best_baseline(results, "all", "dice")["ours"] == "full-all", "no other pretexts are among ours"


# ---------------------------------------------------------------- from folders

@pytest.fixture
def folders(tmp_path, results):
    "Two seeds of two folds, each with half of the images in an order of its own."
    modality = Modality("toy", "montgomery", "tuberculosis", "", WITHIN, folds=2)
    for seed in (4, 9):
        for fold in (0, 1):
            place, half = division_folder(tmp_path, modality, Division(seed, fold)), scores_of(.9, .1 * seed)
            half = half[half["image"] % 2 == (fold + seed) % 2].sample(frac=1, random_state=seed)
            for arm in MADE:
                keep(place, arm.file, Scored(half, results.costs[arm.name][0], half[:3] if fold else None))
            for number, name in enumerate((("denoising",), ("denoising", "told"))):
                learnt = Representation(pretext_net(1, WIDTHS, 0, name), "toy", 10 * number + fold, name)
                learnt.save(place / f"representation-{'+'.join(name)}")
    return modality, tmp_path


def test_the_folds_of_a_seed_are_one_table_in_the_order_of_the_images(folders):
    found = Results.read(folders[0], MADE, [4, 9], folders[1], ("denoising",))
    assert list(found.scores) == ["separate-all", "full.denoising+told-all"] and found.main == "denoising"
    for seed, table in zip((4, 9), found.scores["separate-all"]):
        assert table["image"].tolist() == list(range(IMAGES))
        assert ((table["image"] + seed + table["fold"]) % 2 == 0).all()
        assert table["dice organs"].mean() == pytest.approx(.1 * seed)
    assert {name: len(costs) for name, costs in found.costs.items()} == dict.fromkeys(found.scores, 4)
    assert found.first == {"denoising+told": [10, 11, 10, 11]}, "no arm begins with another"
    assert stage_one(found, "full.denoising+told-all") == 10.5
    assert [len(t) for t in found.asked["separate-all"]] == [3, 3]
    one = Results.read(dataclasses.replace(folders[0], folds=None), MADE, [4], folders[1])
    assert "fold" not in one.scores["separate-all"][0]


def test_what_is_not_finished_or_damaged_is_refused(folders):
    modality, state = folders
    place = division_folder(state, modality, Division(9, 1))
    file = place / "separate-all.csv"
    text = file.read_text()
    file.write_text(text.replace("phantom", "").replace("0", "1", 1))
    with pytest.raises(StoreError, match="damaged"): Results.read(modality, MADE, [4, 9], state)
    file.write_text(text)
    (place / "separate-all.json").unlink()
    with pytest.raises(StoreError, match=r"not there(.|\n)*Run it again"): Results.read(modality, MADE, [4, 9], state)
    assert Results.read(modality, MADE, [4], state)
