"""A step that is recorded and replayed trains bit by bit as the plain one: on an emulation, and on CUDA where it is."""

import sys

import pytest
import tiny
import torch
from graph_replay import EmulatedCuda

from helpers.data import ImageSet
from helpers.gan import objectives
from helpers.gan.graphed import PLAIN_STEPS, ReplayedStep, can_be_replayed, steps_are_alike
from helpers.gan.systems import SYSTEMS, make_trainer


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    torch.set_num_threads(1)
    # Emulated, an optimiser may count its steps on the CPU "inside the graph".
    module = sys.modules[torch.optim.RMSprop.__module__]
    monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])


def images_for(name: str) -> ImageSet:
    if not name.startswith("conv"):
        return ImageSet("ring", tiny.RING.images[:120], tiny.RING.labels[:120])
    pixels = torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    return ImageSet("noise", pixels * 2 - 1, torch.zeros(20, dtype=torch.int64))


def size_for(name: str) -> int:
    return 2 if name.startswith("conv") else 25 if name.endswith("_std") else 4  # 25: one group


def make(name: str, epochs: int = 3, **settings):
    options = {"batch_size": size_for(name), "grid_size": 4, "grid_epochs": (0, 2), "seed": 3} | settings
    return make_trainer(name, images_for(name), epochs=epochs, **options)


def replayed(trainer):
    trainer._replayed_step = ReplayedStep(trainer, EmulatedCuda())
    return trainer


def outcome(trainer) -> dict:
    """What a run ends with; that its optimisers could be captured is no part of it."""
    found = tiny.outcome(trainer)
    for optimizer in ("optimizer_g", "optimizer_d"):
        for group in found[optimizer]["param_groups"]:
            group.pop("capturable")
    return found


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "psg_algorithm1_batch"])
def test_every_system_is_replayed_bit_by_bit(name):
    plain, fast = make(name), replayed(make(name))
    plain.fit(progress=False), fast.fit(progress=False)
    assert fast._replayed_step.graph is not None and 3 * fast.steps_per_epoch > PLAIN_STEPS
    assert tiny.same(outcome(plain), outcome(fast))


def test_steps_that_python_decides_are_not_recorded():
    assert not steps_are_alike(make("psg_algorithm1_batch")), "who takes part is another question in every step"
    assert not steps_are_alike(make("wgan", batch_size=30)), "five batches of 30 do not fit into 120 images"
    assert steps_are_alike(make("wgan", batch_size=20))
    assert not can_be_replayed(make("gan", cuda_graph=True)), "this is no GPU"


def test_a_replay_goes_on_from_a_checkpoint_and_a_checkpoint_from_a_replay(tmp_path):
    undisturbed = make("began", epochs=6)
    undisturbed.fit(progress=False)
    replayed(make("began", epochs=2)).fit(progress=False, checkpoint=tmp_path / "run")
    make("began", epochs=4).fit(progress=False, checkpoint=tmp_path / "run")
    last = replayed(make("began", epochs=6))
    last.fit(progress=False, checkpoint=tmp_path / "run")
    assert tiny.same(outcome(undisturbed), outcome(last))
    make("began", epochs=7, cuda_graph=True).fit(progress=False, checkpoint=tmp_path / "run")  # is not refused


def changed_rate(trainer):
    trainer.optimizer_d.param_groups[0]["lr"] *= 3


def changed_rules(trainer):
    trainer.objective = objectives.GAN(minimax=True)


def replaced_state(trainer):
    other = make("gan", seed=5, epochs=9)
    trainer.discriminator.load_state_dict(other.discriminator.state_dict())
    trainer.optimizer_d.load_state_dict(trainer.optimizer_d.state_dict())


@pytest.mark.parametrize("change", [changed_rate, changed_rules, replaced_state])
def test_what_is_changed_between_epochs_counts(change):
    plain, fast = make("gan", epochs=4), replayed(make("gan", epochs=4))
    for trainer in (plain, fast):
        trainer.fit(progress=False, on_epoch=lambda trainer: change(trainer) if len(trainer.history) == 2 else None)
    assert tiny.same(outcome(plain), outcome(fast))


def test_a_callback_that_samples_changes_nothing():
    plain, fast = make("psg_average"), replayed(make("psg_average"))
    plain.fit(progress=False)
    fast.fit(progress=False, on_epoch=lambda trainer: (trainer.sample(3, seed=9), trainer.fixed_samples()))
    assert tiny.same(outcome(plain), outcome(fast))


# ---- what would go wrong


def test_the_emulation_shows_what_recording_without_care_does():
    """The step as it is takes its batch by a slice that Python moves: a replay takes the same batch for ever."""
    plain, careless = make("gan", epochs=1), make("gan", epochs=1)
    careless.shuffle()
    for _ in range(2):
        plain.step(), careless.step()
    asked, take = [], careless.next_batch
    careless.next_batch = lambda: (asked.append(1), take())[1]
    graph, _ = EmulatedCuda().record(careless.step, careless.rng)
    for _ in range(3):
        graph.replay()
        plain.step()
    assert len(asked) == 1, "no Python runs in a replay"
    assert not torch.equal(plain.sample(4), careless.sample(4))


class ForgetfulBEGAN(objectives.BEGAN):
    def after_step(self, real, fake):
        self.k = self.k + 0.01  # a new tensor, which no replay sees
        return {"k": self.k}


def test_an_objective_that_remembers_outside_its_tensors_is_noticed_by_the_test():
    plain, fast = make("began", epochs=1), make("began", epochs=1)
    for trainer in (plain, fast):
        trainer.objective = ForgetfulBEGAN()
    replayed(fast)
    plain.fit(progress=False), fast.fit(progress=False)
    assert not tiny.same(outcome(plain), outcome(fast))


class Reading(objectives.GAN):
    def generator_losses(self, fake):
        return super().generator_losses(fake) * (1 if fake.mean().item() > 0 else 2)


class Foreign(objectives.GAN):
    def discriminator_losses(self, real, fake):
        return super().discriminator_losses(real, fake) + 0 * torch.rand(1, generator=torch.Generator())


@pytest.mark.parametrize(("objective", "why"), [(Reading, "a value is read"), (Foreign, "not registered")])
def test_a_step_that_cannot_be_recorded_is_named_with_the_remedy(objective, why):
    trainer = make("gan")
    trainer.objective = objective()
    with pytest.raises(RuntimeError, match=f"cannot be a CUDA graph .*{why}.*train with cuda_graph=False"):
        replayed(trainer).fit(progress=False)


# ---- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", SYSTEMS)
def test_on_a_gpu_the_graph_trains_as_the_plain_loop(name):
    def trained(cuda_graph):
        torch.use_deterministic_algorithms(True, warn_only=True)
        images = images_for(name)
        images = ImageSet(images.name, images.images.cuda(), images.labels.cuda())
        options = {"epochs": 3, "batch_size": size_for(name), "grid_size": 4, "seed": 3}
        trainer = make_trainer(name, images, cuda_graph=cuda_graph, **options)
        trainer.fit(progress=False)
        return trainer

    plain, fast = trained(False), trained(True)
    assert (fast._replayed_step is None) == (name == "psg_algorithm1_batch")
    found = [outcome(trainer) for trainer in (plain, fast)]
    for each in found:
        del each["settings"]["cuda_graph"], each["history"]["settings"]["cuda_graph"]
    assert tiny.same(*found)
