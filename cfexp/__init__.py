"""cfexp: what would have to be different in this image for the model to decide otherwise?"""

from importlib.metadata import PackageNotFoundError, version

from cfexp import _torchvision as _torchvision  # before anything imports torchvision: see there

try:
    __version__ = version("cfexp")
except PackageNotFoundError:  # a checkout on sys.path that was never installed
    __version__ = "0+unknown"
