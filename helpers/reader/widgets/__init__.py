"""Interactive figures: a training dashboard, a laboratory for 2-D GANs, epoch scrubbers and a latent walk.

A panel is shown by naming it on the last line of a cell. Where a kernel runs it is alive; where none does (GitHub,
nbviewer, PDF) its picture and description remain. This is the only part of ``helpers`` that needs ipywidgets.
"""

from helpers.reader.widgets.dashboard import TrainingDashboard
from helpers.reader.widgets.lab import GanLab
from helpers.reader.widgets.panels import Panel, interactive_figure
from helpers.reader.widgets.scrubbers import epoch_scrubber, latent_walk, show_kernel_free_scrubber
