"UMS-Rep: heads that are attached, a class that looks within structures, and a guide that says where they are."
import pytest
import torch

from taco.base import EncoderError, ParameterError
from taco.learning.loop import FitConfig
from taco.learning.weights import load_weights, save_weights
from taco.transfer.unet import UNetEncoder
from taco.transfer.unified.batches import batches
from taco.transfer.unified.net import RegionClassifier, UnifiedNet, inside_and_rim, pool_in
from taco.transfer.unified.targets import Target
from taco.transfer.unified.tuning import Tuning
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN, relabelled, tune


def test_any_number_of_targets_and_classes(images):
    either, turn = (images.labels["organs"] > 0).to(torch.uint8), torch.arange(len(images)) % 5
    more = relabelled(images, **images.labels, either=either, turn=turn)
    targets = [Target("organs", "segmentation", 7), Target("either", "segmentation", 2),
               Target("turn", "classification", 5), Target("finding", "classification", 2)]
    net, _ = tune(None, more, targets=targets)
    shapes = {n: tuple(a.shape) for n, a in net(more.clean([0, 1])).items()}
    assert shapes == dict(organs=(2, 7, 32, 32), either=(2, 2, 32, 32), turn=(2, 5), finding=(2, 2))


def test_first_weights_differ_between_heads_and_seeds():
    "torch reads 32 bits of a seed; names had been cut to four letters."
    heads = [Target("lungs", "segmentation", 3), Target("lungs_too", "segmentation", 3)]
    nets = [UnifiedNet(1, heads, WIDTHS, seed) for seed in (100, 1001)]
    weights = [n.heads[name].final.weight for n in nets for name in n.heads]
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    file = save_weights(tmp_path / "w.safetensors", encoder=UNetEncoder(1, (4, 8)))
    with pytest.raises(EncoderError, match=r"encoder\.stages"):
        load_weights(file, encoder=UNetEncoder(1, (4, 8, 8)))
    with pytest.raises(EncoderError, match=r"encoder\.stages"):
        load_weights(file, encoder=UNetEncoder(1, (4, 16)))
    with pytest.raises(EncoderError, match="do not fit"):
        load_weights(file, decoder=UNetEncoder(1, (4, 8)))


def test_a_class_within_structures_depends_on_nothing_beyond_their_rim():
    head, g = RegionClassifier(2, (4, 4)).eval(), torch.Generator().manual_seed(0)
    maps, logits = [torch.rand(2, 4, s, s, generator=g) for s in (40, 20)], torch.zeros(2, 3, 40, 40)
    logits[:, 0] = 60
    logits[:, 0, 10:20, 10:20] = -60
    logits[:, 2, 10:20, 10:20] = 60
    far, near = [m.clone() for m in maps], [m.clone() for m in maps]
    for m, s in zip(far, (40, 20)): m[..., s * 30 // 40:, :] += 5
    for m, s in zip(near, (40, 20)):  # two pixels below: the rim is four wide
        m[..., s * 22 // 40:s * 24 // 40, s * 12 // 40:s * 16 // 40] += 5
    assert torch.equal(head(maps, logits), head(far, logits))
    assert not torch.allclose(head(maps, logits), head(near, logits))


def test_the_mask_is_used_and_not_taught(images):
    draw = batches(images, images, 8)(0)
    def gradient(weight):
        targets = [TARGETS[1], Target("finding", "classification", 2, weight, within="organs")]
        module = Tuning(UnifiedNet(1, targets, WIDTHS), targets)
        module.config = FitConfig(steps=1)
        module.loss(draw, 0).backward()
        part = lambda m: torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])
        return part(module.net.heads["organs"]), part(module.net.encoder)
    (head, encoder), (same, other) = gradient(.1), gradient(3.)
    assert torch.equal(head, same) and not torch.allclose(encoder, other)


