"The register: what is said of each rival is what it does."
from itertools import count
from pathlib import Path

import pytest
import torch

from taco.base import ParameterError
from taco.transfer.sequences.arms import SequenceConfig
from taco.transfer.sequences.finetune import PARTS, hand_on, save_pretrained
from taco.transfer.sequences.rivals import register
from taco.transfer.sequences.rivals.register import RIVALS, Rival, restoring_of
from taco.transfer.unified.representation import RESTORABLE
from tests.transfer.sequences.rivals.toys import bodies, dies_at, halves
from tests.transfer.sequences.toys import alike, equal

NUMBERS = count(77)


def run(rival: Rival, seed: int = 0, working: Path | None = None, steps: int = 4, volumes=None):
    "The halves as they were, as they are, and what was handed on."
    first, (encoder, decoder) = halves(rival.outputs), halves(rival.outputs)
    how = rival.fit_config(steps, device="cpu", precision="32", checkpoint_every=1)
    torch.manual_seed(next(NUMBERS))  # what is global must not matter
    handed = rival.pretrain(encoder, decoder, volumes or bodies(), 8, how, seed, working)
    return first, (encoder, decoder), handed


def test_six_rivals_with_what_the_chapter_says():
    about = {name: (r.title, r.hands_on, r.outputs) for name, r in RIVALS.items()}
    assert about == {
        "masked": ("masked", PARTS, 1), "simclr": ("SimCLR", ("encoder",), 1), "positional": ("PCL", ("encoder",), 1),
        "global-local": ("global + local", PARTS, 1), "volume-fusion": ("VolumeFusion", PARTS, 5),
        "restoring": ("restoring", PARTS, 1)}
    how = {(r.optimiser, r.learning_rate, r.weight_decay) for r in RIVALS.values()}
    assert how == {("adamw", SequenceConfig().pretrain_rate, 1e-4)}, "the first guess is that of our own tasks"
    assert all(r.source.startswith("https://arxiv.org/abs/") for r in RIVALS.values())


def test_settings_of_a_training_come_first():
    how = RIVALS["simclr"].fit_config(7, learning_rate=.5, clip=0.)
    assert (how.steps, how.optimiser, how.learning_rate, how.clip, how.weight_decay) == (7, "adamw", .5, 0., 1e-4)


@pytest.mark.parametrize("name", RIVALS)
def test_it_hands_on_what_it_says_and_depends_on_the_seed_alone(name, tmp_path):
    rival = RIVALS[name]
    first, (encoder, decoder), handed = run(rival)
    assert handed[0] is encoder and handed[1] is (decoder if "decoder" in rival.hands_on else None)
    assert not equal(first[0], encoder) and equal(first[1], decoder) == ("decoder" not in rival.hands_on)
    assert not encoder.training and all(p.requires_grad for p in encoder.parameters())
    same, other = run(rival)[1], run(rival, seed=1)[1]
    assert equal(encoder, same[0]) and equal(decoder, same[1]) and not equal(encoder, other[0])
    file = save_pretrained(tmp_path / "parts.safetensors", *handed)
    fresh = halves(8)
    hand_on(file, rival.hands_on, *fresh)
    assert alike(fresh[0], encoder), "but for the norms of its weights"


@pytest.mark.parametrize("name", RIVALS)
def test_labels_and_test_subjects_are_not_seen(name):
    spoilt = bodies()
    others = (spoilt.table["split"] != "train").to_numpy().nonzero()[0]
    spoilt.images[others.tolist()], spoilt.labels[:] = 0, 0
    assert len(others) == 8
    as_it_is, found = run(RIVALS[name], steps=2)[1], run(RIVALS[name], steps=2, volumes=spoilt)[1]
    assert all(equal(a, b) for a, b in zip(as_it_is, found))


@pytest.mark.parametrize("name", ["masked", "positional"])
def test_a_killed_pre_training_goes_on(name, tmp_path, monkeypatch):
    rival = RIVALS[name]
    expected, truly = run(rival)[1], register.fit
    with monkeypatch.context() as m, pytest.raises(BaseException):  # noqa: B017
        m.setattr(register, "fit", lambda module, batches, *more: truly(module, dies_at(batches, 2), *more))
        run(rival, working=tmp_path)
    assert (tmp_path / "training.ckpt").exists()
    assert all(equal(a, b) for a, b in zip(run(rival, working=tmp_path)[1], expected))


@pytest.mark.parametrize("name", [n for n in RIVALS if n != "global-local"])
def test_module_and_batches_have_the_seed(name, monkeypatch):
    seen = []
    monkeypatch.setattr(register, "fit", lambda module, batches, *more: seen.append((module, batches)))
    run(RIVALS[name], seed=5)
    [(module, batches)] = seen
    assert module.seed == getattr(batches, "slices", batches).seed == 5
    assert getattr(batches, "slices", batches).count == 8


def test_two_stages_share_the_steps(tmp_path):
    run(RIVALS["global-local"], working=tmp_path, steps=6)
    ends = {p.parent.name: p.read_text().splitlines()[-1].split(",")[0] for p in tmp_path.rglob("history.csv")}
    assert ends == {"global": "3", "local": "3"}


@pytest.mark.parametrize("outputs, batch, word", [(12, 8, "outputs"), (1, 1, "batch"), (1, 800, "batch")])
def test_what_cannot_be_is_refused(outputs, batch, word):
    rival, (encoder, decoder) = RIVALS["simclr"], halves(outputs)
    with pytest.raises(ParameterError, match=word):
        rival.pretrain(encoder, decoder, bodies(), batch, rival.fit_config(1, device="cpu"))


def test_one_task_is_a_rival_of_its_own():
    alone = {task: restoring_of(task) for task in RESTORABLE}
    assert len({r.title for r in alone.values()}) == 9 and alone["super_resolution"].title == "super resolution"
    one, two = (run(alone[task], steps=1)[1][0] for task in ("inpainting", "deblurring"))
    assert not equal(one, two)
    with pytest.raises(ParameterError): restoring_of()
