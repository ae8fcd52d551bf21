"""How fast the training loop is, beside the usual loop and beside the least that its arithmetic can take.

``python -m benchmarks`` (or ``make bench``) measures; see README.md in this folder for what is compared and why.
"""
