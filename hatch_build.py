"""Compiles ``streams/_encode.pyx`` where there is a C compiler; elsewhere the wheel is pure Python."""

from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import CCompilerError, ExecError, PlatformError

SOURCE = "streams/_encode.pyx"


class CustomBuildHook(BuildHookInterface[Any]):
    """As Hatchling calls it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Leaves the compiled module beside its source, and in the wheel."""
        if self.target_name != "wheel":
            return
        name = Path(SOURCE).with_suffix("").as_posix().replace("/", ".")
        out = Path(self.directory, "compiled")
        modules = cythonize([Extension(name, [SOURCE])], build_dir=str(out), quiet=True)
        build = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
        build.inplace, build.build_temp, build.build_lib = True, str(out), str(out)
        try:
            build.ensure_finalized()
            build.run()
        except (CCompilerError, ExecError, PlatformError) as error:
            self.app.display_warning(f"{SOURCE} is not compiled, Python does its work: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append("streams/*.so")
