"""How to train: the settings of a run, each with its default and with what is allowed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to train. The sources give none of these numbers; they are the usual ones for a GAN of this size.

    An epoch shows the discriminator every image once, but for a rest that fills no step. With ``critic_steps`` > 1 each
    of its steps takes a new batch, so that the generators take that many times fewer steps.
    """

    epochs: int = 5
    batch_size: int = 100
    critic_steps: int = 1  # discriminator steps per generator step
    optimizer: str = "adam"  # or "rmsprop"
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)  # Adam's
    seed: int = 0  # of batch order and latents, 32 bits; networks are drawn before, under torch.manual_seed
    grid_epochs: tuple[int, ...] = ()  # epochs after which samples of fixed latents are kept; 0 = before training
    grid_size: int = 64
    label: str = ""  # the name in figures
    cuda_graph: bool = False  # on CUDA: launch a whole step at once, see ``graphed``; the numbers are the same

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
        # On a CPU, torch would take larger ones that agree in their lowest 32 bits for the same seed.
        check("seed", whole(self.seed, 0) and self.seed < 2**32, "a whole number from 0 to 2**32 - 1")
        check("optimizer", self.optimizer in ("adam", "rmsprop"), "'adam', 'rmsprop'")
        check("learning_rate", number(self.learning_rate) and 0 < self.learning_rate <= 1, "a number in (0, 1]")
        betas = isinstance(self.betas, tuple) and len(self.betas) == 2
        check("betas", betas and all(number(b) and 0 <= b < 1 for b in self.betas), "a tuple of two numbers in [0, 1)")
        epochs = isinstance(self.grid_epochs, tuple) and all(whole(e, 0) for e in self.grid_epochs)
        check("grid_epochs", epochs, "a tuple of whole numbers of at least 0")
        check("label", isinstance(self.label, str), "a text")
        check("cuda_graph", isinstance(self.cuda_graph, bool), "True, False")
