"""Helpers for running test programs one after another: their paths, and the removal of processes
that one leaves behind."""

import ctypes
import json
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36


def executables(output):
    """The path of each test program in cargo's JSON output, by name; `lib` has the unit tests."""
    programs = {}
    for line in output.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"]:
            target = message["target"]
            name = "lib" if "lib" in target["kind"] else target["name"]
            programs[name] = message["executable"]
    return programs


def adopt():
    """Makes this process the parent of all orphans."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_children():
    """Kills all children, the adopted ones too, and theirs once they are adopted."""
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
