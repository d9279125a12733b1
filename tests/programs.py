"""What runs the tests' programs one after another shares: where cargo put them, and that
nothing of one is left when the next is run."""

import ctypes
import json
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36


def executables(said):
    """The file of each test program in what cargo said in JSON, by name; `lib` has the unit tests."""
    programs = {}
    for line in said.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"]:
            target = message["target"]
            name = "lib" if "lib" in target["kind"] else target["name"]
            programs[name] = message["executable"]
    return programs


def adopt():
    """Whatever a program leaves behind becomes a child of this process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_children():
    """Kills all children, those that were adopted too, and theirs as they become ours."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid != 0:
            continue
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


def children():
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
