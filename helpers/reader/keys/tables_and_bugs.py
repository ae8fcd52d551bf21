"""Keys of notebook 05b."""

from helpers.reader.questions import Choice, Design, Number


def right_k(k, real_energy, fake_energy, gamma=0.5, rate=0.1):
    """BEGAN's update of k as it should be, on numbers."""
    return min(max(k + rate * (gamma * real_energy - fake_energy), 0.0), 1.0)


# What a proof has to catch: name -> a faulty update of k.
FAULTS = {
    "k leaves [0, 1]": lambda k, real_energy, fake_energy, gamma=0.5, rate=0.1: (
        k + rate * (gamma * real_energy - fake_energy)
    ),
    "the balance has the wrong sign": lambda k, real_energy, fake_energy, gamma=0.5, rate=0.1: min(
        max(k - rate * (gamma * real_energy - fake_energy), 0.0), 1.0
    ),
    "gamma is forgotten": lambda k, real_energy, fake_energy, gamma=0.5, rate=0.1: min(
        max(k + rate * (real_energy - fake_energy), 0.0), 1.0
    ),
}


def _course(ratios: dict[str, list[float]]) -> str:
    """ratios: game -> last gradient norm over the first, by seed."""
    least, most = min(ratios["gan"]), max(ratios["gan"])
    return "grows" if least > 1.2 else "shrinks" if most < 0.8 else "stays"


def proof_is_missing(proof) -> str | None:
    """What a proof lacks: it takes an update of k, and should raise AssertionError over each fault and no other."""
    try:
        proof(right_k)
    except AssertionError as error:
        return f"it rejects the right update ({error or 'an assertion'})"
    for name, faulty in FAULTS.items():
        try:
            proof(faulty)
        except AssertionError:
            continue
        return f"it lets a fault pass: {name}"
    return None


KEYS = {
    "05b.1": Choice(
        _course,
        {
            "grows": "last over first, by seed: {ratios[gan]}. The loss's own slope goes to -1 and D gets steeper",
            "shrinks": "last over first, by seed: {ratios[gan]}. That is what minimax does: {ratios[gan_minimax]}",
            "stays": "last over first, by seed: {ratios[gan]}. The loss's own slope stays, but D gets steeper",
        },
    ),
    "05b.2": Number(
        28,
        "a slope of 1 at each of 784 pixels is a gradient of norm sqrt(784)",
        tolerance=0.5,
        mistakes={
            "that is the number of pixels; a norm has a root": 784,
            "that is what the right penalty pulls to; which norm does this one take?": 1,
        },
    ),
    "05b.3": Choice(
        "target",
        {
            "target": "the image no longer moves towards its own reconstruction; only the path through the network is "
            "left",
            "input": "the reconstruction is still computed from the image itself",
            "none": "detach() always cuts a gradient: compare with finite differences",
        },
    ),
    "05b.4": Design(proof_is_missing, "it passes the right update and catches all three faults"),
}
