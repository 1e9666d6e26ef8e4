"""The commands about weights: show, check, download."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mptvc.cli.options import AsJson, Force, ProgressMode, Quiet, ShowProgress
from mptvc.cli.output import number_columns, output_console, print_json, say, warn
from mptvc.cli.progress import progress_callback
from mptvc.files.folders import find_videos
from mptvc.format.target import refuse_existing

weights_app = typer.Typer(no_args_is_help=True, help="Show, download, check and fit weights.")

_Named = Annotated[
    str | None,
    typer.Argument(metavar="WEIGHTS", help="tokenizer, codec, a folder or hf://...; otherwise the first."),
]


@weights_app.command("show")
def show(weights: _Named = None, as_json: AsJson = False) -> None:
    """Show sizes and identity of weights.

    Example: [bold]mptvc weights show[/]
    """
    summary = _summary(weights)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


@weights_app.command("check")
def check(weights: _Named = None) -> None:
    """Check keys, shapes and values of weights, and that their integers stay exact.

    Example: [bold]mptvc weights check folder[/]
    """
    from mptvc.codec.stored import build_model
    from mptvc.codec.weights import read_weights
    from mptvc.model.loop_model import LoopLevel

    model = build_model(*read_weights(weights))
    for k in range(len(model.config.levels)):
        level = model.level(k)
        network = level.envelope if isinstance(level, LoopLevel) else level.entropy_model
        bound = network.accumulator_bound()
        print(f"level {k}: sums reach {bound:.0f} of 16777216, exact")


@weights_app.command("download")
def download(name: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME[@REVISION]")]) -> None:
    """Fetch weights from the Hub into its cache, and check them.

    Example: [bold]mptvc weights download hf://owner/name[/]
    """
    from mptvc.codec.stored import build_model, digest
    from mptvc.codec.weights import read_weights

    config, tensors = read_weights(name)
    build_model(config, tensors)
    print(digest(config, tensors).hex())


@weights_app.command("fit")
def fit(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="Videos, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    jobs: Annotated[int, typer.Option(min=1, help="Videos at a time, each in a process of its own.")] = 1,
    force: Force = False,
    progress: ShowProgress = ProgressMode.AUTO,
    quiet: Quiet = False,
) -> None:
    """Make weights with prediction: fit their tables and networks to your own videos.

    Example: [bold]mptvc weights fit videos --out mine[/]
    """
    import torch

    from mptvc.codec.stored import CONFIG_FILE, write_weights
    from mptvc.model.loop_model import LoopModel
    from mptvc.train.loop_fit import default_loop_config, fit_tables

    out.mkdir(parents=True, exist_ok=True)
    refuse_existing(out / CONFIG_FILE, force)
    videos = find_videos(data)
    torch.manual_seed(0)  # the same videos give the same weights
    model = LoopModel(default_loop_config()).eval()
    with progress_callback("fit", progress, quiet, unit="videos") as show:
        warn(fit_tables(model, videos, show, jobs=jobs))
    write_weights(model, out)
    say(quiet, f"weights are in {out}")


def _summary(weights: str | None) -> dict[str, Any]:
    """Identity, sizes and configuration as plain data."""
    from mptvc.codec.stored import build_model, digest, is_entropy, of_entropy_model
    from mptvc.codec.weights import read_weights

    config, tensors = read_weights(weights)
    build_model(config, tensors)
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    rows = []
    for k in range(len(config.levels)):
        mine = {name: size for name, size in sizes.items() if name.startswith(f"levels.{k}.")}
        tables = {name for name in mine if name.endswith(("frequencies", "row_of", "scale_of"))}
        entropy = set(filter(of_entropy_model, mine)) - tables
        rows.append(
            {
                "level": k,
                "networks": sum(mine[name] for name in mine.keys() - tables - entropy),
                "entropy_model": sum(mine[name] for name in entropy),
                "tables": sum(mine[name] for name in tables),
            }
        )
    return {
        "weights_id": digest(config, tensors).hex(),
        "entropy_id": digest(config, {k: v for k, v in tensors.items() if is_entropy(k)}).hex(),
        "parameters": {
            name: sum(row[name] for row in rows) for name in ("networks", "entropy_model", "tables")
        },
        "levels": rows,
        "config": json.loads(config.to_json()),
    }


def _print(summary: dict[str, Any]) -> None:
    """Print the summary for people."""
    out = output_console()
    out.print(f"weights {summary['weights_id']}\nentropy {summary['entropy_id']}")
    columns = number_columns("level", "networks", "entropy model", "tables")
    table = Table(*columns, box=None)
    for row in summary["levels"]:
        table.add_row(*(f"{value:,}" for value in row.values()))
    out.print(table)
    networks, entropy, tables = summary["parameters"].values()
    out.print(f"numbers: networks {networks:,}, entropy model {entropy:,}, its tables {tables:,}")
