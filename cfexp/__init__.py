"""cfexp: what would have to be different in this image for the model to decide otherwise?"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cfexp import _torchvision as _torchvision  # before anything imports torchvision: see there
from cfexp._moved import let_old_names_be_imported

let_old_names_be_imported()

try:
    __version__ = version("cfexp")
except PackageNotFoundError:  # a checkout on sys.path that was never installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from cfexp.library import load_explainer as load_explainer
else:

    def __getattr__(name: str) -> Any:
        """What needs torch is imported when it is first asked for."""
        if name == "load_explainer":
            from cfexp.library import load_explainer

            return load_explainer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
