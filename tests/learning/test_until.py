"taco.learning.until: one rule ends every training of a comparison, with the best weights, killed or not."
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from taco.base import EncoderError, ParameterError
from taco.learning.loop import Fit, FitConfig, fit, step_generator
from taco.learning.until import Patience, Until, waited_for


class Given(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))


def told(values: list[float], patience: Patience) -> tuple[Until, Given]:
    "A rule that has looked at these values, until it was over."
    module = Given()
    until = Until(lambda: dict(value=module.value.item(), twice=2 * module.value.item()), patience)
    for look, value in enumerate(values, 1):
        if until.over: break
        module.value.data.fill_(value)
        until.add(patience.every * look, until.measure(module), module)
    return until, module


@pytest.mark.parametrize("values, patience, looks, fallen, best", [
    ([1, 2, 3, 4, 5], Patience(looks=1, falls=0), 5, 0, 5),
    ([1, 2, 2, 2, 9], Patience(looks=2, falls=0), 4, 0, 2),
    ([1, 1, 1, 1, 9], Patience(looks=1, falls=2), 4, 2, 1),
    ([1, 0, 2, 1, 1, 3, 1, 1, 1, 9], Patience(looks=2, falls=1), 8, 1, 3),
    ([1, 1.0625, 1.2], Patience(looks=1, falls=0, least=.1), 2, 0, 1.0625),
    ([1, 1.0625, 1.125, 1.125], Patience(looks=2, falls=0, least=.1), 4, 0, 1.125),
    ([1, 1.125, 1.25, 1.25], Patience(looks=1, falls=0, least=.1), 4, 0, 1.25),
    ([-3, -2, -2.5, -2.5], Patience(looks=2, falls=0), 4, 0, -2),
])
def test_the_rule(values, patience, looks, fallen, best):
    until, module = told(values, patience)
    assert (len(until.rows), until.fallen) == (looks, fallen)
    until.restore(module)
    assert module.value == best
    table = until.table()
    assert table["best"].sum() == 1 and table.loc[table["best"], "value"].item() == best
    assert (table["twice"] == 2 * table["value"]).all()
    assert table["step"].tolist() == [patience.every * (i + 1) for i in range(looks)]


def test_a_fall_may_go_back_to_the_best_weights():
    for back in (False, True):
        _, module = told([1, 3, 2, 2], Patience(looks=2, falls=1, back=back))
        assert module.value == (3 if back else 2)
    with pytest.raises(ParameterError, match="back"): Patience(back="yes")


def test_each_name_is_waited_for_as_if_it_were_alone():
    "One that is done early ends nothing; the weights of each are those with which it was best."
    values = dict(early=[1, 5, 4, 3, 2, 1, 1, 1, 1], late=[1, 1, 2, 3, 4, 5, 5, 5, 9])
    module, until = Given(), Until(lambda: 0., Patience(looks=2, falls=1))
    for look, (early, late) in enumerate(zip(*values.values())):
        if until.over: break
        module.value.data.fill_(look)
        until.add(20 * look, {"value": early + late, "value early": early, "value late": late}, module)
    assert len(until.rows) == 9 and until.fallen == 1 and not until.over, "five looks, two of patience, one more"
    assert waited_for(until.rows[0]) == ["value early", "value late"] and waited_for(["step", "value"]) == ["value"]
    for name, look in (("value early", 1), ("value late", 8), ("value", 8)):
        until.restore(module, name)
        assert module.value == look
    other = Until(lambda: 0.)
    other.load_state_dict(until.state_dict())
    assert other.since == until.since and other.best == until.best


def test_the_rate_rises_and_falls():
    until = Until(lambda: 0., Patience(warmup=4, factor=.5))
    assert [until.rate(step) for step in range(6)] == [.25, .5, .75, 1, 1, 1]
    until.fallen = 2
    assert until.rate(100) == .25
    assert Until(lambda: 0., Patience(warmup=0)).rate(0) == 1


