"""Bad input: a ValueError that names the argument, its value and what is allowed, before any training starts."""

import dataclasses
import math
import re
import string
import warnings

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data import ring_of_gaussians
from helpers.device import pick_device
from helpers.gan import objectives
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import EBGAN, GAN
from helpers.gan.systems import make_trainer
from helpers.gan.training import Settings, Trainer
from helpers.reader import session

settings.register_profile("here", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("here")


def refused(name, make):
    """``make()`` has to raise a ValueError that names the argument first and says what is allowed."""
    with pytest.raises(ValueError) as caught:
        make()
    message = str(caught.value)
    assert f", {name}" in f", {message}" and "allowed: " in message, message  # one of several where they disagree
    return message


# ---- settings

texts = st.text(max_size=3)
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), texts, st.binary(max_size=3),
    st.lists(st.integers(), max_size=3), st.dictionaries(texts, st.integers(), max_size=1),
    st.tuples(st.floats(), st.floats()), st.tuples(st.integers(), texts), st.sampled_from([torch.zeros(2), object()]),
)  # fmt: skip


def is_whole(value, least):
    return type(value) is int and value >= least


def is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


FINE = {
    "epochs": lambda value: is_whole(value, 1),
    "batch_size": lambda value: is_whole(value, 1),
    "critic_steps": lambda value: is_whole(value, 1),
    "grid_size": lambda value: is_whole(value, 1),
    "seed": lambda value: is_whole(value, 0) and value < 2**32,
    "optimizer": lambda value: type(value) is str and value in ("adam", "rmsprop"),
    "learning_rate": lambda value: is_number(value) and 0 < value <= 1,
    "betas": lambda value: type(value) is tuple and len(value) == 2 and all(is_number(b) and 0 <= b < 1 for b in value),
    "grid_epochs": lambda value: type(value) is tuple and all(is_whole(e, 0) for e in value),
    "label": lambda value: type(value) is str,
    "cuda_graph": lambda value: type(value) is bool,
}


def test_every_setting_is_covered_here():
    assert FINE.keys() == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("name", FINE)
@given(value=anything)
def test_a_setting_is_taken_exactly_if_it_is_allowed(name, value):
    if FINE[name](value):
        assert getattr(Settings(**{name: value}), name) is value
    else:
        assert refused(f"{name}=", lambda: Settings(**{name: value})).startswith(f"{name}={value!r}; ")


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "epochs": [0, -1, True, 1.0, math.nan, "5", None],
        "batch_size": [0, -100, False, 99.5, None],
        "learning_rate": [0, -1e-4, 1.01, math.nan, math.inf, -math.inf, True, "2e-4", None, 1j],
        "betas": [(1.0, 0.9), (0.5, 1.0), (-0.1, 0.9), (0.5,), (math.nan, 0.9), 0.5, None, "ab", (True, 0.9)],
        "seed": [-1, 2**32, 2**63, 0.5, True, None],
        "grid_epochs": [(-1,), (1.5,), 3, None, "12", (True,)],
        "optimizer": ["sgd", "Adam", None, ["adam"]],
        "cuda_graph": [1, 0, "yes", None],
    }.items(),
)
def test_the_usual_mistakes_in_settings(name, values):
    for value in values:
        assert repr(value) in refused(f"{name}=", lambda value=value: Settings(**{name: value}))


