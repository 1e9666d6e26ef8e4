"""The commands around the codec: weights, demo, env. `cli` adds them to the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import mptvc
from mptvc.cli.options import AsJson, Force, ProgressMode, Quiet
from mptvc.cli.output import console, escape, number_columns, print_json, progress_callback, say, show_weights

weights_app = typer.Typer(no_args_is_help=True, help="Show, download and check weights.")


@weights_app.command("show")
def weights_show(
    weights: Annotated[str | None, typer.Argument(metavar="[WEIGHTS]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show sizes and identity of weights.

    Example: [bold]mptvc weights show[/]
    """
    show_weights(weights, as_json)


@weights_app.command("check")
def weights_check(
    weights: Annotated[str | None, typer.Argument(metavar="[WEIGHTS]")] = None,
) -> None:
    """Check keys, shapes, values and the exactness bound of weights.

    Example: [bold]mptvc weights check folder[/]
    """
    from mptvc.codec.weights import build_model, read_weights

    model = build_model(*read_weights(weights))
    for k in range(len(model.config.levels)):
        bound = model.level(k).entropy_model.accumulator_bound()
        print(f"level {k}: sums reach {bound:.0f} of 16777216, exact")


@weights_app.command("download")
def weights_download(
    name: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME[@REVISION]")],
) -> None:
    """Fetch weights from the Hub into its cache, and check them.

    Example: [bold]mptvc weights download hf://owner/name[/]
    """
    from mptvc.codec.weights import build_model, digest, read_weights

    config, tensors = read_weights(name)
    build_model(config, tensors)
    print(digest(config, tensors).hex())


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]")] = Path("mptvc-demo"),
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a sample, encode, truncate, decode each level, and write a contact sheet.

    Example: [bold]mptvc demo[/]
    """
    from mptvc.codec.weights import load_codec
    from mptvc.evaluate.compare import compare_file
    from mptvc.evaluate.sample import sample_frames, write_contact_sheet, write_sample
    from mptvc.files.transcode import encode_file
    from mptvc.format.target import refuse_existing

    refuse_existing(folder, force, folder=True)
    folder.mkdir(exist_ok=True)
    source, coded, sheet = folder / "sample.mkv", folder / "sample.mpt", folder / "levels.png"
    say(quiet, f"writing {source}")
    write_sample(source, force=force)
    codec = load_codec()
    with progress_callback("encode", ProgressMode.AUTO, quiet) as show:
        encode_file(source, coded, codec=codec, force=force, progress=show)
    shown = [0, 20, 40]
    rows = [sample_frames()[shown]]
    for levels in (1, 2, 3):
        prefix = folder / f"levels_{levels}.mpt"
        mptvc.truncate(coded, prefix, levels=levels, force=force)
        rows.append(codec.decompress(prefix.read_bytes()).frames[shown])
    write_contact_sheet(sheet, rows)
    columns = number_columns("bytes", "bpp", "PSNR RGB", "PSNR Y")
    table = Table("", "file", *columns, box=None)
    for levels, q in enumerate(compare_file(source, coded, codec=codec), start=1):
        name = escape(str(folder / f"levels_{levels}.mpt"))
        numbers = (f"{q.bpp:.4f}", f"{q.psnr_rgb:.2f}", f"{q.psnr_y:.2f}")
        table.add_row(q.name, name, str(q.size_bytes), *numbers)
    if not quiet:
        console.print(table)
        console.print(f"{sheet}: source, then each prefix")


def env(as_json: AsJson = False) -> None:
    """Show versions and devices, for a bug report.

    Example: [bold]mptvc env[/]
    """
    import platform
    from importlib.metadata import version

    import torch

    facts: dict[str, Any] = {
        "mptvc": mptvc.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
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
