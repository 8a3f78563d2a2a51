"""The project as one namespace: `interplay.grammar`, `interplay.datamodules`, `interplay.lightning_modules`, ...

In the repository the packages are folders beside this one; an installed wheel keeps them inside it, so that it adds no other name
to an environment. Either way a module has one identity, that of the class paths in configs: `interplay.grammar` is the module
`grammar`, which is found once `interplay` is imported.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"
PACKAGES = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes")
HERE = Path(__file__).parent
HOME = HERE if (HERE / "grammar").is_dir() else HERE.parent  # holds the packages, configs/ and main.py


class _Names(MetaPathFinder, Loader):
    """Finds `grammar` in HOME, and `interplay.grammar...` as `grammar...`."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname in PACKAGES:
            return PathFinder.find_spec(fullname, [str(HOME)])
        first, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if first == __name__ and name.partition(".")[0] in PACKAGES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(spec.name.partition(".")[2])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system did: the module keeps its own specification."""
        alias = module.__spec__
        module.__spec__ = alias.loader_state if alias else None


def _refuse_strangers() -> None:
    """Raise if the process has imported another package by one of our names."""
    for name in PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not Path(file).is_relative_to(HOME):
            raise ImportError(f"interplay has a package {name!r}, and {file} was imported as that; import interplay first.")


_refuse_strangers()
__path__.append(str(HOME))  # interplay.main, interplay.configs
sys.path.append(str(HOME))  # for processes that multiprocessing spawns: they get the path, and no finder
sys.meta_path.insert(0, _Names())
