"""The one front door: `python main.py COMMAND --help`.

fit | validate | test | predict   one stage, from a config (LightningCLI)
run                               a multi-stage experiment, from a recipe
sample                            solutions of a model to problems of its training; those a grader accepts are rows to train on
iterate                           expert iteration: learn from own solutions, one operation further each round
check                             find mistakes in a config or recipe in seconds, without training
plan                              memory, FLOPs, tokens a second and hours of a config or recipe on given devices
report                            figures, tables and a page of the results of runs
ask                               put one problem to a model: its solution, each step marked right or wrong, and why
export                            write a model again as a Hugging Face folder that other libraries read alike
generate                          write problems with gold solutions as JSONL
tokenizer                         train a tokenizer
verify                            judge responses in a JSONL file

`--version` prints the version. Recipes and configs are given as files or, for those of the project, by name: `run quickstart`.

Exit status: 0 done; 1 done, with rows or arms that failed, or a bug (with its traceback); 2 usage or config error, told in one
line (`--traceback` shows where it was raised); 128 + N stopped by signal N, to be resumed.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from interplay import __version__

# Threads that wait for each other spin for some microseconds: small models hand over work that often, and processes that share
# cores must not block each other for longer. GNU OpenMP reads it when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# command -> module whose `main` runs it, imported when it is wanted
MODULES = {
    "run": "recipes.running.run_command", "sample": "recipes.rejection.rejection_sampling",
    "iterate": "recipes.expert_iteration.rounds", "check": "recipes.planning.check_command",
    "plan": "recipes.planning.plan_command", "report": "recipes.report.report_command", "ask": "recipes.trained.ask_command",
    "export": "recipes.trained.export_command", "generate": "datamodules.generate_command",
    "tokenizer": "datamodules.tokenizer_command", "verify": "recipes.verify_command",
}  # fmt: skip


def stage(argv: list[str]) -> int:
    """Run one stage through LightningCLI."""
    from recipes.cli import run_stage

    return run_stage(argv)


def other(argv: list[str]) -> int:
    """Run a command of `MODULES`."""
    return import_module(MODULES[argv[0]]).main(argv[1:])


COMMANDS = dict.fromkeys(("fit", "validate", "test", "predict"), stage) | dict.fromkeys(MODULES, other)


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch a command; config errors become one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments
    arguments = [a for a in arguments if a != "--traceback"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments[0] == "--version":
        print(f"interplay {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        return _fail(f"{arguments[0]!r} is no command; choose one of {', '.join(COMMANDS)}.")
    try:
        return COMMANDS[arguments[0]](arguments)
    except BrokenPipeError:  # whoever reads what this prints has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        resumes = "; the same command resumes where it stopped" if arguments[0] in ("run", "sample", "iterate") else ""
        print(f"interrupted{resumes}", file=sys.stderr)
        return 130
    except Exception as err:  # the boundary: a mistake of the user becomes one line
        if traceback:
            raise
        from recipes.mistakes import failed, report, told

        if (message := told(err)) is not None:
            return _fail(message)
        if (message := failed(err)) is not None:
            _fail(message)
            return 1
        report(err)
        return 1


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
