"""The slope that G feels: arrows lead to lower loss in every game, panels share one scale, looking changes nothing."""

import pytest
import torch
from matplotlib.colors import LogNorm

from helpers.data import ring_of_gaussians
from helpers.draw import figures, slopes
from helpers.gan import objectives
from helpers.gan.networks import AutoEncoder, Discriminator, Generator
from helpers.gan.settings import Settings
from helpers.gan.training import Trainer
from helpers.measure.quality import felt_slopes, score_slope

RING = ring_of_gaussians(500, std=0.04)
GAMES = {
    "GAN": objectives.GAN(),
    "minimax": objectives.GAN(minimax=True),
    "PSG": objectives.PSG(rule="algorithm1"),
    "hinge": objectives.Hinge(),
    "LSGAN": objectives.LSGAN(),
    "WGAN": objectives.WGAN(),
    "WGAN-GP": objectives.WGANGP(),
    "EBGAN": objectives.EBGAN(),
    "BEGAN": objectives.BEGAN(),
}


def toy_trainer(objective=None, count=1, spectral=False, group=0) -> Trainer:
    torch.manual_seed(0)
    objective = objective or objectives.GAN()
    energy = objective.is_energy
    discriminator = (
        AutoEncoder((2,), (16, 16), 4) if energy else Discriminator((2,), (16, 16), spectral=spectral, group=group)
    )
    generators = [Generator(2, (2,), (16, 16)) for _ in range(count)]
    return Trainer(generators, discriminator, objective, RING.images, Settings(learning_rate=1e-3))


def arrows_of(ax):
    (arrows,) = (each for each in ax.collections if hasattr(each, "U"))
    return arrows


@pytest.mark.parametrize("name", GAMES)
def test_along_the_slope_the_loss_falls_as_fast_as_its_length_says(name):
    trainer = toy_trainer(GAMES[name])
    for _ in range(5):
        trainer.step()
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).double()
    score, objective = trainer.discriminator.double(), trainer.objective
    slope = felt_slopes(score, objective, points)
    length, step = slope.norm(dim=1), 1e-6
    with torch.no_grad():
        here, there = (objective.generator_losses(score(x)[None])[0]
                       for x in (points, points + step * slope / length[:, None]))  # fmt: skip
    torch.testing.assert_close((here - there) / step, length, rtol=1e-3, atol=1e-6)


def test_of_a_critic_it_is_the_slope_of_the_score():
    trainer = toy_trainer(objectives.WGAN())
    moment = slopes.Snapshot.of(trainer)
    wanted = score_slope(trainer.discriminator, moment.fakes[0])
    assert moment.mean_slope() == pytest.approx(wanted, rel=1e-5)


def test_arrows_agree_where_d_sends_all_fakes_to_one_place():
    class Peak(Discriminator):
        def __init__(self, centre):
            super().__init__((2,), (4, 4))
            self.centre = torch.tensor(centre)

        def forward(self, points, labels=None):
            return -(points - self.centre).norm(dim=1)

    fakes = 0.1 * torch.randn(2, 500, 2, generator=torch.Generator().manual_seed(0))
    far, amid = (slopes.Snapshot(Peak(centre), objectives.Hinge(), fakes) for centre in ([9.0, 0.0], [0.0, 0.0]))
    assert far.agreement() > 0.99 and amid.agreement() < 0.1
    assert far.mean_slope() == pytest.approx(1) == amid.mean_slope()


def test_where_d_sees_groups_a_place_is_judged_among_fakes_and_not_among_its_neighbours():
    moment = slopes.Snapshot.of(toy_trainer(objectives.PSG(), 2, group=4), count=10)
    places = torch.rand(6, 2) - 0.5
    score, by_hand = moment.discriminator, []
    for place in places:
        leads = [torch.cat([place[None], fakes[:3]]).requires_grad_() for fakes in moment.fakes]
        losses = [moment.objective.generator_losses(score(group)[None]).sum() for group in leads]
        felt = [-torch.autograd.grad(loss, group)[0][0] for loss, group in zip(losses, leads, strict=True)]
        by_hand.append(torch.stack(felt).mean(0))
    torch.testing.assert_close(moment.slopes(places), torch.stack(by_hand))
    torch.testing.assert_close(moment.scores(places)[1, 2], score(torch.cat([places[2:3], moment.fakes[1, :3]])))