@given(
    epochs=st.integers(1, 2), batch_size=st.integers(5, 20), critic_steps=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1), optimizer=st.sampled_from(["adam", "rmsprop"]),
    learning_rate=st.floats(0, 1, exclude_min=True),
    betas=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    grid_size=st.integers(1, 5), grid_epochs=st.lists(st.integers(0, 3), max_size=3).map(tuple),
)  # fmt: skip
@settings(max_examples=40)
def test_whatever_is_allowed_trains_to_an_end_that_is_named(**allowed):
    trainer = tiny.make(images=tiny.RING.images[:20], width=4, **allowed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a run that diverges
        history = trainer.fit(progress=False)
    assert history.status in ("complete", "diverged")
    assert len(history) == allowed["epochs"] or history.status == "diverged"


# ---- objectives

OPTIONS = {
    (objectives.WGAN, "clip"): lambda value: value > 0,
    (objectives.WGANGP, "weight"): lambda value: value >= 0,
    (objectives.EBGAN, "margin"): lambda value: value > 0,
    (objectives.EBGAN, "pull_away"): lambda value: value >= 0,
    (objectives.MGAN, "beta"): lambda value: value >= 0,
    (objectives.MGAN, "rate"): lambda value: value >= 0,
    (objectives.BEGAN, "gamma"): lambda value: 0 <= value <= 1,
    (objectives.BEGAN, "rate"): lambda value: value >= 0,
    (objectives.LSGAN, "a"): lambda value: value < objectives.LSGAN.b,
    (objectives.LSGAN, "b"): lambda value: value > objectives.LSGAN.a,
    (objectives.LSGAN, "c"): lambda value: True,
}
CHOICES = {
    (objectives.PSG, "fakes"): ("average", "sum"),
    (objectives.PSG, "rule"): ("average", "algorithm1"),
    (objectives.PSG, "per"): ("sample", "batch"),
    (objectives.PSG, "update_d"): ("always", "when_fooled"),
    (objectives.GAN, "minimax"): (True, False),
}


def test_every_option_of_every_objective_is_covered_here():
    found = set()
    for thing in vars(objectives).values():
        if isinstance(thing, type) and issubclass(thing, objectives.Objective):
            found |= {(thing, field.name) for field in dataclasses.fields(thing)}
    assert found == OPTIONS.keys() | CHOICES.keys()


@pytest.mark.parametrize(("objective", "option"), OPTIONS, ids=lambda value: getattr(value, "__name__", value))
@given(value=st.one_of(anything, st.floats(-2, 2)))
def test_an_option_is_taken_exactly_if_it_is_allowed(objective, option, value):
    if is_number(value) and OPTIONS[objective, option](value):
        assert getattr(objective(**{option: value}), option) is value
    else:
        assert repr(value) in refused(f"{option}=", lambda: objective(**{option: value}))


@pytest.mark.parametrize(("objective", "option"), CHOICES, ids=lambda value: getattr(value, "__name__", value))
@given(value=anything)
def test_a_choice_is_taken_exactly_if_it_is_allowed(objective, option, value):
    allowed = CHOICES[objective, option]
    if any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
        objective(**{option: value})
    else:
        message = refused(f"{option}=", lambda: objective(**{option: value}))
        assert all(repr(choice) in message for choice in allowed)


# ---- data


def players(shape=(2,), classes=0, latent_dim=4):
    return [Generator(latent_dim, shape, (8, 8), classes)], Discriminator(shape, (8, 8), classes=classes)


def trainer_for(images, labels=None, classes=0, shape=(2,), objective=None, **options):
    return Trainer(
        *players(shape, classes), objective or GAN(), images, Settings(**({"batch_size": 10} | options)), labels
    )


POINTS = tiny.RING.images[:50]
LABELS = tiny.RING.labels[:50] % 4


@given(count=st.integers(0, 30), batch_size=st.integers(1, 60))
def test_a_batch_larger_than_the_data_is_named(count, batch_size):
    if batch_size <= count:
        trainer_for(POINTS[:count], batch_size=batch_size)
    else:
        message = refused(f"batch_size={batch_size};", lambda: trainer_for(POINTS[:count], batch_size=batch_size))
        assert message.endswith(f"number of images, {count}")


@given(place=st.integers(0, 99), value=st.one_of(st.floats(width=32), st.sampled_from([1.0, -1.0, 1.01, -1.01, 255.0])))
def test_images_out_of_range_are_named(place, value):
    images = POINTS.clone()
    images.view(-1)[place] = value
    if abs(value) <= 1:
        trainer_for(images)
    elif not abs(value) <= 1.001:
        message = refused("images: float", lambda: trainer_for(images))
        assert "allowed: float in [-1, 1] or uint8" in message and (f"{value:.3g}" in message or math.isnan(value))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.cfloat]
)
def test_images_of_another_type_are_named(dtype):
    assert str(dtype) in refused("images: ", lambda: trainer_for(POINTS.to(dtype)))


