"""The layers: which module may import which, and what a module looks like from outside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
TOPS = ("daemon", "models", "quant")
THIRD_PARTY = ("llama_cpp", "aiohttp", "click", "llguidance", "prometheus_client", "prompt_toolkit")
FRONT = "daemon front"

# By module or package; the longest matching name decides. Other modules belong to the front.
LAYERS = {
    "quant": "quant",
    "models": "models",
    "daemon.heap": "heap",
    "daemon.errors": "errors",
    "daemon.duration": "duration",
    "daemon.chat": "chat",
    "daemon.protocol": "protocol",
    "daemon.config": "config",
    "daemon.address": "config",
    "daemon.byte_size": "config",
    "daemon.environment_file": "config",
    "daemon.reload": "reload",
    "daemon.service": "service",
    "daemon.serving": "serving",
    "daemon.api_keys": "config",
    "daemon.authority": "config",
    "daemon.origin_pattern": "config",
    "daemon.settings_table": "config",
    "daemon.log_lines": "log",
    "daemon.request_note": "log",
    "daemon.options": "options",
    "daemon.parameters": "options",
    "daemon.runner": "runner",
    "daemon.runner.kv": "kv",
    "daemon.runner.sampling": "sampling",
    "daemon.runner.sequence": "sequence",
    "daemon.runner.stream": "sequence",
    "daemon.runner.repetition": "sequence",
    "daemon.runner.rendering": "rendering",
    "daemon.runner.sandbox": "sandbox",
    "daemon.runner.connection": "runner process",
    "daemon.runner.batch": "seam",
    "daemon.runner.llama": "llama",
    "daemon.runner.llama.interface": "seam",
    "daemon.runner.speculation": "speculation",
    "daemon.runner.threads": "threads",
    "daemon.runner.speculation.calibration": "loading",
    "daemon.runner.speculation.drafter_loading": "loading",
    "daemon.runner.__main__": "runner process",
    "daemon.runner.devices": "runner process",
    "daemon.runner.package_parts": "runner process",
    "daemon.runner.worker": "runner process",
    "daemon.runners": "runners",
    "daemon.metrics": "metrics",
    "daemon.tracing": "tracing",
    "daemon.metrics.dashboard": "dashboard",
    "daemon.metrics.panels": "dashboard",
    "daemon.snapshot": "snapshot",
    "daemon.diagnosis": "diagnosis",
    "daemon.api": "api",
    "daemon.api.ollama": "ollama",
    "daemon.api.openai": "openai",
    "daemon.api.anthropic": "anthropic",
    "daemon.api.systemone": "systemone",
    "daemon.api.openapi": "openapi",
    "daemon.app": "app",
    "daemon.cli": "cli",
    "daemon.__main__": "cli",
    "daemon": FRONT,
}
BASE = {"errors", "protocol"}
MAY_IMPORT = {
    "quant": {"quant"},
    "models": {"models", "quant"},
    "errors": set(),
    "log": {"log"},
    "heap": set(),
    "duration": set(),
    "chat": {"chat", "errors"},
    "protocol": {"chat"},
    "config": {*BASE, "config", "duration", "log"},
    "options": {*BASE, "options"},
    # The runner is a process of its own: it is handed paths, and never imports `models`.
    # llama.cpp is reached through the seam; its implementation is for those who load weights.
    "seam": {"seam"},
    "kv": {*BASE, "kv", "seam"},
    "sampling": {*BASE, "sampling", "chat", "seam"},
    "llama": {*BASE, "llama", "seam", "quant"},  # quant: headers are repaired while loading
    "sequence": {*BASE, "sequence", "chat", "kv", "sampling", "seam"},
    "speculation": {*BASE, "speculation", "sequence", "kv", "sampling", "seam"},
    "threads": {"threads", "speculation"},  # costs are measured by the number of threads
    "loading": {*BASE, "loading", "speculation", "sequence", "kv", "sampling", "seam", "llama"},
    "rendering": {*BASE, "rendering", "chat", "log", "sandbox"},
    "sandbox": {*BASE, "sandbox"},
    "runner": {
        *BASE,
        "runner",
        "rendering",
        "chat",
        "kv",
        "sampling",
        "seam",
        "sequence",
        "speculation",
        "threads",
    },
    "runner process": {
        *BASE,
        *(
            "heap",
            "log",
            "runner process",
            "rendering",
            "sandbox",
            "chat",
            "runner",
            "loading",
            "speculation",
            "sequence",
            "sampling",
            "threads",
            "llama",
            "seam",
        ),
    },
    # The front starts `python -m outrider.daemon.runner`, and never imports it.
    "runners": {*BASE, "runners", "chat", "quant", "models", "config", "options", "log"},
    "dashboard": {"dashboard"},
    "tracing": {"tracing", "log"},
    "metrics": {"metrics", "runners", "protocol"},
    "snapshot": {"runners", "protocol"},
    # Started for a command, so it asks a child process of its own what llama.cpp has.
    "diagnosis": {"errors", "diagnosis", "runners", "sandbox"},
    "api": {
        *BASE,
        *("api", "chat", "runners", "metrics", "tracing", "snapshot", "diagnosis"),
        *("config", "duration", "options", "models", "log"),
    },
    "ollama": {
        *BASE,
        "ollama",
        "api",
        "chat",
        "runners",
        "metrics",
        "duration",
        "options",
        "models",
        "quant",
    },
    "openai": {*BASE, "openai", "api", "chat", "runners", "options", "models"},
    "anthropic": {*BASE, "anthropic", "api", "chat", "runners", "options", "models", "log"},
    "systemone": {*BASE, "systemone", "api", "chat", "runners", "duration", "options"},
    "openapi": {"api", "ollama", "openai", "anthropic", "systemone", "options"},
    FRONT: {FRONT},
    "app": {
        FRONT,
        "diagnosis",
        "api",
        "openapi",
        "ollama",
        "openai",
        "anthropic",
        "systemone",
        "runners",
        "metrics",
        "tracing",
        "quant",
        "models",
        "errors",
        "config",
        "log",
    },
    "reload": {"config", "errors"},
    "serving": {
        FRONT,
        "heap",
        "api",
        "log",
        "app",
        "diagnosis",
        "reload",
        "runners",
        "models",
        "config",
        "errors",
    },
    "service": {"service", "config", "errors"},
    "cli": {
        *("cli", "errors", "config", "options", "models", "quant"),
        *("service", "serving", "diagnosis", "dashboard"),
    },
}
MAY_USE = {
    "llama_cpp": {"llama", "quant"},
    "aiohttp": {
        *("api", "ollama", "openai", "anthropic", "systemone", "openapi"),
        *("app", "cli", "models"),
    },
    "click": {"cli"},
    "prompt_toolkit": {"cli"},
    "llguidance": {"sampling", "seam", "llama"},
    "prometheus_client": {"metrics"},
}
ONLY_IN = {
    "click": "daemon.cli",
    "prompt_toolkit": "daemon.cli.line_editor",
    "prometheus_client": "daemon.metrics",
}
NEEDS_NO_LLAMA = (  # modules that run on any implementation of the seam
    *("engine", "scheduler", "sequence", "stream", "input_processor", "batch", "kv.prefix_cache"),
    *("embedding_worker", "sampling.sampler", "sampling.grammar", "speculation.controller"),
    *("speculation.round", "speculation.goodput", "speculation.drafters.model"),
    *("speculation.drafters.head", "speculation.drafters.assistant", "llama.interface"),
)
LAZY_FUNCTIONS = {
    ("daemon.runner.__main__", "_serve"),  # no thread before the process is confined
    ("daemon.cli.serve", "serve"),  # the other commands start without the server
    ("daemon.cli.quantize", "_lines"),  # numpy takes a while, too
    ("daemon.cli.entry", "_is_debugging"),  # the help starts without the settings
    ("daemon.cli.run", "_reader"),  # answers to one prompt start without the line editor
    ("daemon.api.body", "_check_extent"),  # numpy
    *(("daemon.api.embedding", name) for name in ("pooled", "normalised", "encoded")),  # numpy
    *(("daemon.chat.choose", name) for name in ("_read", "format_of")),  # gotpl
    *(("daemon.api.ollama.create", name) for name in ("_template", "_lines")),
    *(("daemon.api.ollama.transfers", name) for name in ("report", "push")),
    ("models.sources.registry", "_users_key"),  # cryptography takes a while
    ("daemon.runner.__main__", "main"),  # after only the parts of packages that it needs
    ("daemon.runner.devices", "main"),
    ("daemon.cli.mcp_servers", "_connect"),  # an extra
    ("daemon.tracing.opening", "open_tracer"),  # an extra
    ("daemon.cli.mcp_servers", "_transport"),
}


@dataclass(frozen=True, slots=True)
class Module:
    name: str  # such as "daemon.runner.engine"; a package by its folder
    path: Path
    tree: ast.Module

    @property
    def package(self) -> list[str]:
        """What its relative imports start from."""
        parts = self.name.split(".")
        return parts if self.path.name == "__init__.py" else parts[:-1]


def _read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_text(), str(path)))


MODULES: Mapping[str, Module] = {
    module.name: module for top in TOPS for module in map(_read, sorted((ROOT / top).rglob("*.py")))
}
EVERY_MODULE = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())


def imports(module: Module, nodes: Iterator[ast.AST] | None = None) -> Iterator[str]:
    """Full names of what is imported; ours without the namespace, like "daemon.errors"."""
    for node in nodes or ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.removeprefix("outrider.")
        elif isinstance(node, ast.ImportFrom):
            yield from _from(module, node)


def _from(module: Module, node: ast.ImportFrom) -> Iterator[str]:
    if node.level:
        base = module.package[: len(module.package) - node.level + 1]
        source = ".".join([*base, *([node.module] if node.module else [])])
    else:
        source = (node.module or "").removeprefix("outrider.")
    for alias in node.names:  # `from . import wire` names a module, `from .wire import read` not
        submodule = f"{source}.{alias.name}"
        yield submodule if submodule in MODULES else source


def is_ours(name: str) -> bool:
    return name.split(".")[0] in TOPS


def layer(name: str) -> str:
    fitting = [key for key in LAYERS if name == key or name.startswith(f"{key}.")]
    return LAYERS[max(fitting, key=len)]


def test_the_tables_are_about_real_modules() -> None:
    assert len(MODULES) > 40
    assert {layer(name) for name in MODULES} == set(MAY_IMPORT)
    used = {name.split(".")[0] for module in MODULES.values() for name in imports(module)}
    assert set(THIRD_PARTY) <= used
    assert set(ONLY_IN.values()) <= MODULES.keys()


@EVERY_MODULE
def test_what_is_imported_exists(module: Module) -> None:
    ours = {name for name in imports(module) if is_ours(name)}
    assert ours <= MODULES.keys()


@EVERY_MODULE
def test_imports_point_one_way(module: Module) -> None:
    ours = {name for name in imports(module) if is_ours(name)}
    allowed = MAY_IMPORT[layer(module.name)]
    assert {name for name in ours if layer(name) not in allowed} == set()


@EVERY_MODULE
def test_libraries_stay_in_their_layers(module: Module) -> None:
    used = {name.split(".")[0] for name in imports(module)} & set(THIRD_PARTY)
    assert {library for library in used if layer(module.name) not in MAY_USE[library]} == set()
    homes = {library: ONLY_IN.get(library, module.name) for library in used}
    assert {
        library for library, home in homes.items() if not f"{module.name}.".startswith(f"{home}.")
    } == set()


@EVERY_MODULE
def test_imports_stand_at_the_top(module: Module) -> None:
    lazy = {
        (module.name, function.name)
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if any(imports(module, ast.walk(function)))
    }
    assert lazy <= LAZY_FUNCTIONS


@EVERY_MODULE
def test_every_module_has_a_docstring(module: Module) -> None:
    assert not module.tree.body or ast.get_docstring(module.tree)


def test_between_our_folders_imports_are_relative() -> None:
    absolute = {
        (module.name, node.lineno)
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.ImportFrom) and not node.level and node.module)
        and node.module.split(".")[0] == "outrider"
    }
    assert absolute == set()


def test_the_engine_runs_without_llama_cpp() -> None:
    """With llama_cpp blocked; the import system raises for a module that is None."""
    modules = [f"outrider.daemon.runner.{name}" for name in NEEDS_NO_LLAMA]
    block = "import sys, importlib; sys.modules['llama_cpp'] = None"
    load = f"[importlib.import_module(name) for name in {modules}]"
    loader = f"{block}; importlib.import_module('outrider.daemon.runner.llama.context')"
    done = subprocess.run([sys.executable, "-c", f"{block}; {load}"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    blocked = subprocess.run([sys.executable, "-c", loader], capture_output=True)
    assert b"import of llama_cpp halted" in blocked.stderr


def test_there_are_no_cycles() -> None:
    graph = {
        module.name: {name for name in imports(module) if is_ours(name)} - {module.name}
        for module in MODULES.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")
