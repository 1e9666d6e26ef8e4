"""The commands about weights: show, check, download."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from mptvc.cli.options import AsJson
from mptvc.cli.output import number_columns, output_console, print_json

weights_app = typer.Typer(no_args_is_help=True, help="Show, download and check weights.")

_Named = Annotated[
    str | None,
    typer.Argument(metavar="WEIGHTS", help="Folder or hf://..., otherwise those in the package."),
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
    """Check keys, shapes, values and the exactness bound of weights.

    Example: [bold]mptvc weights check folder[/]
    """
    from mptvc.codec.weights import build_model, read_weights

    model = build_model(*read_weights(weights))
    for k in range(len(model.config.levels)):
        bound = model.level(k).entropy_model.accumulator_bound()
        print(f"level {k}: sums reach {bound:.0f} of 16777216, exact")


@weights_app.command("download")
def download(name: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME[@REVISION]")]) -> None:
    """Fetch weights from the Hub into its cache, and check them.

    Example: [bold]mptvc weights download hf://owner/name[/]
    """
    from mptvc.codec.weights import build_model, digest, read_weights

    config, tensors = read_weights(name)
    build_model(config, tensors)
    print(digest(config, tensors).hex())


def _summary(weights: str | None) -> dict[str, Any]:
    """Identity, sizes and configuration as plain data."""
    from mptvc.codec.weights import build_model, digest, is_entropy, read_weights

    config, tensors = read_weights(weights)
    model = build_model(config, tensors)
    rows = [
        {
            "level": k,
            "channels": level.channels,
            "analysis": _count(model.level(k).analysis),
            "synthesis": _count(model.level(k).synthesis),
            "entropy_model": _count(model.level(k).entropy_model),
        }
        for k, level in enumerate(config.levels)
    ]
    return {
        "weights_id": digest(config, tensors).hex(),
        "entropy_id": digest(config, {k: v for k, v in tensors.items() if is_entropy(k)}).hex(),
        "parameters": {
            "networks": sum(row["analysis"] + row["synthesis"] for row in rows),
            "entropy_model": sum(row["entropy_model"] for row in rows),
        },
        "levels": rows,
        "config": json.loads(config.to_json()),
    }


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _print(summary: dict[str, Any]) -> None:
    """Print the summary for people."""
    out = output_console()
    out.print(f"weights {summary['weights_id']}\nentropy {summary['entropy_id']}")
    columns = number_columns("level", "channels", "analysis", "synthesis", "entropy model")
    table = Table(*columns, box=None)
    for row in summary["levels"]:
        table.add_row(*(f"{value:,}" for value in row.values()))
    out.print(table)
    networks, entropy = summary["parameters"].values()
    out.print(f"parameters: networks {networks:,}, entropy model {entropy:,}, {networks + entropy:,}")
