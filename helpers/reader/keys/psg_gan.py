"""Keys of notebook 03."""

import torch

from helpers.gan.objectives import PSG
from helpers.reader.questions import Choice, Design, Function, Number

SUMMED, AVERAGED = PSG(fakes="sum").equilibrium(2), PSG().equilibrium(2)


def _scores(count: int, seed: int) -> tuple:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(50, generator=rng), torch.randn(count, 50, generator=rng)


def pick_accuracy(real, fake):
    """The share of tuples in which the real score (B,) is above all fake ones (K, B)."""
    return (real[None] > fake).all(0).float().mean()


def _most_covered(covered: dict[str, list[float]]) -> str:
    """covered: players -> modes by seed."""
    return max(covered, key=lambda name: sum(covered[name]))


def _where_it_goes(at: dict[int, float]) -> str:
    """at: epoch -> pick accuracy, 50 and 500 among them."""
    change = at[500] - at[50]
    return "fall to 1/3" if at[500] < 0.4 else "rise again" if change > 0.03 else "stay where it is"


def _scores_are_missing(pairs) -> str | None:
    if not isinstance(pairs, (tuple, list)) or len(pairs) != 2:
        return "return two pairs: won, lost"
    numbers = []
    for name, pair in zip(("won", "lost"), pairs, strict=True):
        real, fake = (torch.as_tensor(scores).detach().cpu().float() for scores in pair)
        if real.ndim != 1 or len(real) < 300 or fake.shape != (2, len(real)):
            return f"{name}: real has the shape {tuple(real.shape)}, fake {tuple(fake.shape)}; (B,) and (2, B), B > 299"
        called_real = (torch.cat([real[None], fake]) > 0).float().mean().item()
        numbers.append((called_real, pick_accuracy(real, fake).item()))
    (won, won_pick), (lost, lost_pick) = numbers
    if abs(won - 1 / 3) > 0.01 or won_pick <= 0.99:
        return f"won calls {won:.2f} of its inputs real and picks {won_pick:.2f} right"
    if abs(lost - 1 / 2) > 0.1 or abs(lost_pick - 1 / 3) > 0.07:
        return f"lost calls {lost:.2f} of its inputs real and picks {lost_pick:.2f} right"
    return None


KEYS = {
    "03.1": Number(
        SUMMED["d_loss"] - SUMMED["g_loss"],
        "L_G cancels the first term of L_D, and two terms of the fakes remain: at equilibrium the gap is not zero",
        tolerance=0.002,
        mistakes={
            "that is the averaged game; sum the fakes' terms": AVERAGED["d_loss"] - AVERAGED["g_loss"],
            "that is the loss of D alone": SUMMED["d_loss"],
        },
    ),
    "03.2": Number(
        2 / 3,
        "D is updated in every triple that x does not win",
        mistakes={"that is the share of triples that x wins": 1 / 3},
    ),
    "03.3": Choice(
        _most_covered,
        {
            "one generator": "it covers {covered[one generator]} modes by seed: alone it chases one mode after another",
            "one, doubled fakes": "it covers {covered[one, doubled fakes]} modes by seed: twice the fakes, one network "
            "and so one chase",
            "one, twice the weights": "it covers {covered[one, twice the weights]} modes by seed: a larger "
            "network, and still one chase",
            "two generators": "{covered[two generators]} modes by seed: where one sits D dislikes the place, so the "
            "other is sent elsewhere",
        },
    ),
    "03.4": Function(
        pick_accuracy,
        (_scores(2, 0), _scores(4, 1), _scores(1, 2)),
        "x has to beat every fake of its tuple",
        mistakes={
            "compare with the largest fake score, not with the mean": lambda r, f: (r > f.mean(0)).float().mean(),
            "x must beat every fake, not just one": lambda r, f: (r > f.amin(0)).float().mean(),
            "that is the average over all pairs; x has to beat all fakes of its tuple at once": lambda r, f: (
                (r > f).float().mean()
            ),
            "that is the share in which a fake wins": lambda r, f: (r < f.amax(0)).float().mean(),
        },
    ),
    "03.5": Choice(
        _where_it_goes,
        {
            "fall to 1/3": "{at[50]:.2f} at epoch 50, {at[500]:.2f} at epoch 500",
            "stay where it is": "{at[50]:.2f} at epoch 50, {at[500]:.2f} at epoch 500",
            "rise again": "from {at[50]:.2f} at epoch 50 to {at[500]:.2f} at epoch 500: nothing holds this D back",
        },
    ),
    "03.6": Choice(
        "mean answer",
        {
            "pick accuracy": "it hardly moves: D can tell real from fake as well as before",
            "mean D(x)": "it sinks, but stays above 1/3: D still prefers the real images",
            "mean answer": "by an identity: where D's last bias is at rest, the answers to a triple add up to 1",
        },
    ),
    "03.7": Design(_scores_are_missing, "one 0.33 of a D that has won, one of a D that knows nothing"),
}
