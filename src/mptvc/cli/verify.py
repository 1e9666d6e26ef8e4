"""The command that checks files."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mptvc
from mptvc.cli.options import (
    FRAMES,
    PIXELS,
    AsJson,
    Device,
    Dtype,
    MaxFrames,
    MaxPixels,
    ProgressMode,
    Quiet,
    ShowProgress,
    Threads,
    Weights,
    codec_from_options,
    source_named,
    with_folders,
)
from mptvc.cli.output import completeness, explain, print_json, show_error
from mptvc.cli.progress import Step, progress_callback
from mptvc.errors import FormatError, MptError
from mptvc.format.inspect import FileReport
from mptvc.format.limits import Limits
from mptvc.format.source import open_source

if TYPE_CHECKING:
    from mptvc.codec.codec import Codec


def verify(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IN", help=".mpt files, folders, addresses, or - for stdin."),
    ],
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode the symbols too, and print a hash of each level.")
    ] = False,
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
    codec = codec_from_options(weights, device=device, dtype=dtype, threads=threads) if deep else None
    results, code = [], 0
    names = with_folders(sources)
    for name in names:
        result: dict[str, Any] = {"file": name, "ok": True}
        show = partial(progress_callback, name, progress, quiet, unit="clips")
        try:
            report = _check(result, codec, Limits(max_pixels, max_frames), show)
            if not as_json:
                _print(result, report, quiet, several=len(names) > 1)
        except MptError as error:
            if len(names) == 1 and not as_json:
                raise
            failed, message = explain(error)
            code = max(code, failed)
            result |= {"ok": False, "error": message}
            if not as_json:
                show_error(message)
        results.append(result)
    if as_json:
        print_json(results)
    if code:
        raise typer.Exit(code)


def _check(
    result: dict[str, Any],
    codec: "Codec | None",
    limits: Limits,
    show: Callable[[], AbstractContextManager[Step]],
) -> FileReport:
    """Check one file and note in ``result`` what is found.

    Raises:
        MptError: The file cannot be opened, is damaged, holds no level, or was made with other weights.
    """
    with open_source(source_named(result["file"])) as (file, _):
        report = mptvc.verify(file, limits=limits)
        there, levels = report.available, report.header.num_levels
        result |= {"levels": levels, "complete_levels": there.levels, "next_level_share": there.next_share}
        if there.levels == 0:
            raise FormatError(f"no level is complete, {there.percent} % of level 0 has arrived")
        if codec is not None:
            with show() as step:
                result["sha256"] = mptvc.symbol_digests(file, codec=codec, limits=limits, progress=step)
    return report


def _print(result: dict[str, Any], report: FileReport, quiet: bool, several: bool) -> None:
    """Print the outcome for a sound file; quiet leaves the hashes that were asked for, and whose they are."""
    digests = result.get("sha256", ())
    if not quiet:
        print(f"{result['file']}: ok, {completeness(report.available, report.header.num_levels)}")
    elif digests and several:
        print(f"{result['file']}:")
    for level, digest in enumerate(digests):
        print(f"  level {level}  {digest}")