def test_fakes_are_judged_in_whole_groups_of_one_generator():
    moment = slopes.Snapshot.of(toy_trainer(objectives.PSG(), 2, group=4), count=10)
    groups = (moment.fakes[k, start : start + 4] for k in range(2) for start in (0, 4))
    felt = torch.cat([felt_slopes(moment.discriminator, moment.objective, group) for group in groups])
    torch.testing.assert_close(moment.slopes_at_fakes().flatten(0, 1), felt)
    assert moment.mean_slope() == pytest.approx(felt.norm(dim=1).mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="3 fakes of each generator; allowed: a group of 4 or more"):
        slopes.Snapshot(moment.discriminator, moment.objective, moment.fakes[:, :3])


def test_images_keep_their_shape_and_their_graph():
    images = torch.rand(3, 1, 4, 4, requires_grad=True)
    slope = felt_slopes(lambda x: x.flatten(1).sum(1), objectives.Hinge(), images)
    torch.testing.assert_close(slope, torch.ones(3, 1, 4, 4))  # the hinge game's G wants the score up, whatever it is
    assert images.grad is None


def test_a_snapshot_stays_when_the_game_goes_on():
    trainer = toy_trainer(spectral=True)
    trainer.step()
    moment = slopes.Snapshot.of(trainer)
    before = moment.mean_slope(), moment.fakes.clone()
    for _ in range(5):
        trainer.step()
    assert moment.mean_slope() == before[0] and torch.equal(moment.fakes, before[1])
    assert slopes.Snapshot.of(trainer).mean_slope() != before[0]


def test_looking_changes_nothing():
    trainer = toy_trainer(spectral=True)
    state = {name: value.clone() for name, value in trainer.discriminator.state_dict().items()}
    first = figures.to_png(slopes.slope_fields({"a": trainer}, "t", RING.images))
    assert figures.to_png(slopes.slope_fields({"a": trainer}, "t", RING.images)) == first
    assert all(torch.equal(state[name], value) for name, value in trainer.discriminator.state_dict().items())
    assert trainer.discriminator.training and all(p.grad is None for p in trainer.discriminator.parameters())


@pytest.mark.parametrize("name", GAMES)
def test_every_game_can_be_drawn(name):
    fig = slopes.slope_fields({"{slope}": toy_trainer(GAMES[name])}, "t", RING.images)
    assert fig.axes[0].get_title() == "under 0.001" or float(fig.axes[0].get_title().replace(",", "")) > 0
    assert figures.to_png(fig).startswith(b"\x89PNG")


def test_panels_share_one_scale_and_one_bar():
    soft, steep = toy_trainer(), toy_trainer()
    with torch.no_grad():
        steep.discriminator.layers[-1].weight.mul_(10)
    fig = slopes.slope_fields({"soft": soft, "steep": steep}, "t", RING.images, columns=2)
    first, second = (arrows_of(ax) for ax in fig.axes[:2])
    assert first.norm is second.norm and len(fig.axes) == 3
    assert second.get_array().max() > 5 * first.get_array().max()
    drawn = [(arrows.U**2 + arrows.V**2).max() for arrows in (first, second)]
    assert drawn[1] > drawn[0], "the length of an arrow repeats its colour"
    limited = slopes.slope_fields({"soft": soft}, "t", RING.images, limits=(0.01, 10.0))
    assert (arrows_of(limited.axes[0]).norm.vmin, arrows_of(limited.axes[0]).norm.vmax) == (0.01, 10.0)


def test_each_generator_has_a_mark_and_a_name_of_its_own():
    fig = slopes.slope_fields({"four": toy_trainer(objectives.PSG(), 4)}, "t", RING.images)
    named = {each.get_label(): each for each in fig.axes[0].collections if "fakes" in str(each.get_label())}
    assert list(named) == [f"fakes of G{k}" for k in (1, 2, 3, 4)]
    assert len({str(each.get_paths()[0].vertices.tolist()) for each in named.values()}) == 4
    assert len({str(each.get_facecolor()) for each in named.values()}) == 4


def test_the_light_places_are_those_that_d_finds_real_also_where_it_gives_energies():
    def light_at_the_right(score, objective):
        trainer = toy_trainer(objective)
        trainer.discriminator.forward = score
        fig, ax = figures.new_figure()
        slopes.slope_field(ax, slopes.Snapshot.of(trainer), "t", RING.images, LogNorm(0.1, 1))
        ranks = ax.images[0].get_array()
        return ranks[:, -1].min() > ranks[:, 0].max()

    assert light_at_the_right(lambda x: x[:, 0], objectives.GAN())
    assert light_at_the_right(lambda x: -x[:, 0], objectives.BEGAN())
