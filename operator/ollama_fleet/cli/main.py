"""`kubectl ollama`: the fleet on a terminal."""

import logging
import os
import sys

import click
from click.shell_completion import get_completion_class

from ollama_fleet import __version__
from ollama_fleet.cli.changing import cordon, pull, uncordon
from ollama_fleet.cli.chatting import chat
from ollama_fleet.cli.checking import doctor
from ollama_fleet.cli.dashboard import dashboard
from ollama_fleet.cli.distributing import distribute
from ollama_fleet.cli.fitting import fit_command
from ollama_fleet.cli.keys import keys
from ollama_fleet.cli.logs import logs
from ollama_fleet.cli.looking import models, nodes, status
from ollama_fleet.cli.pausing import resume, suspend
from ollama_fleet.cli.retrying import retry
from ollama_fleet.cli.session import INTERRUPTED
from ollama_fleet.cli.top import top

PROGRAM = "kubectl-ollama"
VARIABLE = "_KUBECTL_OLLAMA_COMPLETE"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def program() -> None:
    """See and drive a fleet of Ollama servers."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete it."""
    made = get_completion_class(shell)
    if made is not None:
        click.echo(made(program, {}, PROGRAM, VARIABLE).source())


_LOOKING = (status, top, nodes, models, fit_command, logs, dashboard, doctor)
_ACTING = (pull, distribute, chat, retry, suspend, resume, cordon, uncordon, keys)
for one in (*_LOOKING, *_ACTING, completion):
    program.add_command(one)


def main() -> None:
    """Run one command; its exit code tells."""
    # what a port has to say is told by the commands, or not at all
    logging.disable(logging.CRITICAL)
    try:
        program(prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        raise SystemExit(0) from None
    except click.Abort:
        raise SystemExit(INTERRUPTED) from None
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        click.echo(f"error: {error.format_message()} See {path} --help.", err=True)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # whoever read it has had enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        click.echo(f"error: {PROGRAM} itself is wrong here ({what}): report it, please", err=True)
        raise SystemExit(1) from None
