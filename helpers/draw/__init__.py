"""From histories and records to matplotlib Figures: ``figures`` draws curves and samples, ``slopes`` what G feels on
points in the plane, ``diagrams`` the rest.
"""

from helpers.draw import diagrams, figures, slopes