def test_photographs_in_uint8_are_fine():
    assert trainer_for((POINTS * 100 + 120).to(torch.uint8)).fit(progress=False).status == "complete"


@pytest.mark.parametrize("images", [None, POINTS.numpy(), POINTS.tolist(), ring_of_gaussians(50), "mnist"], ids=type)
def test_images_that_are_no_tensor_are_named(images):
    assert f"images: {type(images).__name__};" in refused("images: ", lambda: trainer_for(images))


@pytest.mark.parametrize("shape", [(), (50,)])
def test_images_without_dimensions_are_named(shape):
    assert str(shape) in refused("images: ", lambda: trainer_for(torch.zeros(shape)))


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
@settings(max_examples=40)
def test_images_of_another_shape_are_named(shape):
    images = torch.zeros(20, *shape)
    if shape == (2,):
        trainer_for(images)
    else:
        message = refused("generator 1 turns", lambda: trainer_for(images))
        assert "into (2, 2)" in message and str((2, *shape)) in message


def test_a_discriminator_for_other_images_is_named():
    generators, _ = players()
    _, discriminator = players((1, 4, 4))
    with pytest.raises(ValueError, match=r"the discriminator cannot take inputs of shape \(2, 2\)"):
        Trainer(generators, discriminator, GAN(), POINTS, Settings(batch_size=10))
    flat = torch.nn.Linear(2, 1)  # gives (N, 1), which would broadcast without a word
    with pytest.raises(ValueError, match=r"the discriminator turns \(2, 2\) into \(2, 1\); allowed: \(2,\)"):
        Trainer(generators, flat, GAN(), POINTS, Settings(batch_size=10))


@pytest.mark.parametrize("empty", [[], (), torch.nn.ModuleList()])
def test_no_generators_are_named(empty):
    message = refused("generators=[]", lambda: Trainer(empty, players()[1], GAN(), POINTS, Settings(batch_size=10)))
    assert "at least one" in message


def test_generators_of_different_latents_are_named():
    generators = players(latent_dim=4)[0] + players(latent_dim=5)[0]
    assert "[4, 5]" in refused(
        "generators", lambda: Trainer(generators, players()[1], GAN(), POINTS, Settings(batch_size=10))
    )


def test_the_trial_before_training_changes_nothing():
    """Batch norm and spectral norm would learn from it, and random numbers would be used up."""
    generators = [
        torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(), torch.nn.Tanh())
    ]
    generators[0].latent_dim = 4
    discriminator = Discriminator((2,), (8, 8), spectral=True)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    norm_before = {name: value.clone() for name, value in generators[0].state_dict().items()}
    random_before = torch.get_rng_state()
    trainer = Trainer(generators, discriminator, GAN(), POINTS, Settings(batch_size=10))
    assert torch.equal(torch.get_rng_state(), random_before)
    assert tiny.same(before, dict(discriminator.state_dict())) and tiny.same(
        norm_before, dict(generators[0].state_dict())
    )
    assert trainer.generators.training and discriminator.training and generators[0][1].training


# ---- labels


@given(place=st.integers(0, 49), value=st.integers(-3, 6))
@settings(max_examples=40)
def test_labels_out_of_range_are_named(place, value):
    labels = LABELS.clone()
    labels[place] = value
    if 0 <= value < 4:
        trainer_for(POINTS, labels, classes=4)
    else:
        message = refused("labels: from ", lambda: trainer_for(POINTS, labels, classes=4))
        assert "0 to 3" in message and str(value) in message


