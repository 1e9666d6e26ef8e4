"""The command line: parse, run a command, map what happens to an exit code.

Data goes to standard output only when asked for; everything else goes to standard error. Imports that
need torch or PyAV happen inside the commands that need them.
"""

import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import mptvc
from mptvc.cli.bench import bench
from mptvc.cli.compare import compare
from mptvc.cli.decode import decode
from mptvc.cli.demo import demo
from mptvc.cli.encode import encode
from mptvc.cli.env import env
from mptvc.cli.info import info
from mptvc.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, explain, show_error
from mptvc.cli.process import interrupt, is_interrupted
from mptvc.cli.tokenize import tokenize
from mptvc.cli.tokens import tokens
from mptvc.cli.train import train
from mptvc.cli.truncate import truncate
from mptvc.cli.verify import verify
from mptvc.cli.weights import weights_app

#: Stands anywhere in a command line.
_VERBOSE = ("-v", "--verbose")

app = typer.Typer(
    name="mptvc",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and leave with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    arguments = [a for a in sys.argv[1:] if a not in _VERBOSE]
    verbose = len(arguments) < len(sys.argv[1:])
    try:
        code = app(arguments or ["--help"], prog_name="mptvc", standalone_mode=False)
    except KeyboardInterrupt:
        _fail(EXIT_INTERRUPTED, "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None
    except typer.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except Exception as error:
        if verbose:
            traceback.print_exc()
        if is_interrupted():  # code below Python may turn an interruption into an error of its own
            _fail(EXIT_INTERRUPTED, "interrupted")
        _fail(*explain(error))
    if code == EXIT_INTERRUPTED:  # how the parser reports Ctrl-C
        _fail(EXIT_INTERRUPTED, "interrupted")
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(code: int, message: str) -> NoReturn:
    if message:  # a command without arguments has shown its help instead
        show_error(message)
    raise SystemExit(code) from None


for _command in (encode, decode, truncate, info, verify, compare, tokens, tokenize, train, bench, demo, env):
    app.command()(_command)
app.add_typer(weights_app, name="weights")


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
    _verbose: Annotated[bool, typer.Option(*_VERBOSE, help="Show where an error comes from.")] = False,
) -> None:
    """A neural video codec: one small file, any prefix of which plays."""
    if show_version:
        print(mptvc.__version__)
        raise typer.Exit
