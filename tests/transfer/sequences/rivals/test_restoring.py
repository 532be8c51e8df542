"Restoring: which tasks, how their errors are weighed, what is cut."
from dataclasses import asdict

import pytest
import torch

from taco.base import ParameterError
from taco.transfer.sequences.batches import SliceBatches
from taco.transfer.sequences.rivals import restoring
from taco.transfer.sequences.rivals.restoring import Restoring, RestoringConfig, left_over
from taco.transfer.unified.representation import RESTORABLE, of_tasks
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, fall, halves

BATCHES = SliceBatches(bodies(), "abc", 8)


def make(seed, **more): return Restoring(*halves(), RestoringConfig(**more), seed)


def test_the_defaults_are_those_of_the_chapter():
    assert asdict(RestoringConfig()) == dict(tasks=RESTORABLE, cut=.25, strength=.5) and len(RESTORABLE) == 9


@pytest.mark.parametrize("wrong", [dict(tasks=()), dict(tasks=("inpaint",)), dict(tasks=("horizontal_flip",)),
                                   dict(tasks=("colorization",)), dict(cut=1.5), dict(strength=-1.)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): RestoringConfig(**wrong)


def test_a_misspelt_task_gets_a_hint_and_a_decoder_of_other_outputs_is_refused():
    with pytest.raises(ParameterError, match="inpainting"): RestoringConfig(("inpaintin",))
    with pytest.raises(ParameterError, match="outputs"): Restoring(*halves(2), RestoringConfig())


def test_errors_are_weighed_task_by_task_by_hand():
    wanted, given = torch.zeros(4, 1, 2, 2), torch.tensor([1., 1., 1., .1])[:, None, None, None].expand(-1, 1, 2, 2)
    answer = torch.tensor([0., .5, 1., .05])[:, None, None, None].expand(-1, 1, 2, 2)
    task = torch.tensor([5, 5, 5, 2])
    assert left_over(answer, given, wanted, task).item() == pytest.approx(((1.25 / 3) + .25) / 2)


def test_a_task_that_does_nothing_does_not_blow_the_loss_up():
    same = torch.zeros(2, 1, 2, 2)
    assert left_over(same + .1, same, same, torch.zeros(2, dtype=torch.long)).item() == pytest.approx(10)
    assert left_over(same, same, same, torch.zeros(2, dtype=torch.long)) == 0


@pytest.mark.parametrize("task", RESTORABLE)
def test_each_task_alone_is_asked_and_spoils_more_than_the_floor(task, monkeypatch):
    seen, truly = [], restoring.of_tasks
    def watched(clean, names, generator):
        assert clean.min() >= 0 and clean.max() <= 1, "tasks need images in [0, 1]"
        seen.append((names, *truly(clean, names, generator)))
        return seen[-1][1:]
    monkeypatch.setattr(restoring, "of_tasks", watched)
    loss = make(0, tasks=(task,), strength=2.).loss(BATCHES(0), 0)
    [(names, given, wanted, _)] = seen
    assert names == (task,) and torch.isfinite(loss) and (given - wanted).square().mean() > 1e-3


def test_the_answer_is_compared_with_the_clean_slice(monkeypatch):
    model = make(0)
    seen, truly = {}, restoring.of_tasks
    def watched(clean, names, generator):
        given, wanted, task = truly(clean, names, generator)
        seen.update(given=given, wanted=wanted, clean=clean)
        return given, wanted, task
    monkeypatch.setattr(restoring, "of_tasks", watched)
    model.decoder.forward = lambda features: seen["wanted"]
    assert model.loss(BATCHES(0), 0) == 0 and torch.allclose(seen["wanted"], seen["clean"], atol=1e-6)
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.update(shown=inputs[0]))
    model.decoder.forward = lambda features: seen["given"]
    assert model.loss(BATCHES(0), 0).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(seen["shown"], seen["given"])


def test_skip_connections_are_cut_by_chance_and_the_deepest_never(monkeypatch):
    shares = {}
    for cut in (0., 1.):
        model = make(0, cut=cut)
        def watched(features, cut=cut):
            shares[cut] = [(f != 0).float().mean().item() for f in features]
            return features[0][:, :1]
        monkeypatch.setattr(model.decoder, "forward", watched)
        model.loss(BATCHES(0), 0)
    assert all(s > .9 for s in shares[0.]) and shares[1.][:-1] == [0, 0] and shares[1.][-1] > .9


def test_it_is_pure_and_goes_on_where_it_was_killed(tmp_path):
    check_pure(make, BATCHES(0))
    check_resumes(make, BATCHES, tmp_path)


def test_the_loss_falls():
    assert fall(make, BATCHES) < .9


def test_what_is_borrowed_gives_one_task_a_third_of_the_batch():
    given, wanted, task = of_tasks(BATCHES(0)[:6], RESTORABLE, torch.Generator().manual_seed(0))
    assert given.shape == wanted.shape == (6, 1, 32, 32) and task.unique(return_counts=True)[1].tolist() == [2, 2, 2]
