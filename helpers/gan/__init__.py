"""The thin part, read in an evening: networks, the rules of each game, the one training loop, and the named systems.

Read ``networks``, ``objectives``, ``settings``, ``training``, ``systems``; around them lie ``history`` (what a run
leaves behind), ``checks``, ``watch``, ``resume``, ``graphed``, ``multiverse`` (other settings) and, for photographs,
``conv_networks``.
"""

from helpers.gan import objectives, systems
from helpers.gan.conv_networks import AdaIN, ConvCritic, ConvGenerator
from helpers.gan.history import History
from helpers.gan.networks import AutoEncoder, Discriminator, Generator, count_parameters
from helpers.gan.objectives import BEGAN, EBGAN, GAN, LSGAN, MGAN, PSG, WGAN, WGANGP, Hinge, Objective
from helpers.gan.settings import Settings
from helpers.gan.systems import SYSTEMS, make_trainer
from helpers.gan.training import Trainer, train
