"""The command that turns a corpus of videos into shards."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mptvc.cli.options import (
    AsJson,
    BitsPerPixel,
    ClipFrames,
    Deinterlace,
    Device,
    Dtype,
    Force8Bit,
    ProgressMode,
    Quality,
    Quiet,
    SceneDetect,
    ShowProgress,
    Strict,
    Threads,
    parse_rate,
    parse_threshold,
)
from mptvc.cli.output import EXIT_FAILED, console, counted, number_columns, print_json, say, warn
from mptvc.cli.progress import progress_callback
from mptvc.codec.memory import keep_freed_memory

if TYPE_CHECKING:
    from mptvc.corpus.summary import Summary
    from mptvc.corpus.units import Share


class Format(StrEnum):
    """What the results are."""

    MPT = "mpt"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    SAFETENSORS = "safetensors"


class Content(StrEnum):
    """What shards hold of a video."""

    TOKENS = "tokens"
    MPT = "mpt"


class Engine(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


class Parts(StrEnum):
    """What becomes of the parts of a long video."""

    JOIN = "join"
    KEEP = "keep"


def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC",
            help="Folders, patterns, videos, lists (.txt), manifests (.jsonl, .csv, .parquet), or addresses.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or address of the results.")],
    format_: Annotated[
        Format,
        typer.Option("--format", help="Shards, or a file for each video (mpt, safetensors); no sound."),
    ] = Format.MPT,
    content: Annotated[
        Content | None, typer.Option(help="What shards hold of a video: tokens, or its .mpt file.")
    ] = None,
    levels: Annotated[int | None, typer.Option(min=1, help="Levels to keep.")] = None,
    weights: Annotated[
        str, typer.Option(help="tokenizer, codec, a folder or hf://owner/name\\[@revision].")
    ] = "tokenizer",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    quality: Quality = 0.0,
    bpp: BitsPerPixel = None,
    clip_frames: ClipFrames = None,
    scene_detect: SceneDetect = "auto",
    force_8bit: Force8Bit = False,
    deinterlace: Deinterlace = False,
    strict: Strict = False,
    engine: Annotated[
        Engine, typer.Option(help="This machine, or the cluster that Ray finds.")
    ] = Engine.LOCAL,
    jobs: Annotated[int, typer.Option(min=1, help="Workers; on Ray with --device cuda, each has a GPU.")] = 1,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Do the I-th of N shares alone, I from 0: for Slurm, torchrun.")
    ] = "0/1",
    shard_units: Annotated[int, typer.Option(min=1, help="Most videos or parts of a shard.")] = 16,
    unit_s: Annotated[
        float, typer.Option("--unit-s", min=0.1, help="Seconds of the parts that long videos are cut into.")
    ] = 60.0,
    parts: Annotated[
        Parts | None,
        typer.Option(help="Join them (the default for mpt), or keep them with keys of their own."),
    ] = None,
    max_errors: Annotated[
        str | None, typer.Option(help="Stop beyond so many failures, or such a share: 1%.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where a run stopped, or refuse to.")
    ] = True,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Do again what had an error.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is to be done, and do nothing.")
    ] = False,
    progress: ShowProgress = ProgressMode.AUTO,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a corpus of videos into shards of tokens or .mpt files.

    Example: [bold]mptvc tokenize videos --out tokens --format webdataset --levels 1 --jobs 2[/]
    """
    from mptvc.corpus.run import RunOptions, missing, tokenize_corpus
    from mptvc.corpus.tokenizer import TokenizerOptions

    joins = format_ == Format.MPT if parts is None else parts == Parts.JOIN
    holds = content or (Content.MPT if format_ == Format.MPT else Content.TOKENS)
    options = RunOptions(
        format=str(format_),
        coding=TokenizerOptions(
            weights=weights,
            content=str(holds),
            levels=levels,
            rate=parse_rate(quality, bpp),
            clip_frames=clip_frames,
            shot_threshold=parse_threshold(scene_detect),
            force_8bit=force_8bit,
            deinterlace=deinterlace,
            strict=strict,
            device=device,
            dtype=dtype,
        ),
        unit_s=unit_s,
        joins=joins,
        shard_units=shard_units,
        share=_parse_share(shard),
        engine=str(engine),
        jobs=jobs,
        resumes=resume,
        retries=retry_errors,
        max_errors=max_errors,
    )
    if dry_run:
        units, tasks, waiting = missing(sources, out, options)
        if as_json:
            print_json({"videos": units, "tasks": tasks, "missing": waiting})
        say(quiet, f"{units} videos in {tasks} tasks, {waiting} of these to be done")
        return
    _prepare(threads)
    with progress_callback("tokenize", progress, quiet, unit="videos") as show:
        summary = tokenize_corpus(sources, out, options, show)
    _show(out, summary, as_json, quiet)


def _parse_share(text: str) -> "Share":
    """``I/N`` as a share."""
    from mptvc.corpus.units import Share

    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise ValueError(f"--shard is I/N such as 3/16, found {text}")
    return Share(int(index), int(count))


def _prepare(threads: int) -> None:
    import torch

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)


def _show(out: str, summary: "Summary", as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json({"output": out, **asdict(summary)})
    elif not quiet:
        speed = max(summary.seconds, 1e-9)
        table = Table(*number_columns("videos", "hours", "MiB", "bits per pixel", "videos/s", "hours/hour"))
        table.add_row(
            str(summary.videos),
            f"{summary.hours:.3f}",
            f"{summary.size_bytes / 2**20:.2f}",
            f"{summary.bpp:.4f}",
            f"{summary.done_now / speed:.2f}",
            f"{3600 * summary.hours_now / speed:.3f}",
        )
        console.print(table)
        warn(f"{counted(count, 'video')}: {kind}" for kind, count in summary.failures.items())
    say(
        quiet,
        f"{out}: {counted(summary.videos, 'video')} done, {summary.done_now} now, {summary.failed} failed",
    )
    if summary.failed:
        say(quiet, f"{out}/rows*.jsonl says which and why; --retry-errors does them again")
        raise typer.Exit(EXIT_FAILED)
