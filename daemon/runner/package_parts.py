"""How does a runner start without the parts of its libraries that it never uses?"""

from __future__ import annotations

import importlib
import importlib.util
import sys

# Packages whose own code imports all of their modules, and the one module that a runner needs.
# Together the others took a fifth of a runner's start (templates, caches and YAML among them).
PARTS = {"llama_cpp": "llama_cpp", "gguf": "constants"}


def import_parts() -> None:
    """Import only these modules of the packages, unless a package is there already."""
    for package, part in PARTS.items():
        if package not in sys.modules:
            import_part(package, part)


def import_part(name: str, part: str) -> None:
    """Make a package of this name that has run none of its own code, with the public names of one
    of its modules. Its other modules can be imported as ever."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name)
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    module = importlib.import_module(f"{name}.{part}")
    vars(package).update(
        {key: value for key, value in vars(module).items() if not key.startswith("_")}
    )
