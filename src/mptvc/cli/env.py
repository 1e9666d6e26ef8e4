"""The command that shows versions and devices."""

import platform
from importlib.metadata import version

import mptvc
from mptvc.cli.options import AsJson
from mptvc.cli.output import print_json


def env(as_json: AsJson = False) -> None:
    """Show versions and devices, for a bug report.

    Example: [bold]mptvc env[/]
    """
    import torch

    from mptvc.native import calls

    facts: dict[str, object] = {
        "mptvc": mptvc.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "kernels": "compiled" if calls.is_available() else None,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    for package in ("torch", "numpy", "av", "constriction", "safetensors", "huggingface-hub"):
        facts[package] = version(package)
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:16} {value}")
