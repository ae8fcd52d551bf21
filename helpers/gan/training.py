"""The one training loop: any number of generators against one discriminator, under the rules of one objective.

Images and labels come in as tensors, best on the training device already; a History comes out. From top to bottom:
players, the step (the algorithm itself), epochs, samples. What surrounds it lies beside: how to train (``settings``),
what is refused (``checks``), what is watched (``watch``), how a run is continued (``resume``), a step as one CUDA graph
(``graphed``).
"""

import time
from contextlib import nullcontext
from dataclasses import asdict

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.data.images import check_count, to_unit_range
from helpers.device import denormals_as_zero
from helpers.gan import graphed, resume
from helpers.gan.checks import check_data, check_networks
from helpers.gan.history import History
from helpers.gan.objectives import Objective
from helpers.gan.settings import Settings
from helpers.gan.watch import discriminator_measures, grad_norm, named_ending, spread, watch


class Trainer:
    """Holds the players, their optimisers and the random numbers of one run, and trains them.

    generators: K networks with a number ``latent_dim``, latents (N, latent_dim) -> images; the same network twice gives
        it a doubled fake batch
    discriminator: images (N, ...) -> scores (N,)
    images: (N, ...) float in [-1, 1], or uint8 (converted batch by batch)
    labels: (N,) integers, for conditional networks only; they are put beside the images
    device: where to train; by default where the images lie. Images that do not fit there come batch by batch.
    """

    def __init__(
        self,
        generators: list[nn.Module],
        discriminator: nn.Module,
        objective: Objective,
        images: Tensor,
        settings: Settings | None = None,
        labels: Tensor | None = None,
        device: torch.device | str | None = None,
    ):
        settings = settings or Settings()
        check_data(images, labels, settings)
        self.settings, self.objective = settings, objective
        self.images, self.device = images, torch.device(device or images.device)
        self.labels = None if labels is None else labels.to(images.device)
        self.generators = nn.ModuleList(generators).to(self.device)
        self.discriminator = discriminator.to(self.device)
        check_networks(generators, discriminator, images[:2].to(self.device), labels, settings.batch_size)
        self.generators.train(), self.discriminator.train()
        self.latent_dim = generators[0].latent_dim
        self.generator_parameters = list(self.generators.parameters())
        self.optimizer_g = _optimizer(self.generator_parameters, settings)
        self.optimizer_d = _optimizer(list(discriminator.parameters()), settings)

        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        self._order, self._position = None, 0
        self._replayed_step = graphed.ReplayedStep(self) if graphed.can_be_replayed(self) else None
        # The fixed latents have a stream of their own, so that the size of the grid does not change the training.
        fixed = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.fixed_latents = torch.randn(settings.grid_size, self.latent_dim, device=self.device, generator=fixed)
        self.real_spread = spread(to_unit_range(images[:1000].to(self.device)))
        described = asdict(settings) | {"objective": objective.describe(), "generators": len(generators)}
        self.history = History(described)
        if 0 in settings.grid_epochs:
            self.history.grids[0] = self.fixed_samples()

    # ---- the algorithm ---------------------------------------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """One training step: ``critic_steps`` discriminator steps, then one step of the generators."""
        for remaining in reversed(range(self.settings.critic_steps)):
            real, labels = self.next_batch()
            with torch.set_grad_enabled(remaining == 0):  # only the last fakes also serve the generators
                fakes = self.generate(len(real), labels)
            seen, measures = self.discriminator_step(real, fakes, labels)
        measures |= self.generator_step(fakes, seen, labels)
        return measures

    def discriminator_step(self, real, fakes, labels=None):
        """Update the discriminator on a real batch and K batches of fakes.

        Returns the scores it gave before the update, (B,) and (K, B), and the step's measures.
        """
        objective, count = self.objective, len(real)
        fakes = [fake.detach() for fake in fakes]
        scores = self.score(torch.cat([real, *fakes]), labels)
        real_scores, fake_scores = scores[:count], scores[count:].view(len(fakes), count)
        with torch.no_grad():
            weight, _ = objective.weights(real_scores, fake_scores)
        losses = objective.discriminator_losses(real_scores, fake_scores)
        loss, reported = (weight * losses).mean(), losses.detach().mean()
        penalty = objective.discriminator_penalty(lambda x: self.score(x, labels), real, fakes, self.rng)
        if penalty is not None:
            loss, reported = loss + penalty, reported + penalty.detach()
        lesson = objective.classifier_loss(self.discriminator, fakes)
        if lesson is not None:
            loss = loss + lesson

        self.optimizer_d.zero_grad()
        loss.backward()
        if not (objective.may_skip_players and not weight.any()):
            self.optimizer_d.step()
            objective.after_discriminator_step(self.discriminator)
        seen = real_scores.detach(), fake_scores.detach()
        return seen, discriminator_measures(objective, *seen) | {"d_loss": reported}

    def generator_step(self, fakes, seen, labels=None) -> dict[str, Tensor]:
        """Update the generators through the discriminator, which stays as it is.

        fakes: K batches with their graphs; seen: the scores that the discriminator gave these tuples before its update.
        """
        objective = self.objective
        scores = self.score(torch.cat(fakes), labels).view(len(fakes), -1)
        _, weights = objective.weights(*seen)
        losses = objective.generator_losses(scores)
        loss = (weights * losses).sum(0).mean()
        penalty = objective.generator_penalty(self.discriminator, fakes)
        if penalty is not None:
            loss = loss + penalty

        self.optimizer_g.zero_grad()
        loss.backward(inputs=self.generator_parameters)  # no gradients for the discriminator's weights
        if objective.may_skip_players:  # with a zero gradient Adam's momentum would still move a player
            plays = zip(self.generators, weights.any(1).tolist(), strict=True)
            for generator in set(self.generators) - {one for one, takes_part in plays if takes_part}:
                generator.zero_grad()
        self.optimizer_g.step()
        each = losses.detach().mean(1)
        measures = {"g_loss": each.mean()} | {f"g{k}_loss": value for k, value in enumerate(each, 1)}
        return measures | objective.after_step(*seen)

    def score(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The discriminator's scores; labels of one batch are repeated for the batches of fakes that follow it."""
        if labels is None:
            return self.discriminator(images)
        return self.discriminator(images, labels.repeat(len(images) // len(labels)))

    def generate(self, count: int, labels: Tensor | None = None) -> list[Tensor]:
        """A batch of ``count`` fakes from each generator, each from latents of its own."""
        latents = torch.randn(len(self.generators), count, self.latent_dim, device=self.device, generator=self.rng)
        if labels is None:
            return [generator(latent) for generator, latent in zip(self.generators, latents, strict=True)]
        return [generator(latent, labels) for generator, latent in zip(self.generators, latents, strict=True)]

    def next_batch(self) -> tuple[Tensor, Tensor | None]:
        """The next batch in random order; every image comes once before any comes again (a short rest is left out)."""
        size = self.settings.batch_size
        if self._order is None or self._position + size > len(self._order):
            self.shuffle()
        index = self._order[self._position : self._position + size]
        self._position += size
        images = self.images.index_select(0, index).to(self.device)  # index_select: twice as fast as images[index]
        return to_unit_range(images), None if self.labels is None else self.labels[index].to(self.device)

    def shuffle(self) -> None:
        """Put the images into a new random order and go to its start."""
        order = torch.randperm(len(self.images), device=self.device, generator=self.rng)
        self._order, self._position = order.to(self.images.device), 0

    # ---- epochs ----------------------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        return max(len(self.images) // self.settings.batch_size // self.settings.critic_steps, 1)

    @property
    def take_step(self):
        """``step``, or on CUDA with ``cuda_graph`` the same thing launched as a whole."""
        return self._replayed_step or self.step

    @denormals_as_zero()
    def run_epoch(self, after_each_step=lambda: None) -> dict[str, float]:
        """Train for one epoch and append its row, the means over its steps, to the history."""
        start, total = time.perf_counter(), None
        # An epoch starts with a fresh order and in training mode, wherever Ctrl-C or a callback left the last one.
        self._order = None
        self.generators.train(), self.discriminator.train()
        norms = []
        for step in range(self.steps_per_epoch):
            measures = self.take_step()
            values = torch.stack(list(measures.values()))
            total = values if total is None else total + values
            if step % 10 == 0:  # a norm over all gradients is too dear to take at every step
                norms.append(torch.stack([grad_norm(self.discriminator), grad_norm(self.generators)]))
            after_each_step()
        samples = self.sample(latents=self.fixed_latents)
        row = dict(zip(measures, (total / self.steps_per_epoch).tolist(), strict=True))
        row["d_grad_norm"], row["g_grad_norm"] = torch.stack(norms).mean(0).tolist()
        row["diversity"] = (spread(samples.flatten(0, 1)) / self.real_spread).item()
        row = {"epoch": len(self.history) + 1, **row, "seconds": time.perf_counter() - start}
        if row["epoch"] in self.settings.grid_epochs:
            self.history.grids[row["epoch"]] = self.fixed_samples()
        self.history.rows.append(row)  # last, so that an epoch that Ctrl-C finds in the history is whole
        watch(self)
        return row

    def fit(self, progress: bool = True, on_epoch=None, checkpoint=None, every: int = 1) -> History:
        """Train until ``settings.epochs`` epochs are done; ``on_epoch(trainer)`` is called after each.

        checkpoint: path of a file that is written after each ``every`` epochs. Where it is there already, training
        continues from it, on the same device bit by bit as if it had never stopped; CheckpointError if it belongs to
        another training.
        Ctrl-C (or the notebook's stop button) ends it early and keeps every finished epoch. NaN stops it and is named.
        """
        check_count("every", every)
        with nullcontext() if checkpoint is None else resume.resumed(self, checkpoint):
            if self.history.status == "diverged":
                return self.history
            steps = (self.settings.epochs - len(self.history)) * self.steps_per_epoch
            bar = tqdm(total=steps, desc=self.history.label, unit="step", disable=not progress)
            with bar, named_ending(self):
                while len(self.history) < self.settings.epochs and self.history.status == "running":
                    row = self.run_epoch(bar.update)
                    bar.set_postfix(epoch=row["epoch"], D=f"{row['d_loss']:.3f}", G=f"{row['g_loss']:.3f}")
                    if on_epoch is not None:
                        on_epoch(self)
                    if checkpoint is not None:
                        resume.save_if_due(self, checkpoint, every)
        return self.history

    # ---- looking at it ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, count: int = 64, seed: int = 0, latents=None, labels=None) -> Tensor:
        """Samples of every generator from the same latents: (K, count, ...) in [-1, 1]."""
        if latents is None:
            rng = torch.Generator(self.device).manual_seed(seed)
            latents = torch.randn(count, self.latent_dim, device=self.device, generator=rng)
        if self.labels is not None and labels is None:  # conditional: every class in turn
            labels = torch.arange(len(latents), device=self.device) % (int(self.labels.max()) + 1)
        inputs = (latents,) if labels is None else (latents, labels)
        self.generators.eval()
        samples = torch.stack([generator(*inputs) for generator in self.generators])
        self.generators.train()
        return samples

    def fixed_samples(self):
        """Samples of the fixed latents as a numpy array: uint8 for images, float32 for points."""
        samples = self.sample(latents=self.fixed_latents)
        if samples.ndim > 3:
            samples = ((samples + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return samples.cpu().numpy()

    def state_dict(self) -> dict:
        """Everything that the next epoch depends on, as tensors and plain values."""
        return resume.training_state(self)

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s answer; ValueError unless settings, networks and images agree.

        On another device it goes on with other random numbers, and a warning says so.
        """
        resume.restore(self, state)


def train(generators, discriminator, objective, images, settings=None, labels=None, **fit) -> History:
    """Train and return the history: ``Trainer(...).fit(...)`` in one call, when the trainer itself is not needed."""
    return Trainer(generators, discriminator, objective, images, settings, labels).fit(**fit)


def _optimizer(parameters, settings: Settings):
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, settings.betas, fused=True)
    return torch.optim.RMSprop(parameters, settings.learning_rate, foreach=True)
