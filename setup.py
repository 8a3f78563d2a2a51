"""The wheel keeps packages, configs and front door inside the one package `interplay` (see interplay/__init__.py)."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes", "configs")
MODULES = find_packages(include=[f"{name}*" for name in FOLDERS])
CONFIGS = sorted({".".join(path.parent.parts) for path in Path("configs").rglob("*.yaml")})


class Build(build_py):
    """Adds the front door, `main.py`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of a package, as (package, module, file)."""
        found = super().find_package_modules(package, package_dir)
        return [*found, (package, "main", "main.py")] if package == "interplay" else found


setup(
    packages=["interplay", *(f"interplay.{name}" for name in (*MODULES, *CONFIGS))],
    package_dir={"interplay": "interplay"} | {f"interplay.{name}": name for name in FOLDERS},
    cmdclass={"build_py": Build},
)
