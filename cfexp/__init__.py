"""cfexp: what would have to be different in this image for the model to decide otherwise?"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cfexp import _torchvision as _torchvision  # before anything imports torchvision: see there
from cfexp._moved import let_old_names_be_imported

let_old_names_be_imported()

try:
    __version__ = version("cfexp")
except PackageNotFoundError:  # a checkout on sys.path that was never installed
    __version__ = "0+unknown"

__all__ = ["Explained", "InputError", "LoadedExplainer", "RunFolder", "load_explainer"]

if TYPE_CHECKING:
    from cfexp.errors import InputError
    from cfexp.evaluation.run_folder import RunFolder
    from cfexp.library import Explained, LoadedExplainer, load_explainer
else:
    _PLACES = {"InputError": "cfexp.errors", "RunFolder": "cfexp.evaluation.run_folder"}

    def __getattr__(name: str) -> Any:
        """What needs torch is imported when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_PLACES.get(name, "cfexp.library")), name)
