"Masked slices: what is hidden, what counts, what the sparse features know."
from dataclasses import asdict

import pytest
import torch

from taco.base import ParameterError
from taco.transfer.sequences.batches import SliceBatches, masked, patch_mask, standardised
from taco.transfer.sequences.rivals import masked as module
from taco.transfer.sequences.rivals.masked import (
    Masked,
    MaskedConfig,
    hidden_error,
    varied,
    visible_features,
)
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, fall, halves

BATCHES = SliceBatches(bodies(), "abc", 8)


def make(seed, sparse=False): return Masked(*halves(), MaskedConfig(sparse=sparse), seed)


def test_the_defaults_are_those_of_the_chapter():
    assert asdict(MaskedConfig()) == dict(hidden=.65, patches=8, strength=.5, sparse=False)
    assert MaskedConfig().count == 42


@pytest.mark.parametrize("wrong", [dict(hidden=0.), dict(hidden=1.), dict(hidden=1.5), dict(patches=1),
                                   dict(patches=2, hidden=.1), dict(strength=-1.), dict(sparse="no")])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): MaskedConfig(**wrong)


def test_a_decoder_of_other_outputs_is_refused():
    with pytest.raises(ParameterError, match="UNetDecoder"): Masked(*halves(3), MaskedConfig())


def test_whole_patches_are_hidden_as_many_in_every_slice_and_others_in_each():
    where = patch_mask(6, 32, torch.Generator().manual_seed(0), patches=4, hidden=.5)
    blocks = where.view(6, 4, 8, 4, 8)
    assert torch.equal(blocks.amin((2, 4)), blocks.amax((2, 4))) and (where.sum((1, 2, 3)) == 8 * 64).all()
    assert len(where.flatten(1).unique(dim=0)) == 6


def test_hidden_patches_show_the_mean_and_the_others_themselves():
    images, where = torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    where[..., :4] = 1
    shown = masked(images, where)
    assert torch.equal(shown[..., 4:], images[..., 4:])
    assert torch.allclose(shown[..., :4], images.mean((2, 3), keepdim=True).expand(-1, -1, 8, 4))


def test_the_error_by_hand():
    images, where = torch.rand(3, 1, 8, 8), torch.zeros(3, 1, 8, 8)
    where[0, 0, :2] = 1
    answer = torch.randn(3, 1, 8, 8)
    by_hand = (answer - standardised(images))[0, 0, :2].square().mean()
    assert torch.isclose(hidden_error(answer, images, where), by_hand)


def test_slices_are_varied_anew_at_every_step():
    images = torch.rand(4, 1, 32, 32)
    one, two, still = (varied(images, torch.Generator().manual_seed(s), k) for s, k in ((0, .5), (1, .5), (0, 0.)))
    assert not torch.equal(one, two) and not torch.equal(still, images), "moved even where nothing is shaded"


def test_the_slice_is_asked_and_not_what_was_shown_of_it(monkeypatch):
    "A network that answers the slice pays nothing; one that answers what it was shown does."
    model, seen, truly = make(0), {}, module.masked
    def watched(images, where):
        seen.update(slice=images, shown=truly(images, where))
        return seen["shown"]
    monkeypatch.setattr(module, "masked", watched)
    lost = {}
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.update(given=inputs[0]))
    for name in ("slice", "shown"):
        model.decoder.forward = lambda features, name=name: standardised(seen[name])
        lost[name] = model.loss(BATCHES(0), 0).item()
    assert lost["slice"] == 0 < lost["shown"] and torch.equal(seen["given"], seen["shown"])


def test_sparse_features_know_nothing_of_what_is_hidden():
    encoder, _ = halves()
    images, where = torch.rand(2, 1, 32, 32), torch.zeros(2, 1, 32, 32)
    where[..., :16] = 1  # left half, a whole number of cells at every stage
    tokens = [torch.full((1, w, 1, 1), float(i)) for i, w in enumerate(encoder.widths)]
    features = visible_features(encoder.eval(), masked(images, where), where, tokens)
    for i, f in enumerate(features):
        left, right = f.chunk(2, -1)
        assert (left == i).all() and not (right == i).all()


def test_the_tokens_of_sparse_features_learn_and_dense_ones_have_none():
    model = make(0, sparse=True)
    model.loss(BATCHES(0), 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.tokens) and len(model.tokens) == 3
    assert len(make(0).tokens) == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_it_is_pure_and_goes_on_where_it_was_killed(sparse, tmp_path):
    check_pure(lambda seed: make(seed, sparse), BATCHES(0))
    check_resumes(lambda seed: make(seed, sparse), BATCHES, tmp_path)


def test_the_loss_falls():
    assert fall(make, BATCHES) < .9
