"""The multiverse of settings: a balanced design, and networks and settings that follow it."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

from helpers.data import ImageSet
from helpers.evidence import records
from helpers.evidence.recorder import record_run
from helpers.gan import multiverse
from helpers.gan.multiverse import CHOICES, RATES, SPECIFICATIONS, Specification
from helpers.gan.networks import Discriminator
from helpers.gan.settings import Settings
from helpers.gan.systems import allowed_systems, make_trainer

NOISE = torch.rand(120, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
IMAGES = ImageSet("noise", NOISE, torch.arange(120) % 10)


def test_every_pair_of_choices_meets_at_every_pair_of_levels_equally_often():
    rows = np.array(multiverse.design(11))
    assert rows.shape == (12, 11) and (rows.sum(0) == 6).all()
    for one, other in combinations(rows.T, 2):
        assert all(((one == a) & (other == b)).sum() == 3 for a, b in product((0, 1), repeat=2))
    assert [row[:6] for row in multiverse.design(11)] == multiverse.design(6)


def test_specifications_are_the_rows_and_the_centre_is_what_all_else_has():
    assert len(set(SPECIFICATIONS.values())) == 13
    centre, plain = SPECIFICATIONS["centre"], Settings()
    assert centre == Specification()
    assert centre.settings({}) == {name: getattr(plain, name) for name in ("learning_rate", "betas", "batch_size")}
    alike = [make_trainer("gan", IMAGES, specification) for specification in (None, centre)]
    for one, other in zip(*(trainer.discriminator.parameters() for trainer in alike), strict=True):
        assert torch.equal(one, other)
    lowest = SPECIFICATIONS["pb12"].describe()
    assert all(lowest[name] == low for name, (low, _) in CHOICES.items())


def test_another_rate_leaves_a_system_the_rest_of_its_settings():
    own, faster, slower = (make_trainer("wgan", IMAGES, choice) for choice in (None, *reversed(RATES.values())))
    rates = [trainer.settings.learning_rate for trainer in (slower, own, faster)]
    assert rates == pytest.approx([1e-5, 5e-5, 2.5e-4])
    assert replace(faster.settings, learning_rate=own.settings.learning_rate) == own.settings
    assert faster.optimizer_d.param_groups[0]["lr"] == faster.optimizer_g.param_groups[0]["lr"] == rates[2]


@pytest.mark.parametrize("name", multiverse.SYSTEMS)
def test_a_specification_reaches_networks_and_settings(name):
    specification = Specification((32, 16), 0.3, 1e-3, 0.9, 40, True)
    trainer = make_trainer(name, IMAGES, specification, epochs=2)
    settings = trainer.settings
    assert (settings.learning_rate, settings.betas, settings.batch_size) == (1e-3, (0.9, 0.999), 40)
    linear = [layer for layer in trainer.discriminator.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [32, 16, 1]
    dropouts = [layer for layer in trainer.discriminator.layers if isinstance(layer, nn.Dropout)]
    assert [layer.p for layer in dropouts] == [0.3, 0.3]
    assert trainer.fit(progress=False).status == "complete"


@pytest.mark.parametrize("name", ["ebgan", "began", "conv_sn"])
def test_a_discriminator_without_these_options_is_named(name):
    with pytest.raises(ValueError, match=f"system='{name}'; allowed: 'gan', .*'wgan_gp'$"):
        make_trainer(name, IMAGES, SPECIFICATIONS["pb01"])
    assert name in allowed_systems(RATES["rate_fifth"]) and name in allowed_systems()


def test_unit_pixels_are_the_same_pixels_on_another_scale():
    signed, unit = Discriminator(), Discriminator(unit_pixels=True)
    unit.load_state_dict(signed.state_dict())
    assert torch.allclose(unit(NOISE), signed((NOISE + 1) / 2))
    assert not torch.allclose(unit(NOISE), signed(NOISE))


def test_a_run_with_dropout_goes_on_as_if_it_had_never_stopped(tmp_path):
    specification = Specification(d_hidden=(32, 16), d_dropout=0.3, batch_size=40)

    def trainer(epochs):
        return make_trainer("psg_average", IMAGES, specification, epochs=epochs)

    whole = trainer(4).fit(progress=False)
    trainer(2).fit(progress=False, checkpoint=tmp_path / "run")
    torch.manual_seed(99)  # whatever happened in between
    continued = trainer(4).fit(progress=False, checkpoint=tmp_path / "run")
    for column in ("d_loss", "g_loss", "d_grad_norm"):
        assert np.array_equal(whole[column].astype(np.float32), continued[column].astype(np.float32))


def test_a_recorded_specification_lies_apart_and_says_what_it_is(tmp_path):
    folder = record_run("gan", "ring", 0, 1, tmp_path, progress=False, specification="pb03")
    assert folder == tmp_path / "multiverse" / "pb03" / "ring" / "gan" / "seed0"
    (found,) = records.load_runs("gan", "ring", runs=tmp_path / "multiverse" / "pb03")
    assert found.provenance["specification"] == SPECIFICATIONS["pb03"].describe() | {
        "d_hidden": list(SPECIFICATIONS["pb03"].d_hidden)
    }
    assert not (folder / "weights.safetensors").exists()
