"""The one training loop: any number of generators against one discriminator, under the rules of one objective.

Images and labels come in as tensors, best on the training device already; a History comes out. To see the algorithm
itself, read ``Trainer.step``, ``discriminator_step`` and ``generator_step``.
"""

import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.checkpoints import CheckpointError, resumed, save_checkpoint
from helpers.history import History
from helpers.objectives import Objective

# A discriminator has won when its loss stays under this share of its equilibrium value; samples have collapsed when
# they differ from each other by less than this share of what real images do. Both must last for PATIENCE epochs.
WON_SHARE, COLLAPSED_SHARE, PATIENCE = 0.02, 0.05, 5


@contextmanager
def _denormals_as_zero():
    """Let this thread's CPU take numbers below 1e-38 as zero.

    Adam's averages of a weight that no longer learns decay into that range and stay there for many epochs, and a CPU
    is slow with such numbers. They are too small to change a weight: a long run of Algorithm 1 that was continued
    with and without this had the same losses and weights to the last bit.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(frozen=True)
class Settings:
    """How to train. The sources give none of these numbers; they are the usual ones for a GAN of this size.

    An epoch shows the discriminator every image once. With ``critic_steps`` > 1 each of its steps takes a new batch, so
    that the generators take that many times fewer steps.
    """

    epochs: int = 5
    batch_size: int = 100
    critic_steps: int = 1  # discriminator steps per generator step
    optimizer: str = "adam"  # or "rmsprop"
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)  # Adam's
    seed: int = 0  # of batch order and latents; networks are drawn before, under torch.manual_seed
    grid_epochs: tuple[int, ...] = ()  # epochs after which samples of fixed latents are kept; 0 = before training
    grid_size: int = 64
    label: str = ""  # the name in figures

    def __post_init__(self):
        def check(name, fine, allowed):
            if not fine:
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: {allowed}")

        def whole(value, least):
            return isinstance(value, int) and not isinstance(value, bool) and value >= least

        def number(value):
            return isinstance(value, (int, float)) and not isinstance(value, bool)

        for name in ("epochs", "batch_size", "critic_steps", "grid_size"):
            check(name, whole(getattr(self, name), 1), "a whole number of at least 1")
        check("seed", whole(self.seed, 0) and self.seed < 2**63, "a whole number from 0 to 2**63 - 1")
        check("optimizer", self.optimizer in ("adam", "rmsprop"), "'adam', 'rmsprop'")
        check("learning_rate", number(self.learning_rate) and 0 < self.learning_rate <= 1, "a number in (0, 1]")
        betas = isinstance(self.betas, tuple) and len(self.betas) == 2
        check("betas", betas and all(number(b) and 0 <= b < 1 for b in self.betas), "a tuple of two numbers in [0, 1)")
        epochs = isinstance(self.grid_epochs, tuple) and all(whole(e, 0) for e in self.grid_epochs)
        check("grid_epochs", epochs, "a tuple of whole numbers of at least 0")
        check("label", isinstance(self.label, str), "a text")


class Trainer:
    """Holds the players, their optimisers and the random numbers of one run, and trains them.

    generators: K networks, latents (N, latent_dim) -> images; the same network twice gives it a doubled fake batch
    discriminator: images (N, ...) -> scores (N,)
    images: (N, ...) float in [-1, 1], or uint8 (converted batch by batch)
    labels: (N,) integers on the images' device, for conditional networks only
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
        _check_data(images, labels, settings)
        self.settings, self.objective = settings, objective
        self.images, self.labels, self.device = images, labels, torch.device(device or images.device)
        self.generators = nn.ModuleList(generators).to(self.device)
        self.discriminator = discriminator.to(self.device)
        _check_networks(generators, discriminator, images[:2].to(self.device), labels)
        self.generators.train(), self.discriminator.train()
        self.latent_dim = generators[0].latent_dim
        self.generator_parameters = list(self.generators.parameters())
        self.optimizer_g = _optimizer(self.generator_parameters, settings)
        self.optimizer_d = _optimizer(list(discriminator.parameters()), settings)

        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        self._order, self._position = None, 0
        # The fixed latents have a stream of their own, so that the size of the grid does not change the training.
        fixed = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.fixed_latents = torch.randn(settings.grid_size, self.latent_dim, device=self.device, generator=fixed)
        self._real_spread = _spread(to_unit_range(images[:1000].to(self.device)))
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

        self.optimizer_d.zero_grad()
        loss.backward()
        if not (objective.may_skip_players and not weight.any()):
            self.optimizer_d.step()
            objective.after_discriminator_step(self.discriminator)
        seen = real_scores.detach(), fake_scores.detach()
        return seen, self._discriminator_measures(*seen) | {"d_loss": reported}

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
            for generator, weight in zip(self.generators, weights, strict=True):
                if not weight.any():
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
            order = torch.randperm(len(self.images), device=self.device, generator=self.rng)
            self._order, self._position = order.to(self.images.device), 0
        index = self._order[self._position : self._position + size]
        self._position += size
        images = self.images.index_select(0, index).to(self.device)  # index_select: twice as fast as images[index]
        return to_unit_range(images), None if self.labels is None else self.labels[index].to(self.device)

    # ---- epochs ----------------------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        return max(len(self.images) // self.settings.batch_size // self.settings.critic_steps, 1)

    @_denormals_as_zero()
    def run_epoch(self, after_each_step=lambda: None) -> dict[str, float]:
        """Train for one epoch and append its row, the means over its steps, to the history."""
        start, total = time.perf_counter(), None
        # An epoch starts with a fresh order and in training mode, wherever Ctrl-C or a callback left the last one.
        self._order = None
        self.generators.train(), self.discriminator.train()
        norms = []
        for step in range(self.steps_per_epoch):
            measures = self.step()
            values = torch.stack(list(measures.values()))
            total = values if total is None else total + values
            if step % 10 == 0:  # a norm over all gradients is too dear to take at every step
                norms.append(torch.stack([_grad_norm(self.discriminator), _grad_norm(self.generators)]))
            after_each_step()
        samples = self.sample(latents=self.fixed_latents)
        row = dict(zip(measures, (total / self.steps_per_epoch).tolist(), strict=True))
        row["d_grad_norm"], row["g_grad_norm"] = torch.stack(norms).mean(0).tolist()
        row["diversity"] = (_spread(samples.flatten(0, 1)) / self._real_spread).item()
        row = {"epoch": len(self.history) + 1, **row, "seconds": time.perf_counter() - start}
        if row["epoch"] in self.settings.grid_epochs:
            self.history.grids[row["epoch"]] = self.fixed_samples()
        self.history.rows.append(row)  # last, so that an epoch that Ctrl-C finds in the history is whole
        self._watch()
        return row

    def fit(self, progress: bool = True, on_epoch=None, checkpoint=None, every: int = 1) -> History:
        """Train until ``settings.epochs`` epochs are done; ``on_epoch(trainer)`` is called after each.

        checkpoint: path of a file that is written after each ``every`` epochs. Where it is there already, training
        continues from it, bit by bit as if it had never stopped; CheckpointError if it belongs to another training.
        Ctrl-C (or the notebook's stop button) ends it early and keeps every finished epoch. NaN stops it and is named.
        """
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every={every!r}; allowed: a whole number of at least 1")
        with nullcontext() if checkpoint is None else resumed(self, checkpoint):
            if self.history.status == "diverged":
                return self.history
            self.history.status = "running"
            todo = self.settings.epochs - len(self.history)
            bar = tqdm(total=todo * self.steps_per_epoch, desc=self.history.label, unit="step", disable=not progress)
            try:
                with bar:
                    while len(self.history) < self.settings.epochs and self.history.status == "running":
                        row = self.run_epoch(bar.update)
                        bar.set_postfix(epoch=row["epoch"], D=f"{row['d_loss']:.3f}", G=f"{row['g_loss']:.3f}")
                        if on_epoch is not None:
                            on_epoch(self)
                        if checkpoint is not None:
                            self._save(checkpoint, every)
                if self.history.status == "running":
                    self.history.status = "complete"
            except KeyboardInterrupt:
                pass
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                    raise torch.OutOfMemoryError(self._memory_advice(error)) from error
                raise
            finally:
                if self.history.status == "running":
                    self.history.status = "interrupted"
        return self.history

    def _memory_advice(self, error: RuntimeError) -> str:
        size = self.settings.batch_size
        remedy = f"batch_size={size // 2}" if size > 1 else "a smaller network"
        return f"batch_size={size} does not fit into the memory of {self.device}; try {remedy} ({error})"

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

    @torch.no_grad()
    def _discriminator_measures(self, real, fake) -> dict[str, Tensor]:
        objective = self.objective
        # x wins a tuple when D finds it more real than every fake beside it.
        wins = real < fake.amin(0) if objective.is_energy else real > fake.amax(0)
        measures = {
            "real_score": real.mean(),
            "fake_score": fake.mean(),
            "pick_accuracy": wins.float().mean(),
        }
        if objective.is_probability:
            measures |= {"d_real": real.sigmoid().mean(), "d_fake": fake.sigmoid().mean()}
        if objective.threshold is not None:
            measures["accuracy_real"] = (real > objective.threshold).float().mean()
            measures["accuracy_fake"] = (fake <= objective.threshold).float().mean()
        return measures

    def _watch(self) -> None:
        """Name what goes wrong: NaN ends the run, a discriminator that has won and collapse are said once."""
        history = self.history
        row, recent = history.rows[-1], history.rows[-PATIENCE:]
        weights = [p.detach().isfinite().all() for p in (*self.generator_parameters, *self.discriminator.parameters())]
        if not torch.stack(weights).all() or not torch.tensor(list(row.values())).isfinite().all():
            bad = [name for name, value in row.items() if not torch.tensor(value).isfinite()] or ["a weight"]
            history.status = "diverged"
            message = f"training diverged: {', '.join(bad)} became NaN or infinite; try a lower learning rate"
            self._note("diverged", row["epoch"], message)
            return
        if len(recent) < PATIENCE:
            return
        won_below = WON_SHARE * self.objective.equilibrium(len(self.generators)).get("d_loss", 0)
        if won_below > 0 and all(r["d_loss"] < won_below for r in recent):
            message = (
                f"the discriminator has won: its loss stayed below {won_below:.3f}, so the generators learn little"
            )
            self._note("discriminator_won", recent[0]["epoch"], message)
        if all(r["diversity"] < COLLAPSED_SHARE for r in recent):
            message = f"collapse: samples differ by less than {COLLAPSED_SHARE:.0%} of what real images do"
            self._note("collapsed", recent[0]["epoch"], message)

    def _note(self, kind: str, epoch: int, message: str) -> None:
        if any(event["kind"] == kind for event in self.history.events):
            return
        self.history.events.append({"kind": kind, "epoch": epoch, "message": message})
        warnings.warn(f"{self.history.label}, since epoch {epoch}: {message}", stacklevel=2)

    # ---- keeping it ------------------------------------------------------------------------------------------------

    def _save(self, path, every: int) -> None:
        done = len(self.history)
        is_due = done % every == 0 or done == self.settings.epochs
        if not is_due or self.history.status == "diverged":  # then the last good state stays
            return
        try:
            save_checkpoint(path, self.state_dict())
        except CheckpointError as error:  # a disk that fills up does not end a training that goes well
            warnings.warn(f"epoch {done} is in no checkpoint, training goes on: {error}", stacklevel=2)

    def state_dict(self) -> dict:
        """Everything that the next epoch depends on, as tensors and plain values."""
        return {
            "settings": self._origin(),
            "generators": self.generators.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "objective": self.objective.state_dict(),
            "rng": self.rng.get_state(),
            "history": self.history.to_dict(),
            "grids": {epoch: torch.from_numpy(grid) for epoch, grid in self.history.grids.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict``'s answer; ValueError unless settings, networks, images and device agree."""
        if missing := self.state_dict().keys() - state.keys():
            raise ValueError(f"it is no training checkpoint, for it lacks {', '.join(sorted(missing))}")
        # What a checkpoint does not name yet is taken as equal.
        theirs, ours = self._origin() | state["settings"] | _shapes(state), self._origin() | _shapes(self.state_dict())
        differing = [
            f"{name}: {theirs.get(name)!r} there, {ours.get(name)!r} here"
            for name in (ours | theirs)
            if name not in ("epochs", "grid_epochs", "label") and theirs.get(name) != ours.get(name)
        ]
        if differing:
            listed = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
            raise ValueError(f"this checkpoint belongs to a run with other settings ({listed})")
        history = History.from_dict(state["history"])
        if len(history) > self.settings.epochs:
            raise ValueError(f"it holds {len(history)} epochs already, epochs={self.settings.epochs} here")
        history.settings = self.history.settings
        history.grids = {epoch: grid.numpy() for epoch, grid in state["grids"].items()}
        self.generators.load_state_dict(state["generators"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer_g.load_state_dict(state["optimizer_g"])
        self.optimizer_d.load_state_dict(state["optimizer_d"])
        self.objective.load_state_dict(state["objective"])
        self.rng.set_state(state["rng"].cpu())
        self.history = history

    def _origin(self) -> dict:
        """What has to agree before a checkpoint is continued, besides the shapes of the networks."""
        images = f"{tuple(self.images.shape)}, {self.images.dtype}, standard deviation {self._real_spread:.4f}"
        return self.history.settings | {"images": images, "device": self.device.type}


def train(generators, discriminator, objective, images, settings=None, labels=None, **fit) -> History:
    """Train and return the history: ``Trainer(...).fit(...)`` in one call, when the trainer itself is not needed."""
    return Trainer(generators, discriminator, objective, images, settings, labels).fit(**fit)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images in 0..255 to float in [-1, 1]; float images stay as they are."""
    return images.float().div_(127.5).sub_(1) if images.dtype == torch.uint8 else images


def _optimizer(parameters, settings: Settings):
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, settings.betas, fused=True)
    return torch.optim.RMSprop(parameters, settings.learning_rate, foreach=True)


def _grad_norm(network: nn.Module) -> Tensor:
    """The 2-norm of all gradients of a network taken together."""
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def _spread(samples: Tensor) -> Tensor:
    """How much samples differ from each other: the root mean square of their deviation from the mean sample."""
    return samples.float().var(0, unbiased=False).mean().sqrt()


def _shapes(state: dict) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in both players' part of ``Trainer.state_dict``."""
    players = ("generators", "discriminator")
    return {f"{player}.{name}": tuple(tensor.shape) for player in players for name, tensor in state[player].items()}


def _check_data(images, labels, settings) -> None:
    """Refuse what cannot be trained on, before any training starts."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images: {type(images).__name__}; allowed: a tensor, such as the .images of an ImageSet")
    if images.dtype not in (torch.float32, torch.uint8) or images.ndim < 2:
        raise ValueError(f"images: {images.dtype}, shape {tuple(images.shape)}; allowed: (N, ...) float32 or uint8")
    if len(images) < settings.batch_size:
        raise ValueError(f"batch_size={settings.batch_size}; allowed: at most the number of images, {len(images)}")
    if images.dtype != torch.uint8:
        low, high = (bound.item() for bound in images.aminmax())  # one pass without copies; NaN if any value is
        if not max(-low, high) <= 1 + 1e-4:
            raise ValueError(f"images: float from {low:.3g} to {high:.3g}; allowed: float in [-1, 1] or uint8")
    if labels is not None and not isinstance(labels, Tensor):
        raise ValueError(f"labels: {type(labels).__name__}; allowed: a tensor, such as the .labels of an ImageSet")
    if labels is not None and (labels.shape != (len(images),) or labels.dtype != torch.int64):
        raise ValueError(
            f"labels: {labels.dtype}, shape {tuple(labels.shape)}; "
            f"allowed: one int64 for each of the {len(images)} images"
        )


@torch.no_grad()
def _check_networks(generators, discriminator, two_images, labels) -> None:
    """Refuse networks that do not fit the data or each other, by a trial on two images that changes nothing."""
    if not len(generators):
        raise ValueError("generators=[]; allowed: a list of at least one generator")
    real, two_labels = to_unit_range(two_images), None if labels is None else labels[:2].to(two_images.device)
    for k, generator in enumerate(generators, 1):
        if generator.latent_dim != generators[0].latent_dim:
            dims = [generator.latent_dim for generator in generators]
            raise ValueError(f"generators take latents of {dims} numbers; allowed: the same for all")
        classes = getattr(generator, "classes", 0)
        if labels is None and classes:
            raise ValueError(f"labels=None; allowed: labels from 0 to {classes - 1}, as generator {k} is conditional")
        if labels is not None and not 0 <= labels.min() <= labels.max() < classes:
            allowed = f"0 to {classes - 1}" if classes else f"None, as generator {k} is not conditional"
            raise ValueError(f"labels: from {labels.min()} to {labels.max()}; allowed: {allowed}")
        _trial(f"generator {k}", generator, real.new_zeros(len(real), generator.latent_dim), two_labels, real.shape)
    _trial("the discriminator", discriminator, real, two_labels, real.shape[:1])


def _trial(name: str, network: nn.Module, inputs: Tensor, labels: Tensor | None, wanted: torch.Size) -> None:
    network.eval()  # else batch norm and spectral norm would learn from it
    try:
        shape = tuple(network(inputs, *([] if labels is None else [labels])).shape)
    except RuntimeError as error:
        raise ValueError(f"{name} cannot take inputs of shape {tuple(inputs.shape)}: {error}") from error
    if shape != tuple(wanted):
        raise ValueError(f"{name} turns {tuple(inputs.shape)} into {shape}; allowed: {tuple(wanted)} for these images")
