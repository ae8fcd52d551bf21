"""From histories and records to matplotlib Figures: ``figures`` draws curves and samples, ``diagrams`` the rest."""

from helpers.draw import diagrams, figures
