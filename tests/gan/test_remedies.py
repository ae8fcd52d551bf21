"""Notebook 07's additions to the loop: minibatch deviation, a head that tells generators apart, learned shares."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from helpers.data import ImageSet
from helpers.evidence import comparison
from helpers.gan.networks import Discriminator, MinibatchStd, count_parameters
from helpers.gan.objectives import GAN, MGAN, PSG
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.measure.judge import Judge, Ruler

REMEDIES = ("gan_std", "psg_std", "sngan_std", "psg_sn_std", "mgan_sn", "mgan_sn_learned", "psg_4_sn")
NOISE = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
IMAGES = ImageSet("noise", NOISE, torch.arange(200) % 10)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- minibatch standard deviation


def test_minibatch_std_by_hand():
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0], [5.0, 9.0]])
    found = MinibatchStd(2)(features)
    assert torch.equal(found[:, :2], features)
    assert found[:, 2].tolist() == pytest.approx([0.5, 0.5, 1.0, 1.0], abs=1e-3)  # (1 + 0)/2 and (0 + 2)/2


def test_a_rest_is_a_group_of_its_own_and_one_sample_has_no_variety():
    features = draw(7, 3)
    found = MinibatchStd(5)(features)
    assert torch.allclose(found[:5], MinibatchStd(5)(features[:5]))
    assert torch.allclose(found[5:], MinibatchStd(2)(features[5:]))
    assert MinibatchStd(5)(features[:1])[0, 3] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", [name for name in REMEDIES if name.endswith("std")])
def test_no_group_of_the_loop_mixes_real_and_fake_or_two_generators(name):
    """What changes in one source's samples must not change a score of another's."""
    trainer = make_trainer(name, IMAGES)
    trainer.discriminator.eval()
    real, count = NOISE[:100], len(trainer.generators)
    batches = [real, *(draw(100, 1, 28, 28, seed=k).tanh() for k in range(count))]
    with torch.no_grad():
        before = trainer.score(torch.cat(batches)).view(1 + count, 100)
        for source in range(1 + count):
            changed = [-batch if place == source else batch for place, batch in enumerate(batches)]
            after = trainer.score(torch.cat(changed)).view(1 + count, 100)
            same = [torch.allclose(after[k], before[k], atol=1e-5) for k in range(1 + count)]
            assert same == [k != source for k in range(1 + count)]


def test_a_group_that_straddles_real_and_fake_would_be_found():
    torch.manual_seed(0)
    straddling = Discriminator(group=40).eval()  # 40 does not divide 100
    real, fake = NOISE[:100], draw(100, 1, 28, 28).tanh()
    with torch.no_grad():
        before, after = (straddling(torch.cat([real, each]))[:100] for each in (fake, -fake))
    assert not torch.allclose(before, after, atol=1e-5)
    assert 100 % 25 == 0 and all(
        layer.group == 25
        for name in REMEDIES
        for layer in SYSTEMS[name].networks((1, 28, 28), 0)[1].layers
        if isinstance(layer, MinibatchStd)
    )


def test_a_discriminator_with_groups_can_see_that_one_digit_is_too_frequent():
    """The same images, varied or repeated: without groups their scores cannot differ."""
    torch.manual_seed(0)
    plain, grouped = Discriminator().eval(), Discriminator(group=25).eval()
    varied, repeated = NOISE[:25], NOISE[:1].expand(25, -1, -1, -1)
    with torch.no_grad():
        assert torch.allclose(plain(varied)[0], plain(repeated)[0], atol=1e-5)
        assert not torch.allclose(grouped(varied)[0], grouped(repeated)[0], atol=1e-3)


# ---- MGAN


def test_mgan_s_losses_by_hand():
    objective = MGAN()
    real, fake = draw(6), draw(2, 6, seed=1)
    expected = softplus(-real) + (softplus(fake[0]) + softplus(fake[1])) / 2
    assert torch.allclose(objective.discriminator_losses(real, fake), expected)
    assert torch.allclose(objective.discriminator_losses(real, fake), PSG().discriminator_losses(real, fake))
    assert torch.equal(objective.generator_losses(fake), softplus(-fake))
    for_d, for_g = objective.weights(real, fake)
    assert torch.equal(for_d, torch.ones(6)) and torch.equal(for_g, torch.full((2, 6), 0.5))
    assert objective.equilibrium(2) == GAN().equilibrium(2)


def test_the_head_s_cross_entropy_against_torch_s_and_at_chance():
    torch.manual_seed(0)
    discriminator, fakes = Discriminator(sources=3), [draw(4, 1, 28, 28, seed=k).tanh() for k in range(3)]
    logits = discriminator.tell_apart(torch.cat(fakes))
    assert logits.shape == (12, 3)
    sources = torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    assert torch.allclose(MGAN().classifier_loss(discriminator, fakes), cross_entropy(logits, sources))
    assert torch.allclose(MGAN(beta=0.5).generator_penalty(discriminator, fakes), 0.5 * cross_entropy(logits, sources))
    assert MGAN(beta=0.0).generator_penalty(discriminator, fakes) is None
    with torch.no_grad():
        discriminator.source_head.weight.zero_(), discriminator.source_head.bias.zero_()
    assert MGAN().classifier_loss(discriminator, fakes).item() == pytest.approx(math.log(3))


def test_the_head_is_trained_and_shares_all_but_its_last_layer():
    torch.manual_seed(0)
    discriminator, images = Discriminator(sources=2), NOISE[:5]
    features = discriminator.layers[:-1](images.flatten(1))
    assert torch.allclose(discriminator(images), discriminator.layers[-1](features).squeeze(1))
    assert torch.allclose(discriminator.tell_apart(images), discriminator.source_head(features))
    assert count_parameters(discriminator) == count_parameters(Discriminator()) + 2 * 256 + 2
    trainer = make_trainer("mgan_sn", IMAGES)
    before = trainer.discriminator.source_head.parametrizations.weight.original.clone()
    trainer.step()
    assert not torch.equal(before, trainer.discriminator.source_head.parametrizations.weight.original)


def test_the_head_sees_what_the_discriminator_sees():
    torch.manual_seed(0)
    signed, unit = Discriminator(sources=2), Discriminator(sources=2, unit_pixels=True)
    unit.load_state_dict(signed.state_dict())
    assert torch.allclose(unit.tell_apart(NOISE), signed.tell_apart((NOISE + 1) / 2))
    conditional, zeros = Discriminator(sources=2, classes=3), torch.zeros(len(NOISE), dtype=torch.int64)
    assert not torch.equal(conditional.tell_apart(NOISE, zeros), conditional.tell_apart(NOISE, zeros + 1))


def test_learned_shares_follow_the_slope_of_the_mixture_s_loss():
    objective, real, fake = MGAN(rate=0.3), draw(8), draw(3, 8, seed=2)
    objective.discriminator_losses(real, fake), setattr(objective, "_told_apart", torch.tensor(0.0))
    logits = torch.zeros(3, requires_grad=True)
    (logits.softmax(0) * softplus(-fake).mean(1)).sum().backward()
    measures = objective.after_step(real, fake)
    expected = (-0.3 * logits.grad).softmax(0)
    assert objective.mixture(3) == pytest.approx(expected.tolist())
    assert [measures[f"share_of_g{k}"].item() for k in (1, 2, 3)] == pytest.approx(expected.tolist())
    best = int(softplus(-fake).mean(1).argmin())
    assert np.argmax(objective.mixture(3)) == best, "whose fakes look real gets more"


def test_equal_shares_stay_equal_and_are_the_default():
    objective, real, fake = MGAN(), draw(8), draw(2, 8, seed=2)
    objective.discriminator_losses(real, fake), setattr(objective, "_told_apart", torch.tensor(0.0))
    objective.after_step(real, fake)
    assert objective.mixture(2) == PSG().mixture(2) == MGAN().mixture(2) == [0.5, 0.5]


@pytest.mark.parametrize("bad", [{"beta": -1}, {"rate": -0.1}, {"rate": math.nan}, {"beta": "1"}])
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}=.*allowed"):
        MGAN(**bad)


# ---- all of them in the loop


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_trains_and_goes_on_as_if_it_had_never_stopped(name, tmp_path):
    def trainer(epochs):
        return make_trainer(name, IMAGES, epochs=epochs, seed=3)

    whole = trainer(3).fit(progress=False)
    trainer(1).fit(progress=False, checkpoint=tmp_path / "run")
    continued = trainer(3).fit(progress=False, checkpoint=tmp_path / "run")
    assert whole.status == continued.status == "complete"
    for column in set(whole.columns) - {"seconds", "epoch"}:
        assert np.array_equal(whole[column].astype(np.float32), continued[column].astype(np.float32)), column


def test_one_generator_s_part_shows_because_each_remedy_has_its_single_counterpart():
    for single, double in (("sngan", "psg_sn"), ("gan_std", "psg_std"), ("sngan_std", "psg_sn_std")):
        (one, d_one), (two, d_two) = (SYSTEMS[name].networks((1, 28, 28), 0) for name in (single, double))
        assert len(one) == 1 and len(two) == 2 and count_parameters(d_one) == count_parameters(d_two)


def test_the_judge_draws_the_mixture_by_its_shares():
    trainer = make_trainer("mgan_sn_learned", IMAGES, epochs=1)
    trainer.fit(progress=False)
    trainer.objective._logits = torch.tensor([math.log(3.0), 0.0])
    judge, seen = Judge.__new__(Judge), []
    judge.ruler = Ruler(lambda samples: seen.append(samples) or {"count": float(len(samples))}, 40)
    judge(trainer, whole_parts=False)
    whole = trainer.sample(count=40, seed=trainer.settings.seed + 2)
    assert torch.equal(seen[0], torch.cat([whole[0][:30], whole[1][:10]]))


def test_the_work_of_a_step_counts_the_head_s_own_passes():
    assert comparison.multiplications("mgan_sn") > 1.2 * comparison.multiplications("psg_sn")
    assert comparison.multiplications("psg_sn_std") == pytest.approx(comparison.multiplications("psg_sn"), rel=1e-3)
