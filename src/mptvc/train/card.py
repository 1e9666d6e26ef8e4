"""The model card of trained weights: what they were trained on, how, and what they reach."""

import csv
import platform
from pathlib import Path

import torch

from mptvc.train.config import TrainConfig
from mptvc.train.run import SETTINGS_FILE, TrainResult

_MANIFEST = "MANIFEST.tsv"


def model_card(
    result: TrainResult,
    config: TrainConfig,
    videos: list[Path],
    held_out: frozenset[str],
    device: str,
    init: str | None,
) -> str:
    """Markdown for the README of a weights folder.

    Licences and origins come from a ``MANIFEST.tsv`` with the columns ``file``, ``source_repo``, ``path`` and
    ``licence`` in a video's folder or the one above; without one, the files are listed by name.

    Args:
        result: The finished run.
        config: How it was trained.
        videos: Files it was trained and validated on.
        held_out: Names of the shots it was validated on.
        device: Where it was trained.
        init: Name of the weights it started from.
    """
    minutes = ", ".join(f"{seconds / 60:.0f}" for seconds in result.seconds)
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    threads = "" if device.startswith("cuda") else f", {torch.get_num_threads()} threads"
    lines = [
        "# Weights for mptvc",
        "",
        f"Trained with `mptvc train` for {minutes} minutes (levels 0, 1, 2) on {hardware}{threads}, "
        f"torch {torch.__version__.split('+')[0]}, starting from {init or 'the KLT of the data'}. "
        f"All settings: `{SETTINGS_FILE}`.",
        "",
        f"Quantization steps {list(config.quantization_steps)}, "
        f"{config.steps or config.minutes} {'steps' if config.steps else 'minutes'} scheduled.",
        "",
        *_ladder(result.held_out, held_out),
        "## Data",
        "",
        *_data(videos),
    ]
    return "\n".join(lines) + "\n"


def _ladder(rows: list[dict[str, float]], held_out: frozenset[str]) -> list[str]:
    if not rows:
        return []
    shots = ", ".join(sorted(held_out))
    return [
        "## Held-out rate and quality",
        "",
        f"Mean over the first clip of shots that were not trained on ({shots}), 384 x 384 centre crop.",
        "",
        "| levels | bits per pixel | PSNR RGB, dB |",
        "|---|---|---|",
        *(f"| {k} | {row['bpp']:.4f} | {row['psnr']:.2f} |" for k, row in enumerate(rows, start=1)),
        "",
    ]


def _data(videos: list[Path]) -> list[str]:
    known: dict[str, dict[str, str]] = {}
    for folder in sorted({parent for video in videos for parent in video.absolute().parents[:2]}):
        if (folder / _MANIFEST).is_file():
            with open(folder / _MANIFEST, newline="") as file:
                known |= {
                    Path(row.get("file") or "").name: row for row in csv.DictReader(file, delimiter="\t")
                }
    lines = ["| file | origin | licence |", "|---|---|---|"]
    for video in videos:
        row = known.get(video.name, {})
        origin = f"{row.get('source_repo', '')} {row.get('path', '')}".strip()
        lines.append(f"| {video.name} | {origin} | {row.get('licence', 'not stated')} |")
    return lines
