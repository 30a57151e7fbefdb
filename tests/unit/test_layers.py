"""The architecture as a test: every module has a layer, imports go downward only, and never in a circle."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

# From the top down: a module imports from its own layer and from those below it.
# "package.*" places a package and all in it that is not placed by its own name.
LAYERS: dict[str, tuple[str, ...]] = {
    "faces": ("pytunnel.cli.*", "pytunnel.status.display", "pytunnel.__main__", "pytunnel.sst.shim"),
    "jobs": (
        "pytunnel.service.*",
        "pytunnel.certs.*",
        "pytunnel.doctor.*",
        "pytunnel.sst.joiner",
        "pytunnel.sst.donor",
    ),
    "SST parts": ("pytunnel.sst.*",),
    "status": ("pytunnel.status.*",),
    "tunnel": ("pytunnel.tunnel.*",),
    "security": ("pytunnel.tls.*", "pytunnel.sockopt.*"),
    "transport": ("pytunnel.transport.*",),
    "ground": ("pytunnel", "pytunnel.errors", "pytunnel.confinement.*", "pytunnel.system.*"),
}
DEPTH = {place: depth for depth, places in enumerate(LAYERS.values()) for place in places}

Imports = Mapping[str, frozenset[str]]


def place_of(module: str) -> str | None:
    """The entry of LAYERS that places `module`: its own name, else the nearest package's; None if there is none."""
    if module in DEPTH:
        return module
    parts = module.split(".")
    packages = (".".join(parts[:length]) + ".*" for length in range(len(parts), 0, -1))
    return next((package for package in packages if package in DEPTH), None)


def imported_modules(node: ast.AST, package: str, known: Collection[str]) -> Iterator[str]:
    """Those of the `known` modules that an import statement in a module of `package` brings in."""
    match node:
        case ast.Import(names=aliases):
            names = [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, names=aliases, level=level):
            parents = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            source = ".".join([*parents, *([module] if module else [])])
            submodules = [f"{source}.{alias.name}" for alias in aliases]
            names = [submodule if submodule in known else source for submodule in submodules]
        case _:
            names = []
    yield from (name for name in names if name in known)


def imports_within(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> Imports:
    """For each module of `sources` (name to text), those of them that it imports, anywhere in its text.

    `packages` names those modules that are a package's `__init__`.
    """
    return {
        module: frozenset(
            name
            for node in ast.walk(ast.parse(text))
            for name in imported_modules(node, module if module in packages else module.rpartition(".")[0], sources)
        )
        for module, text in sources.items()
    }


def upward_imports(imports: Imports) -> list[str]:
    """Each import of a module in a higher layer, as "importer imports imported"."""
    depths = {module: DEPTH[place] for module in imports if (place := place_of(module)) is not None}
    return sorted(
        f"{importer} imports {imported}"
        for importer in depths
        for imported in imports[importer] & depths.keys()
        if depths[imported] < depths[importer]
    )


def import_cycle(imports: Imports) -> list[str]:
    """The modules of one circle of imports, its first one again at the end; empty if there is no circle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def project_imports() -> Imports:
    root = Path(__file__).parents[2] / "src"
    files = sorted(root.glob("pytunnel/**/*.py"))
    names = {file: ".".join(file.relative_to(root).with_suffix("").parts) for file in files}
    packages = frozenset(name.removesuffix(".__init__") for name in names.values() if name.endswith(".__init__"))
    sources = {name.removesuffix(".__init__"): file.read_text("utf-8") for file, name in names.items()}
    return imports_within(sources, packages)


def test_every_module_has_its_place_in_the_table_of_layers(project_imports: Imports) -> None:
    unplaced = [module for module in project_imports if place_of(module) is None]
    assert not unplaced, f"place {', '.join(unplaced)} in LAYERS of {Path(__file__).name}"


def test_no_module_imports_from_a_higher_layer(project_imports: Imports) -> None:
    assert upward_imports(project_imports) == []


def test_no_modules_import_each_other_in_a_circle(project_imports: Imports) -> None:
    assert import_cycle(project_imports) == []


def test_an_import_from_a_higher_layer_is_found() -> None:
    imports = imports_within({"pytunnel.tls.context": "import pytunnel.cli.main", "pytunnel.cli.main": ""})
    assert upward_imports(imports) == ["pytunnel.tls.context imports pytunnel.cli.main"]


def test_an_import_from_a_lower_layer_is_allowed() -> None:
    imports = imports_within({"pytunnel.cli.main": "import pytunnel.tls.context", "pytunnel.tls.context": ""})
    assert upward_imports(imports) == []


def test_a_circle_of_imports_is_found() -> None:
    imports = imports_within({"pytunnel.tls.a": "import pytunnel.tls.b", "pytunnel.tls.b": "import pytunnel.tls.a"})
    assert set(import_cycle(imports)) == {"pytunnel.tls.a", "pytunnel.tls.b"}


@pytest.mark.parametrize(
    "statement",
    [
        "import pytunnel.tls.settings",
        "from pytunnel.tls.settings import TlsSettings",
        "from pytunnel.tls import settings",
        "from .settings import TlsSettings",
        "from . import settings",
        "from ..tls import settings",
        "def later():\n    import pytunnel.tls.settings",
    ],
)
def test_an_import_is_seen_however_it_is_written(statement: str) -> None:
    imports = imports_within({"pytunnel.tls.context": statement, "pytunnel.tls.settings": ""})
    assert imports["pytunnel.tls.context"] == {"pytunnel.tls.settings"}


def test_a_package_s_relative_import_is_seen() -> None:
    sources = {"pytunnel.tls": "from .settings import TlsSettings", "pytunnel.tls.settings": ""}
    assert imports_within(sources, frozenset({"pytunnel.tls"}))["pytunnel.tls"] == {"pytunnel.tls.settings"}


def test_a_module_s_own_place_goes_before_its_package_s() -> None:
    assert (place_of("pytunnel.sst.donor"), place_of("pytunnel.sst.rsync"), place_of("pytunnel.new")) == (
        "pytunnel.sst.donor",
        "pytunnel.sst.*",
        None,
    )
