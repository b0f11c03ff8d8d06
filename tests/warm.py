"""Programs that start warm: forked from a process that has loaded the package, instead of each loading it anew."""

import os
import runpy
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

FORKS = get_context("forkserver" if os.name == "posix" else "spawn")
COMMANDS = [f"helmholtz_mim.commands.{name}" for name in ("answers", "book", "inference", "training")]
FORKS.set_forkserver_preload(["pytest", "helmholtz_mim.cli", *COMMANDS, "helmholtz_mim.engines.compiled", "helmholtz_mim.engines.rows"])


def run(words, folder, environment, outputs):
    """In a process of its own: what Python would do with these words, in a folder, and what it says goes to two files."""
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    option, what, *sys.argv[1:] = words
    sys.argv[0] = option
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


class Program:
    """`python -m module …` or `python -c code …`, started warm; used like a `subprocess.Popen` of text."""

    def __init__(self, *words, cwd=None, env=None):
        self.folder = TemporaryDirectory()
        self.outputs = [Path(self.folder.name) / name for name in ("out", "errors")]
        arguments = [*map(str, words)], str(cwd or Path.cwd()), dict(env or os.environ), self.outputs
        self.process = FORKS.Process(target=run, args=arguments, daemon=True)
        self.process.start()

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.process.kill()

    def wait(self, timeout=100):
        self.process.join(timeout)
        assert self.returncode is not None, "it takes too long"
        return self.returncode

    def communicate(self, timeout=100):
        """What it has said in the end, and what it has complained of."""
        self.wait(timeout)
        return tuple(path.read_text() for path in self.outputs)
