"""The keys of all exercises, out of the reader's sight: a module per notebook, each with KEYS: "04.2" -> a question.

Where an answer can be computed it is, from the same functions that the notebook teaches.
"""

from helpers.reader.keys import (
    comparison,
    evidence,
    gan_basics,
    loss_functions,
    normalization,
    psg_gan,
    remedies,
    sngan,
    start_here,
    tables_and_bugs,
)

KEYS = (
    start_here.KEYS
    | gan_basics.KEYS
    | sngan.KEYS
    | psg_gan.KEYS
    | comparison.KEYS
    | evidence.KEYS
    | loss_functions.KEYS
    | tables_and_bugs.KEYS
    | normalization.KEYS
    | remedies.KEYS
)
