"""The commands on `.mpt` files that need no video: truncate, info, verify, tokens."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import mptvc
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    Device,
    Dtype,
    Force,
    MaxFrames,
    MaxPixels,
    ProgressMode,
    Quiet,
    ShowProgress,
    Threads,
    Weights,
    codec_from_options,
    parse_size,
)
from mptvc.cli.output import (
    console,
    counted,
    describe,
    escape,
    explain,
    output_console,
    print_check,
    print_json,
    print_report,
    progress_callback,
    say,
    show_weights,
)
from mptvc.errors import FormatError, MptError
from mptvc.format.bitstream import Limits
from mptvc.format.target import refuse_existing


def truncate(
    source: Annotated[str, typer.Argument(metavar="IN", help=".mpt file, or - for stdin.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help=".mpt file, or - for stdout.")],
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to keep.")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Largest size, such as 2MiB.")] = None,
    max_bitrate: Annotated[str | None, typer.Option(help="Largest mean bits a second, such as 1.5M.")] = None,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Keep a prefix: byte for byte the first bytes of the file.

    Example: [bold]mptvc truncate out.mpt small.mpt --levels 1[/]
    """
    if sum(limit is not None for limit in (levels, max_bytes, max_bitrate)) != 1:
        raise ValueError("give one of --levels, --max-bytes and --max-bitrate")
    report = mptvc.truncate(
        sys.stdin.buffer if source == "-" else source,
        sys.stdout.buffer if target == "-" else target,
        levels=levels,
        max_bytes=None if max_bytes is None else int(parse_size(max_bytes, 1000)),
        max_bitrate=None if max_bitrate is None else parse_size(max_bitrate, 1000),
        force=force,
        limits=Limits(max_pixels, max_frames),
    )
    kept = report.available.levels
    if as_json and target != "-":
        print_json({"output": target, "levels": kept, "bytes": report.size_bytes})
    say(quiet, f"{target}: {report.size_bytes} bytes, {counted(kept, 'level')}")


def info(
    sources: Annotated[list[str] | None, typer.Argument(metavar="IN...")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Show weights instead: a folder, hf://..., or 'default'."),
    ] = None,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    as_json: AsJson = False,
) -> None:
    """Show what a file holds: geometry, shots, and the bytes of every prefix.

    Example: [bold]mptvc info out.mpt[/]
    """
    if weights is not None:
        show_weights(weights, as_json)
        return
    if not sources:
        raise ValueError("name at least one file, or --weights")
    out, found, failures = output_console(), [], []
    for name in sources:
        try:
            report = mptvc.probe(_input(name), limits=Limits(max_pixels, max_frames))
        except MptError as error:
            if len(sources) == 1:
                raise
            console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            failures.append(error)
            continue
        found.append({"file": name, **describe(report)})
        if not as_json:
            print_report(out, name, report)
    if as_json:
        print_json(found)
    if failures:
        raise typer.Exit(max(explain(error)[0] for error in failures))


def verify(
    sources: Annotated[list[str], typer.Argument(metavar="IN...")],
    deep: Annotated[bool, typer.Option("--deep", help="Decode the symbols too, and print a hash.")] = False,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check the checksums of files; --deep also decodes the symbols.

    A prefix that holds a whole level is in order; one that does not is incomplete.

    Example: [bold]mptvc verify out.mpt --deep[/]
    """
    results, failures, limits = [], [], Limits(max_pixels, max_frames)
    codec = codec_from_options(weights, device, dtype, "auto", 1, threads) if deep else None
    for name in sources:
        result: dict[str, Any] = {"file": name, "ok": True}
        try:
            data = _input(name)
            report = mptvc.verify(data, limits=limits)
            there, levels = report.available, report.header.num_levels
            result |= {"levels": levels, "complete_levels": there.levels}
            result["next_level_share"] = there.next_share
            if there.levels == 0:
                share = f"{100 * there.next_share:.0f} % of level 0"
                raise FormatError(f"{name}: no level is complete, {share} has arrived")
            if codec is not None:
                with progress_callback(name, progress, quiet, unit="clips") as show:
                    result["sha256"] = mptvc.symbol_digests(data, codec=codec, limits=limits, progress=show)
        except MptError as error:
            if len(sources) == 1 and not as_json:
                raise
            result |= {"ok": False, "error": str(error)}
            failures.append(error)
        results.append(result)
        if not as_json:
            print_check(result, quiet)
    if as_json:
        print_json(results)
    if failures:
        raise typer.Exit(max(explain(error)[0] for error in failures))


def tokens(
    source: Annotated[str, typer.Argument(metavar="IN", help=".mpt or .safetensors file.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The other of the two.")],
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to export.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    max_pixels: MaxPixels = PIXELS,
    max_frames: MaxFrames = FRAMES,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the tokens of a file as safetensors, or a file from such tokens.

    Example: [bold]mptvc tokens out.mpt tokens.safetensors[/]
    """
    back = Path(target).suffix == ".mpt"
    if (Path(source).suffix == ".safetensors") != back or not (back or Path(target).suffix == ".safetensors"):
        raise ValueError("tokens goes from .mpt to .safetensors, or from .safetensors to .mpt")
    if back and levels is not None:
        raise ValueError("--levels is for the way out: a file needs the tokens of all levels")
    limits = Limits(max_pixels, max_frames)
    refuse_existing(Path(target), force)
    codec = codec_from_options(weights, device, dtype, "auto", 1, threads)
    if back:
        header = mptvc.import_tokens(source, target, codec=codec, force=force, limits=limits)
    else:
        header = mptvc.export_tokens(source, target, levels=levels, codec=codec, force=force, limits=limits)
    kept = header.num_levels if back else levels or mptvc.probe(source, limits=limits).available.levels
    shapes = [
        [header.shots.num_slices, *header.geometry.grid(k), codec.model.config.levels[k].channels]
        for k in range(kept)
    ]
    if as_json:
        print_json({"output": target, "levels": shapes})
    say(quiet, f"{target}: tokens {', '.join('x'.join(map(str, shape)) for shape in shapes)}")


def _input(name: str) -> str | bytes:
    """A path, or all of standard input."""
    return sys.stdin.buffer.read() if name == "-" else name
