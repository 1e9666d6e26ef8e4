"""Compiles the kernels of ``mptvc.native`` where a C compiler is at hand; without one the package is pure Python."""

import os
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = "-O3 -std=c11 -fPIC -shared -fvisibility=hidden -ffp-contract=off"


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
        compiler = shlex.split(os.environ.get("CC", "cc"))
        command = [*compiler, *FLAGS.split(), sources, "-o", str(built), *map(str, sorted(folder.glob("*.c"))), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"mptvc: without compiled kernels: {error}\n{getattr(error, 'stderr', '') or ''}", file=sys.stderr)
            return
        build_data["artifacts"].append(f"src/mptvc/native/{library.LIBRARY}")
        build_data["pure_python"], build_data["infer_tag"] = False, True
