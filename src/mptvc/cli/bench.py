"""The command that measures speed and memory."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mptvc.cli.options import (
    AsJson,
    Device,
    Dtype,
    ProgressMode,
    Quiet,
    ShowProgress,
    Threads,
    TileBatch,
    Weights,
    codec_from_options,
)
from mptvc.cli.output import number_columns, output_console, print_json, say
from mptvc.cli.progress import progress_callback

if TYPE_CHECKING:
    from mptvc.evaluate.bench import BenchResult, SizeResult

_SIZES, _SCENES = "854x480,1920x1080,3840x2160", "still,slow,fast"


def bench(
    sizes: Annotated[str | None, typer.Option(help=f"Sizes to measure; otherwise {_SIZES}.")] = None,
    frames: Annotated[str, typer.Option(help="Numbers of frames to code at each size, N,N.")] = "16",
    scenes: Annotated[
        str | None,
        typer.Option(help=f"Scenes to measure; otherwise {_SCENES}. The last is coded at all sizes."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--input", help="Code the first frames of this video instead.")
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="x264 and x265 too; with mptvc\\[peers] the Cosmos tokenizer.")
    ] = False,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    tile_batch: TileBatch = 1,
    threads: Threads = 0,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure every stage: time, memory, and how far it is from the machine's floor.

    Example: [bold]mptvc bench --sizes 854x480[/]
    """
    from mptvc.evaluate.bench import bench as measure
    from mptvc.evaluate.bench_peers import has_cosmos

    if video is not None and (sizes, scenes) != (None, None):
        raise ValueError("--input has a size and a scene of its own: leave out --sizes and --scenes")
    wanted = tuple(_size(text) for text in (sizes or _SIZES).split(","))
    moving = tuple(text.strip() for text in (scenes or _SCENES).split(","))
    numbers = [text.strip() for text in frames.split(",")]
    if not all(text.isdecimal() for text in numbers):
        raise ValueError(f"--frames is N,..., found {frames}")
    counts = tuple(map(int, numbers))
    codec = codec_from_options(weights, device=device, dtype=dtype, threads=threads, tile_batch=tile_batch)
    if peers and not has_cosmos():
        say(quiet, "without the Cosmos tokenizer: pip install 'mptvc[peers]'")
    with progress_callback("bench", progress, quiet, unit="runs") as show:
        result = measure(codec, wanted, frames=counts, scenes=moving, video=video, peers=peers, progress=show)
    if as_json:
        print_json(asdict(result))
    else:
        _print(result)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.strip().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ValueError(f"--sizes is WIDTHxHEIGHT,..., found {text}")
    return int(width), int(height)


def _print(result: "BenchResult") -> None:
    out = output_console()
    rates = {
        "matrix products": f"{result.flops_per_s / 1e9:.0f} GFLOP/s",
        "copies": f"{result.copy_bytes_per_s / 1e9:.1f} GB/s",
        "entropy coder": f"{result.coded_per_s / 1e6:.0f} / {result.read_per_s / 1e6:.0f} million symbols/s "
        "written / read",
    }
    out.print(f"{result.device}, {result.dtype}, {result.threads} threads")
    out.print(", ".join(f"{name} {rate}" for name, rate in rates.items()), soft_wrap=True)
    for size in result.sizes:
        memory = f"peak memory {size.peak_bytes / 2**30:.1f} GiB"
        out.print(f"\n{size.scene}, {size.width}x{size.height}, {size.frames} frames, {memory}", markup=False)
        out.print(_stage_table(size))
        if size.peers:
            out.print(_peer_table(size))
    first, last = result.sizes[0], result.sizes[-1]
    place = first.width, first.height, first.frames
    out.print("\nWhat the pictures hold: the cost of a pixel, and its ratio to the first")
    out.print(_scene_table([s for s in result.sizes if (s.width, s.height, s.frames) == place]))
    growing = [size for size in result.sizes if size.scene == last.scene]
    if len(growing) > 1:
        out.print("\nGrowth with size and length: the cost of a pixel, and its ratio to the first")
        out.print(_growth_table(growing))


def _stage_table(size: "SizeResult") -> Table:
    """Time of every stage at one size, and how far it is from the floor."""
    columns = number_columns("seconds", "ns/pixel", "share", "floor, s", "times floor")
    table = Table("", "stage", *columns, box=None)
    for job, stages in (("encode", size.encode), ("decode", size.decode)):
        for stage, value in stages.items():
            share = value.seconds / stages["one by one"].seconds
            numbers = (f"{value.seconds:.2f}", f"{size.ns_per_pixel(value):.1f}", f"{100 * share:.0f} %")
            far = f"{value.seconds / value.floor_s:.0f}" if value.floor_s else ""
            table.add_row(job, stage, *numbers, f"{value.floor_s:.3f}", far)
    return table


def _scene_table(sizes: "Sequence[SizeResult]") -> Table:
    """Cost of a pixel of every scene: time, operations of matrix products, and bytes that all touch."""
    names = [name for job in ("encode", "decode") for name in (f"{job}, ns/pixel", "", "FLOP", "bytes")]
    table = Table("scene", *number_columns("bits/pixel", "tokens coded", *names), box=None)
    first = sizes[0]
    for size in sizes:
        coded = " / ".join(f"{100 * share:.0f}" for share in size.coded)
        cells = [escape(size.scene), f"{size.bpp:.3f}", f"{coded} %" if coded else "all"]
        for mine, base in ((size.encode, first.encode), (size.decode, first.decode)):
            total, cost = mine["total"], size.ns_per_pixel(mine["total"])
            cells += [f"{cost:.1f}", f"{cost / first.ns_per_pixel(base['total']):.2f}"]
            cells += [f"{total.flops / size.pixels:.0f}", f"{total.touched / size.pixels:.0f}"]
        table.add_row(*cells)
    return table


def _growth_table(sizes: "Sequence[SizeResult]") -> Table:
    """Cost of a pixel at every size and length."""
    columns = number_columns("frames", "encode, ns/pixel", "", "decode, ns/pixel", "")
    table = Table("size", *columns, box=None)
    first = sizes[0]
    for size in sizes:
        cells = [f"{size.width}x{size.height}", str(size.frames)]
        for mine, base in ((size.encode, first.encode), (size.decode, first.decode)):
            cost = size.ns_per_pixel(mine["total"])
            cells += [f"{cost:.1f}", f"{cost / first.ns_per_pixel(base['total']):.2f}"]
        table.add_row(*cells)
    return table


def _peer_table(size: "SizeResult") -> Table:
    """Times of the peers as ratios to ours: above 1 they are slower."""
    mine = [size.ns_per_pixel(stages["total"]) for stages in (size.encode, size.decode)]
    columns = number_columns("encode, ns/pixel", "of ours", "decode, ns/pixel", "of ours")
    table = Table("peer", *columns, box=None)
    for peer in size.peers:
        cells = []
        for theirs, ours in zip((peer.encode_ns, peer.decode_ns), mine, strict=True):
            cells += [f"{theirs:.1f}", f"{theirs / ours:.2f}"]
        table.add_row(peer.name, *cells)
    return table
