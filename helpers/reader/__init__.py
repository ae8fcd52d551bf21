"""What serves the person at the notebook: ``session`` (how long may it take), ``exercises``, ``widgets``."""
