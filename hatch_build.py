"""Compiles the modules in C where there is a C compiler, else the wheel is pure Python."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import CCompilerError, ExecError, PlatformError

SOURCES = sorted(path for top in ("streams", "connectors") for path in Path(top).rglob("*.pyx"))


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Puts the compiled module into the wheel, or beside its source where that is used in place."""
        self._home = tempfile.TemporaryDirectory()
        try:
            compiled = _compiled(self._home.name)
        except (CCompilerError, ExecError, PlatformError) as error:
            self.app.display_warning(f"nothing is compiled, Python does the work: {error}")
            return
        for source, module in zip(SOURCES, compiled, strict=True):
            if version == "editable":
                shutil.copy(module, source.parent)
            else:
                build_data["force_include"][str(module)] = f"{source.parent}/{module.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._home.cleanup()


def _compiled(home: str) -> list[Path]:
    """The compiled modules, in the order of :data:`SOURCES`."""
    names = [".".join(source.with_suffix("").parts) for source in SOURCES]
    extensions = [Extension(name, [str(source)]) for name, source in zip(names, SOURCES, strict=True)]
    modules = cythonize(extensions, build_dir=home, quiet=True)
    build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    build.build_temp = build.build_lib = home
    build.ensure_finalized()
    build.run()
    return [Path(build.get_ext_fullpath(name)) for name in names]
