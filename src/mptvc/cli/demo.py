"""The command that shows what the codec does, with nothing at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mptvc.cli.options import Force, ProgressMode, Quiet
from mptvc.cli.output import console, number_columns, say
from mptvc.cli.progress import progress_callback

if TYPE_CHECKING:
    from mptvc.evaluate.metrics import Quality

#: Frames of the sample on the contact sheet.
_SHOWN = [0, 20, 40]


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")] = Path("mptvc-demo"),
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
    from mptvc.format.inspect import truncate
    from mptvc.format.target import refuse_existing

    refuse_existing(folder, force, folder=True)
    folder.mkdir(exist_ok=True)
    source, coded, sheet = folder / "sample.mkv", folder / "sample.mpt", folder / "levels.png"
    say(quiet, f"writing {source}")
    write_sample(source, force=force)
    codec = load_codec()
    with progress_callback("encode", ProgressMode.AUTO, quiet) as show:
        encode_file(source, coded, codec=codec, force=force, progress=show)
    rows = [sample_frames()[_SHOWN]]
    for levels in (1, 2, 3):
        prefix = _prefix(folder, levels)
        truncate(coded, prefix, levels=levels, force=force)
        rows.append(codec.decompress(prefix.read_bytes()).frames[_SHOWN])
    write_contact_sheet(sheet, rows, force=force)
    qualities = compare_file(source, coded, codec=codec)
    if not quiet:
        console.print(_table(folder, qualities))
        console.print(f"{sheet}: source, then each prefix")


def _prefix(folder: Path, levels: int) -> Path:
    return folder / f"levels_{levels}.mpt"


def _table(folder: Path, qualities: "list[Quality]") -> Table:
    columns = number_columns("bytes", "bpp", "PSNR RGB", "PSNR Y")
    table = Table("", "file", *columns, box=None)
    for levels, q in enumerate(qualities, start=1):
        numbers = (f"{q.bpp:.4f}", f"{q.psnr_rgb:.2f}", f"{q.psnr_y:.2f}")
        table.add_row(q.name, escape(str(_prefix(folder, levels))), str(q.size_bytes), *numbers)
    return table
