"""Compiles the kernels of ``mptvc.native`` where a C compiler is at hand.

Without one the package is pure Python, and slower.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = "-O3 -std=c11 -fPIC -shared -fvisibility=hidden -ffp-contract=off -Wno-psabi"


class KernelsHook(BuildHookInterface):
    """Puts the library beside its sources, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; ``version`` is "editable" or "standard"."""
        folder = Path(self.root) / "src" / "mptvc" / "native"
        spec = spec_from_file_location("library", folder / "library.py")
        library = module_from_spec(spec)
        spec.loader.exec_module(library)
        built = folder / library.LIBRARY
        built.unlink(missing_ok=True)
        sources = f'-DSOURCES="{library.source_digest(folder)}"'
        compiler, files = shlex.split(os.environ.get("CC", "cc")), map(str, sorted(folder.glob("*.c")))
        command = [*compiler, *FLAGS.split(), sources, "-o", str(built), *files, "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            print(f"mptvc: without compiled kernels: {reason}", file=sys.stderr)
            return
        build_data["artifacts"].append(f"src/mptvc/native/{library.LIBRARY}")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