def test_within_needs_a_segmentation_that_learns(images):
    noise, organs, finding = WITHIN
    elsewhere = Target("finding", "classification", 2, within="denoising")
    with pytest.raises(ParameterError, match="no such segmentation"):
        UnifiedNet(1, [finding], WIDTHS)
    with pytest.raises(ParameterError, match="no such segmentation"):
        UnifiedNet(1, [noise, elsewhere], WIDTHS)
    with pytest.raises(ParameterError, match="Only a classification"):
        Target("organs", "segmentation", 3, within="lungs")
    with pytest.raises(ParameterError, match="are not learnt"):
        tune(None, images, targets=[noise, Target("organs", "segmentation", 3, 0.), finding])
    with pytest.raises(ParameterError, match="are not learnt"):
        Tuning(UnifiedNet(1, WITHIN, WIDTHS), [finding])


def test_heads_may_be_attached_in_any_order_and_asked_one_by_one(images):
    net = UnifiedNet(1, WITHIN[::-1], WIDTHS).eval()
    twin = UnifiedNet(1, WITHIN, WIDTHS).eval()
    image = images.clean([0, 1, 2])
    with torch.inference_mode():
        alone = twin(image, ["finding"])
        assert torch.equal(net(image)["finding"], alone["finding"]) and list(alone) == ["finding"]
        assert torch.equal(net(image)["organs"], twin(image)["organs"])


def test_the_rim_is_a_tenth_of_the_image_wide():
    logits = torch.zeros(1, 3, 40, 40)
    logits[:, 0] = 60
    logits[:, :2, 10:20, 10:20] = torch.tensor([-60., 60.])[:, None, None]
    inside, rim = inside_and_rim(logits.requires_grad_())
    assert not inside.requires_grad and inside.sum().item() == pytest.approx(100, abs=1e-3)
    assert rim.sum().item() == pytest.approx(18 * 18 - 100, abs=1e-3) and rim[0, 0, 6, 6] == pytest.approx(1)
    maps = torch.arange(1., 3)[:, None, None].expand(1, 2, 40, 40)
    for found in pool_in(maps, inside): assert found.flatten().tolist() == pytest.approx([1, 2], rel=1e-3)
    for found in pool_in(maps, inside * 0): assert (found == 0).all(), "an empty region"


# ---------------------------------------------------------------- a guide

GUIDED = Target("finding", "classification", 2, within="organs")


@pytest.fixture
def guide() -> UnifiedNet: return UnifiedNet(1, [TARGETS[1]], WIDTHS, seed=5).eval()


def test_a_guide_is_no_part_of_the_network_that_it_guides(guide):
    net = UnifiedNet(1, [GUIDED], WIDTHS, guide=guide)
    assert list(net.heads) == ["finding"] and net.within == dict(finding="organs")
    alone = UnifiedNet(1, WITHIN, WIDTHS)
    assert set(net.state_dict()) < set(alone.state_dict())
    ids = {id(p) for p in net.parameters()}
    assert not any(id(p) in ids for p in guide.parameters())


def test_a_guide_says_where_a_class_looks(guide, images):
    net, image = UnifiedNet(1, [GUIDED], WIDTHS, guide=guide).eval(), images.clean([0, 1, 2])
    found = net(image)
    features = net.encoder(image)
    wanted = net.heads["finding"](features, guide(image)["organs"])
    assert torch.equal(found["finding"], wanted) and list(found) == ["finding"]
    other = UnifiedNet(1, [GUIDED], WIDTHS, guide=UnifiedNet(1, [TARGETS[1]], WIDTHS, seed=6)).eval()
    assert not torch.allclose(other(image)["finding"], wanted), "another mask, another answer"
    own = UnifiedNet(1, WITHIN, WIDTHS, guide=guide).eval()
    alone = UnifiedNet(1, WITHIN, WIDTHS).eval()
    assert torch.equal(own(image)["finding"], alone(image)["finding"]), "a segmentation of its own comes first"


def test_a_guide_needs_the_segmentation(guide):
    with pytest.raises(ParameterError, match=r"no such segmentation(.|\n)*organs"):
        UnifiedNet(1, [Target("finding", "classification", 2, within="lungs")], WIDTHS, guide=guide)