def test_missing_labels_are_named():
    assert "labels from 0 to 3" in refused("labels=None", lambda: trainer_for(POINTS, None, classes=4))


def test_labels_for_networks_without_classes_are_named():
    assert "not conditional" in refused("labels: ", lambda: trainer_for(POINTS, LABELS))


@pytest.mark.parametrize(
    "labels",
    [LABELS[:49], LABELS[:, None], LABELS.float(), LABELS.to(torch.uint8), LABELS.tolist(), LABELS.numpy()],
    ids=["short", "column", "float", "uint8", "list", "numpy"],
)
def test_labels_of_another_form_are_named(labels):
    refused("labels: ", lambda: trainer_for(POINTS, labels, classes=4))


def test_a_discriminator_that_is_not_conditional_is_named_if_it_takes_no_labels():
    generators, _ = players(classes=4)
    plain = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    with pytest.raises((ValueError, TypeError), match="discriminator|positional"):
        Trainer(generators, plain, GAN(), POINTS, Settings(batch_size=10), LABELS)


def test_a_discriminator_that_would_drop_the_labels_is_named():
    networks, options = (players(classes=4)[0], players()[1]), Settings(batch_size=10)
    message = refused("labels: ", lambda: Trainer(*networks, GAN(), POINTS, options, LABELS))
    assert "the discriminator is not conditional" in message


# ---- the rest


@given(name=st.text(alphabet=string.printable, max_size=8))
def test_an_unknown_device_is_named(name):
    if name in ("auto", "cpu") or re.fullmatch(r"cpu(:\d+)?", name):
        return
    message = refused("device=", lambda: pick_device(name))
    assert message.startswith(f"device={name!r} ")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu", "meta", "xla", None, 3.5, -1, "cpu:banana", ["cpu"]])
def test_a_device_that_is_not_there_is_named(device):
    refused(f"device={device!r}", lambda: pick_device(device))
    with pytest.raises(ValueError, match="device="):
        ring_of_gaussians(10, device=device)


@given(name=st.one_of(st.text(max_size=8), st.none(), st.integers()))
def test_an_unknown_profile_is_named(name):
    if name in ("auto", "", *session.PROFILES):
        return
    refused(f"profile={name!r}", lambda: session.choose(quick=1, full=2, profile=name))


def test_an_unknown_profile_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("GAN_PROFILE", "Quick")
    refused("profile='Quick'", lambda: session.choose(quick=1, full=2))


@given(name=st.one_of(st.text(max_size=8), st.none(), st.integers()))
def test_an_unknown_system_is_named(name):
    with pytest.raises(ValueError, match="system=.*allowed: 'gan', "):
        make_trainer(name, tiny.RING)


def test_an_unknown_setting_is_named():
    with pytest.raises(TypeError, match="epoch'"):
        make_trainer("gan", tiny.RING, epoch=3)


@pytest.mark.parametrize(("batch_size", "divides"), [(25, True), (50, True), (20, False), (40, False)])
def test_a_group_that_does_not_divide_the_batch_is_named(batch_size, divides):
    def make():
        discriminator = Discriminator((2,), (8, 8), group=25)
        return Trainer(players()[0], discriminator, GAN(), POINTS, Settings(batch_size=batch_size))

    if divides:
        make()
    else:
        assert "multiples of 25" in refused(f"batch_size={batch_size};", make)


def test_a_batch_too_small_for_the_pulling_away_term_is_named():
    from helpers.gan.networks import AutoEncoder

    networks = players()[0], AutoEncoder((2,), (8, 8), 4)
    with pytest.raises(ValueError, match="batch_size=1; allowed: at least 2"):
        Trainer(*networks, EBGAN(), POINTS, Settings(batch_size=1)).fit(progress=False)