@pytest.mark.parametrize("wrong", [dict(every=0), dict(looks=0), dict(falls=-1), dict(factor=2.), dict(least=-1.)])
def test_an_impossible_patience_is_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): Patience(**wrong)


def test_what_is_measured_leaves_no_trace():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    module[1].eval()  # as if it were frozen
    seen = []
    def look():
        seen.append((torch.is_grad_enabled(), module.training, module[2].training))
        module(torch.rand(4, 2))
        return 1.
    before = {k: t.clone() for k, t in module.state_dict().items()}
    assert Until(look).measure(module) == dict(value=1) and seen == [(False, False, False)]
    assert module.training and module[2].training and not module[1].training
    assert all(torch.equal(t, module.state_dict()[k]) for k, t in before.items())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_is_refused(value):
    with pytest.raises(EncoderError, match=r"not a number(.|\n)*look"): Until(lambda: value).measure(nn.Linear(1, 1))
    empty = Until(lambda: 1.).table()
    assert len(empty) == 0 and list(empty) == ["step", "rate", "value", "best"]


class Line(Fit):
    "A line through noisy points; its rate is high enough for the loss to wander."
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def loss(self, batch, step): return (self.layer(batch[0]) - batch[1]).square().mean()


def points(step: int, stop: int | None = None):
    if step == stop: raise KeyboardInterrupt
    x = torch.rand(16, 1, generator=(g := step_generator(step)))
    return x, 3 * x - 1 + .3 * torch.randn(16, 1, generator=g)


CONFIG = FitConfig(steps=400, learning_rate=.1, checkpoint_every=7, log_every=10)
RULE = Patience(every=10, looks=3, falls=1)


def trained(folder=None, stop=None, rule=RULE, **more):
    line, (x, y) = Line(), points(10_000)
    until = Until(lambda: -(line.layer(x) - y).square().mean().item(), rule)
    history = fit(line, lambda step: points(step, stop), CONFIG, folder, until=until, **more)
    return line, until, history, until.look()


def test_a_training_ends_by_the_rule_with_its_best_weights(tmp_path):
    line, until, history, value = trained(tmp_path)
    assert until.over and history["step"].iloc[-1] == until.rows[-1]["step"] < 400
    assert value == pytest.approx(until.table()["value"].max(), abs=1e-6) and not line.training
    rates = history["lr"] / CONFIG.learning_rate
    assert rates.round(6).isin([1, .3]).all() and rates.iloc[-1] == pytest.approx(.3)
    table = pd.read_csv(tmp_path / "looks.csv")
    assert table["step"].tolist() == until.table()["step"].tolist() and not (tmp_path / "training.ckpt").exists()


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("part", [.3, .6, .95])
def test_a_killed_training_ends_as_it_would_have(part, back, tmp_path):
    rule = replace(RULE, back=back)
    line, until, history, value = trained(tmp_path / "whole", rule=rule)
    stop = int(part * until.rows[-1]["step"])
    with pytest.raises((KeyboardInterrupt, SystemExit)): trained(tmp_path / "killed", stop, rule)
    assert (tmp_path / "killed/training.ckpt").exists()
    again, other, _, _ = trained(tmp_path / "killed", rule=rule)
    assert all(torch.equal(a, b) for a, b in zip(line.state_dict().values(), again.state_dict().values()))
    assert other.rows == until.rows
    assert (tmp_path / "killed/looks.csv").read_text() == (tmp_path / "whole/looks.csv").read_text()


def test_a_last_look_is_taken_at_the_last_step():
    line, (x, y) = Line(), points(10_000)
    until = Until(lambda: -(line.layer(x) - y).square().mean().item(), Patience(every=10, looks=100))
    fit(line, points, FitConfig(steps=33, learning_rate=.1), until=until)
    assert until.table()["step"].tolist() == [10, 20, 30, 33] and not until.over


def test_without_a_rule_nothing_has_changed():
    one, other = Line(), Line()
    fit(one, points, CONFIG)
    fit(other, points, CONFIG, until=None)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))
    assert one.rate_at is None
