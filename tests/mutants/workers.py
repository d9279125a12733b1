"""Processes that run tests in parallel, each in a process namespace of its own: see `run.py`."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
# Some mutants signal every visible process: in a namespace they see only their own.
APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
APART += [] if os.geteuid() == 0 else ["--user", "--map-current-user"]


class Worker:
    """A process that runs tests: `trial.py`."""

    def __init__(self):
        self.scratch = scratch()
        self.process = subprocess.Popen(
            [*APART, sys.executable, os.path.join(HERE, "trial.py"), self.scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


def scratch():
    """Creates a folder in memory. Its short name keeps line breaks in messages the same."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"
    for name in (f"m{number}" for number in range(10)):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(memory, name))
            return os.path.join(memory, name)
    sys.exit(f"error: remove {memory}/m0 to {memory}/m9, which earlier runs left")


def in_parallel(jobs, asked, then):
    """Distributes requests to workers; calls `then` with each request and its answer, one at a time."""
    waiting, lock = queue.Queue(), threading.Lock()
    for one in asked:
        waiting.put(one)

    def work():
        worker = Worker()
        while True:
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                break
            answer = worker.ask(one)
            with lock:
                then(one, answer)
        worker.end()

    threads = [threading.Thread(target=work) for _ in range(max(jobs, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
