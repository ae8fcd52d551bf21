"""The rules of each game: what the discriminator minimises, what each generator minimises, and what else happens.

An objective sees the discriminator's scores for a batch of B real images and for K generators' fakes, (B,) and (K, B):
row b of both is the tuple (x, G1(z1), ..., GK(zK)) that PSG-GAN looks at together. It answers with one loss per tuple;
the training loop takes the mean. An energy-based discriminator gives energies in place of scores (low = looks real).
Notation: s = score, sp = softplus, so sp(-s) = -log sigmoid(s) and sp(s) = -log(1 - sigmoid(s)).
"""

from dataclasses import asdict, dataclass
from math import isfinite, log
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, softplus

from helpers.gan.networks import to_be_differentiated_twice


@dataclass
class Objective:
    """What all games share: no penalties, nothing after a step, every tuple counts the same.

    One object serves one run: a game may remember (``state_dict``), and would go on with that in the next.
    """

    threshold: ClassVar[float | None] = 0.0  # D calls a sample real above this score; None: it takes no such decision
    is_probability: ClassVar[bool] = False  # sigmoid(score) is the probability that the sample is real
    is_energy: ClassVar[bool] = False  # the lower the score, the more real
    may_skip_players: ClassVar[bool] = False  # some steps leave a player out altogether

    def discriminator_losses(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B,) and (K, B) scores to the discriminator's loss of each tuple, (B,)."""
        raise NotImplementedError

    def generator_losses(self, fake: Tensor) -> Tensor:
        """(K, B) scores to each generator's loss of each sample, (K, B)."""
        raise NotImplementedError

    def weights(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """How much each loss counts: (B,) for the discriminator and (K, B) for the generators.

        By default 1 and 1/K, so that the generators together minimise their average loss.
        """
        return torch.ones_like(real), torch.full_like(fake, 1 / len(fake))

    def discriminator_penalty(self, score, real, fakes, rng) -> Tensor | None:
        """A further term of the discriminator's loss, from (B, ...) real images and a list of K such fakes.

        ``score`` maps images to the discriminator's scores; ``rng`` is the generator of all random numbers.
        """
        return None

    def classifier_loss(self, discriminator, fakes) -> Tensor | None:
        """The loss of a head of the discriminator that tells the K generators apart; it is trained with the rest."""
        return None

    def generator_penalty(self, discriminator, fakes) -> Tensor | None:
        """A further term of the generators' loss, from a list of K batches of fakes."""
        return None

    def after_discriminator_step(self, discriminator: nn.Module) -> None:
        """Called after each discriminator step."""

    def after_step(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Called after each training step; returns this game's own measures (0-d tensors).

        real, fake: the scores of its last discriminator step, before that step changed the discriminator. So both were
        given by the same network; a difference between them means something.
        """
        return {}

    def mixture(self, generators: int) -> list[float]:
        """The share of each generator in the samples that are judged together; equal unless a game learns them."""
        return [1 / generators] * generators

    def equilibrium(self, generators: int = 1) -> dict[str, float]:
        """Known values where all generators match the data and D is optimal: d_loss, g_loss, d_real, pick_accuracy."""
        return {"pick_accuracy": 1 / (1 + generators)}

    def state_dict(self) -> dict[str, Tensor]:
        """What the game itself remembers between steps."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""

    def describe(self) -> dict:
        """Name and options, for records: {"name": "PSG", "fakes": "average", ...}."""
        return {"name": type(self).__name__, **asdict(self)}

    def _check_number(self, name: str, fine=lambda value: True, allowed: str = "a finite number") -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not (isinstance(value, Real) and isfinite(value) and fine(value)):
            raise ValueError(f"{name}={value!r}; allowed: {allowed}")


@dataclass
class PSG(Objective):
    """PSG-GAN (Park, Doh & Yang) for any number K of generators; the average rule with K = 1 is the plain GAN.

    D's loss (slides): sp(-s_x) + mean over k of sp(s_k); with ``fakes="sum"`` the mean is a sum.
    Generator k's loss: sp(-s_k), that is BCE(s_k, 1).

    ``rule="average"`` (section 3.2, "Average Loss"): the generators minimise the mean of their losses on every tuple.
    ``rule="algorithm1"``: who is updated depends on who has the highest score in the tuple, the one that D
    "classifies as real". If generator k wins, the others are updated, not k; if x wins, all are, with their mean loss.
    What the paper leaves open, and how it is read here:

    - ``per="sample"`` (default) decides for every tuple on its own, by weights on its losses; ``per="batch"`` decides
      once per batch by the mean scores, and a player left out takes no step at all.
    - "x wins" names no update of D. The slides' code updates D always; so do we, unless ``update_d="when_fooled"``.
    - D classifies once per tuple: the scores before D's update decide, for D's step and the generators' step alike.
    - For K > 2 the losing generators share weight 1, as the one loser does for K = 2.
    """

    fakes: str = "average"
    rule: str = "average"
    per: str = "sample"
    update_d: str = "always"
    is_probability: ClassVar[bool] = True

    def __post_init__(self):
        allowed = {
            "fakes": ("average", "sum"),
            "rule": ("average", "algorithm1"),
            "per": ("sample", "batch"),
            "update_d": ("always", "when_fooled"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: {', '.join(map(repr, values))}")

    @property
    def may_skip_players(self) -> bool:
        return self.rule == "algorithm1" and self.per == "batch"

    def discriminator_losses(self, real, fake):
        fake_losses = softplus(fake)
        return softplus(-real) + (fake_losses.mean(0) if self.fakes == "average" else fake_losses.sum(0))

    def generator_losses(self, fake):
        return softplus(-fake)

    def weights(self, real, fake):
        if self.rule == "average":
            return super().weights(real, fake)
        count, scores = len(fake), torch.cat([real[None], fake])  # (1 + K, B), row 0 is x
        if self.per == "batch":
            scores = scores.mean(1, keepdim=True).expand_as(scores)
        winner = scores.argmax(0)
        x_wins = winner == 0
        loses = winner != torch.arange(1, count + 1, device=fake.device)[:, None]
        generator_weights = torch.where(x_wins, 1 / count, loses / max(count - 1, 1))
        always = self.update_d == "always"
        return torch.ones_like(real) if always else (~x_wins).to(real.dtype), generator_weights

    def equilibrium(self, generators=1):
        """Where all densities agree: D(x) = 1/2 if the fakes are averaged, 1/(1 + K) if they are summed."""
        total = 1.0 if self.fakes == "average" else float(generators)
        d_real = 1 / (1 + total)
        d_loss = -log(d_real) - total * log(1 - d_real)
        return super().equilibrium(generators) | {"d_real": d_real, "d_loss": d_loss, "g_loss": -log(d_real)}


@dataclass
class MGAN(Objective):
    """Hoang et al. 2018: several generators that a head of the discriminator must be able to tell apart.

    D: sp(-s_x) + sum over k of w_k sp(s_k), and the head's cross-entropy. Generator k: w_k sp(-s_k) + beta times the
    same cross-entropy, so that each finds images of its own. beta is 0.01 in the authors' example.
    (The paper's equation has beta in D's loss as well. The head's cross-entropy is an equal mean over the generators,
    also where their shares are learned.)

    The mixture weights w are equal in the paper. With a ``rate`` they are learned: w = softmax(a), and each step moves
    a down the slope of the mixture's own loss L = sum of w_k l_k, with l_k the mean of sp(-s_k): as k takes only K
    values, that slope is exact, dL/da_k = w_k (l_k - L). So the weight of a generator whose fakes are found out falls
    until all do equally well. (Learned mixture weights are older: MIX+GAN, Arora et al. 2017, arXiv:1703.00573; this
    rule was written without following it.)
    """

    beta: float = 0.01
    rate: float = 0.0
    is_probability: ClassVar[bool] = True

    def __post_init__(self):
        self._check_number("beta", lambda beta: beta >= 0, "a number of at least 0")
        self._check_number("rate", lambda rate: rate >= 0, "a number of at least 0")
        self._logits, self._told_apart = None, None

    def _shares(self, scores: Tensor) -> Tensor:
        """w, (K,), beside the scores (K, B)."""
        if self._logits is None:
            self._logits = torch.zeros(len(scores), device=scores.device)
        self._logits = self._logits.to(scores.device)
        return self._logits.softmax(0)

    def mixture(self, generators):
        return super().mixture(generators) if self._logits is None else self._logits.softmax(0).tolist()

    def discriminator_losses(self, real, fake):
        return softplus(-real) + (self._shares(fake)[:, None] * softplus(fake)).sum(0)

    def generator_losses(self, fake):
        return softplus(-fake)

    def weights(self, real, fake):
        return torch.ones_like(real), self._shares(fake)[:, None].expand_as(fake)

    def classifier_loss(self, discriminator, fakes):
        loss = self._cross_entropy(discriminator, fakes)
        self._told_apart = loss.detach()
        return loss

    def generator_penalty(self, discriminator, fakes):
        return self.beta * self._cross_entropy(discriminator, fakes) if self.beta else None

    @staticmethod
    def _cross_entropy(discriminator, fakes) -> Tensor:
        sources = torch.arange(len(fakes), device=fakes[0].device).repeat_interleave(len(fakes[0]))
        return cross_entropy(discriminator.tell_apart(torch.cat(fakes)), sources)

    @torch.no_grad()
    def after_step(self, real, fake):
        shares, losses = self._shares(fake), softplus(-fake).mean(1)
        self._logits.sub_(self.rate * shares * (losses - (shares * losses).sum()))
        measures = {f"share_of_g{k}": share for k, share in enumerate(self._logits.softmax(0), 1)}
        return measures | {"told_apart": self._told_apart}

    def equilibrium(self, generators=1):
        return super().equilibrium(generators) | {"d_real": 0.5, "d_loss": 2 * log(2), "g_loss": log(2)}

    def state_dict(self):
        return {} if self._logits is None else {"logits": self._logits}

    def load_state_dict(self, state):
        self._logits = state["logits"].clone() if "logits" in state else None


@dataclass
class GAN(Objective):
    """Goodfellow et al. 2014: D minimises sp(-s_x) + sp(s_g), G minimises sp(-s_g) (non-saturating).

    With ``minimax`` G minimises -sp(s_g) = log(1 - D(G(z))) instead, the game's own value, whose gradient vanishes
    where D is sure. Several generators' fakes are averaged.
    """

    minimax: bool = False
    is_probability: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.minimax, bool):
            raise ValueError(f"minimax={self.minimax!r}; allowed: True, False")

    def discriminator_losses(self, real, fake):
        return softplus(-real) + softplus(fake).mean(0)

    def generator_losses(self, fake):
        return -softplus(fake) if self.minimax else softplus(-fake)

    def equilibrium(self, generators=1):
        g_loss = -log(2) if self.minimax else log(2)
        return super().equilibrium(generators) | {"d_real": 0.5, "d_loss": 2 * log(2), "g_loss": g_loss}


@dataclass
class Hinge(Objective):
    """The hinge loss of SNGAN (Miyato et al. 2018, eqs. 16 and 17): D: relu(1 - s_x) + relu(1 + s_g), G: -s_g."""

    def discriminator_losses(self, real, fake):
        return relu(1 - real) + relu(1 + fake).mean(0)

    def generator_losses(self, fake):
        return -fake

    def equilibrium(self, generators=1):
        """D's loss is 2 for every constant score in [-1, 1]; so G's loss is not determined."""
        return super().equilibrium(generators) | {"d_loss": 2.0}


@dataclass
class LSGAN(Objective):
    """Mao et al. 2017, eq. (10) of the source, on raw scores: D: ((s_x - b)^2 + (s_g - a)^2) / 2, G: (s_g - c)^2/2.

    a is below b, so that here, too, the more real a sample looks to D, the higher is its score.
    """

    a: float = 0.0
    b: float = 1.0
    c: float = 1.0

    def __post_init__(self):
        for name in ("a", "b", "c"):
            self._check_number(name)
        if self.a >= self.b:
            raise ValueError(f"a={self.a!r}, b={self.b!r}; allowed: a below b")

    @property
    def threshold(self) -> float:
        return (self.a + self.b) / 2

    def discriminator_losses(self, real, fake):
        return (real - self.b).square() / 2 + (fake - self.a).square().mean(0) / 2

    def generator_losses(self, fake):
        return (fake - self.c).square() / 2

    def equilibrium(self, generators=1):
        """Where both densities agree the best score is (a + b)/2."""
        d_loss = (self.b - self.a) ** 2 / 4
        g_loss = ((self.a + self.b) / 2 - self.c) ** 2 / 2
        return super().equilibrium(generators) | {"d_loss": d_loss, "g_loss": g_loss}


class _Wasserstein(Objective):
    """What WGAN and WGAN-GP share: the critic minimises s_g - s_x, G minimises -s_g; a score is not a decision."""

    threshold: ClassVar[float | None] = None

    def discriminator_losses(self, real, fake):
        return fake.mean(0) - real

    def generator_losses(self, fake):
        return -fake

    def after_step(self, real, fake):
        """The critic's estimate of the Wasserstein distance, up to its unknown Lipschitz constant."""
        return {"wasserstein": real.mean() - fake.mean()}

    def equilibrium(self, generators=1):
        return super().equilibrium(generators) | {"d_loss": 0.0}


@dataclass
class WGAN(_Wasserstein):
    """Arjovsky et al. 2017: the critic's weights are clipped to [-clip, clip] AFTER each of its steps."""

    clip: float = 0.01

    def __post_init__(self):
        self._check_number("clip", lambda clip: clip > 0, "a number above 0")

    @torch.no_grad()
    def after_discriminator_step(self, discriminator):
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.clip, self.clip)


@dataclass
class WGANGP(_Wasserstein):
    """Gulrajani et al. 2017, eq. (6) of the source: WGAN's losses + weight * E[(||grad D(x_hat)||_2 - 1)^2].

    There is no clipping. x_hat lies on the line between a real and a fake sample, at a place drawn anew for every
    sample; the norm is taken over all pixels of a sample.
    """

    weight: float = 10.0

    def __post_init__(self):
        self._check_number("weight", lambda weight: weight >= 0, "a number of at least 0")

    def discriminator_penalty(self, score, real, fakes, rng):
        real = torch.cat([real] * len(fakes))
        norms = self.gradient_norms(score, real, torch.cat(fakes), rng)
        self._gradient_norm = norms.detach().mean()
        return self.weight * (norms - 1).square().mean()

    @staticmethod
    def gradient_norms(score, real: Tensor, fake: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """||grad D||_2, (N,), at a random point between each pair of (N, ...) real and fake samples; differentiable."""
        shape = (len(real), *[1] * (real.ndim - 1))
        alpha = torch.rand(shape, device=real.device, dtype=real.dtype, generator=rng)
        between = torch.lerp(real, fake, alpha).requires_grad_()
        with to_be_differentiated_twice():
            total = score(between).sum()
        (gradient,) = torch.autograd.grad(total, between, create_graph=True)
        return gradient.flatten(1).norm(dim=1)

    def after_step(self, real, fake):
        return super().after_step(real, fake) | {"critic_gradient_norm": self._gradient_norm}


@dataclass
class EBGAN(Objective):
    """Zhao et al. 2016, eqs. (7) and (8) of the source: D: E(x) + relu(m - E(g)), G: E(g) + pull_away * PT.

    PT, the pulling-away term, is the mean squared cosine between the codes of different fakes of one batch; it keeps
    the fakes apart. The margin m is on the scale of the energy, here the mean squared error per pixel of images in
    [-1, 1]: answering with the mean digit costs 0.27, black for white 4. The paper's margins belong to other scales;
    0.2 is our choice: below 0.27, D's equilibrium loss m is out of reach of that lazy answer (see notebook 05).
    """

    margin: float = 0.2
    pull_away: float = 0.1
    threshold: ClassVar[float | None] = None
    is_energy: ClassVar[bool] = True

    def __post_init__(self):
        self._check_number("margin", lambda margin: margin > 0, "a number above 0")
        self._check_number("pull_away", lambda weight: weight >= 0, "a number of at least 0")

    def discriminator_losses(self, real, fake):
        return real + relu(self.margin - fake).mean(0)

    def generator_losses(self, fake):
        return fake

    def generator_penalty(self, discriminator, fakes):
        if not self.pull_away:
            return None
        terms = [self.pulling_away_term(discriminator.encode(fake)) for fake in fakes]
        return self.pull_away * torch.stack(terms).mean()

    @staticmethod
    def pulling_away_term(codes: Tensor) -> Tensor:
        """(N, code_dim) codes, N > 1, to the sum over i != j of cos^2(code_i, code_j), divided by N (N - 1)."""
        count = len(codes)
        if count < 2:
            raise ValueError("batch_size=1; allowed: at least 2, for the pulling-away term compares samples")
        unit = nn.functional.normalize(codes, dim=1)
        return ((unit @ unit.T).square().sum() - unit.square().sum(1).square().sum()) / (count * (count - 1))

    def after_step(self, real, fake):
        return {"real_energy": real.mean(), "fake_energy": fake.mean()}

    def equilibrium(self, generators=1):
        """D's loss is the margin at the Nash equilibrium (Zhao et al., theorem 1)."""
        return super().equilibrium(generators) | {"d_loss": self.margin}


@dataclass
class BEGAN(Objective):
    """Berthelot et al. 2017: D: E(x) - k E(g), G: E(g), then k <- clip(k + rate (gamma E(x) - E(g)), 0, 1).

    Its measure of convergence is M = E(x) + |gamma E(x) - E(g)|. k starts at 0.
    """

    gamma: float = 0.5
    rate: float = 0.001
    threshold: ClassVar[float | None] = None
    is_energy: ClassVar[bool] = True

    def __post_init__(self):
        self._check_number("gamma", lambda gamma: 0 <= gamma <= 1, "a number in [0, 1]")
        self._check_number("rate", lambda rate: rate >= 0, "a number of at least 0")
        self.k = torch.tensor(0.0)

    def discriminator_losses(self, real, fake):
        self.k = self.k.to(real.device)
        return real - self.k * fake.mean(0)

    def generator_losses(self, fake):
        return fake

    @torch.no_grad()
    def after_step(self, real, fake):
        balance = self.gamma * real.mean() - fake.mean()
        k = (self.k + self.rate * balance).clamp(0, 1)
        self.k.copy_(k)  # in place, so that a CUDA graph of the step goes on from it
        return {"k": k, "convergence": real.mean() + balance.abs()}

    def state_dict(self):
        return {"k": self.k}

    def load_state_dict(self, state):
        self.k = state["k"].clone()
