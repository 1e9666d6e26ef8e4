"""What the commands print of many files."""

import typer

from mptvc.cli.output import EXIT_FAILED, explain, in_options, print_json, say, show_error, warn
from mptvc.files.folders import FolderReport


def show_folder(report: FolderReport, what: str, as_json: bool, quiet: bool) -> None:
    """Print what became of many files, and leave with 1 if one has failed."""
    failed = {str(source): explain(error)[1] for source, error in report.failed.items()}
    warnings = {str(source): [*map(in_options, found)] for source, found in sorted(report.warnings.items())}
    for source, found in warnings.items():
        warn(f"{source}: {warning}" for warning in found)
    for source, message in failed.items():
        show_error(message if source in message else f"{source}: {message}")
    if as_json:
        done, skipped = list(report.done), list(report.skipped)
        print_json({"done": done, "skipped": skipped, "failed": failed, "warnings": warnings})
    counts = f"{len(report.done)} {what}, {len(report.skipped)} skipped, {len(report.failed)} failed"
    say(quiet, counts)
    if report.failed:
        raise typer.Exit(EXIT_FAILED)
