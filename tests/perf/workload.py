"""Generates the projects: layered graphs from a seed, the same for every tool.

Each target reads about ten files of its own folder and the outputs of two targets of the layer
above, and writes one file.
"""

import dataclasses
import itertools
import os
import pathlib
import random
import shutil

SEED = 4
GENERATOR = 1  # increment when the same seed generates other trees

COMMENT = b"# comment %012d\n"
COMMENT_LENGTH = len(COMMENT % 0)


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a project."""

    name: str
    layers: int
    width: int
    files: int
    bytes: int
    rounds: int

    @property
    def targets(self):
        return self.layers * self.width

    @property
    def output_bytes(self):
        return min(self.bytes, 1 << 20)


SIZES = {
    size.name: size
    for size in [
        Size("small", 5, 2, 20, 4096, 15),
        Size("medium", 10, 100, 10, 4096, 9),
        Size("large", 10, 1000, 10, 1024, 5),
        Size("bigfiles", 5, 4, 5, 20 << 20, 5),
        Size("huge", 10, 10_000, 10, 100, 3),
    ]
}


class Project:
    """One tool's copy of a project. `inside` puts each output into its target's folder,
    for tools that can only cache files there; others write to `out/`."""

    def __init__(self, folder, size, inside=False):
        self.folder = pathlib.Path(folder)
        self.size = size
        self.inside = inside
        self.targets = range(size.targets)
        self.last_layer = range(size.targets - size.width, size.targets)
        self.aside = self.folder.parent / "aside" / self.folder.name
        self.numbers = itertools.count()

    def name(self, target):
        return f"t{target:06}"

    def source_folder(self, target):
        return f"src/{self.name(target)}"

    def sources(self, target):
        folder = self.source_folder(target)
        return [f"{folder}/s{n:02}.dat" for n in range(self.size.files)]

    def output(self, target):
        folder = self.source_folder(target) if self.inside else "out"
        return f"{folder}/{self.name(target)}.out"

    def needs(self, target):
        layer, at = divmod(target, self.size.width)
        if layer == 0:
            return []
        above = (layer - 1) * self.size.width
        return sorted({above + at, above + (at + 1) % self.size.width})

    def command(self, target, mix, salt="0"):
        """Returns the command of a target, to be run in the project's folder."""
        needs = [self.output(need) for need in self.needs(target)]
        size = str(self.size.output_bytes)
        return [str(mix), self.output(target), size, salt, self.source_folder(target), *needs]

    def path(self, name):
        return self.folder / name

    def generate(self):
        """Writes the sources, or restores their generated content."""
        self.tidy()
        stamp = f"{GENERATOR} {SEED} {self.size} {self.inside}\n"
        if self._read(".generated") == stamp:
            self._undo_edits()
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.path("out").mkdir(parents=True)
        for target in self.targets:
            self.path(self.source_folder(target)).mkdir(parents=True)
            for n, source in enumerate(self.sources(target)):
                self._write_source(target, n, source)
        self.path(".generated").write_text(stamp)

    def edit(self, target, number):
        """Changes the content of a target's first source."""
        self._overwrite(target, COMMENT_LENGTH, b"%012d" % number)

    def edit_comment(self, target, number):
        """Changes a source without changing the output."""
        self._overwrite(target, 0, COMMENT % number)

    def touch(self, target):
        os.utime(self.path(self.sources(target)[0]))

    def delete_outputs(self):
        for target in self.targets:
            self.stash(self.output(target))

    def stash(self, name):
        """Moves a file or folder out of the project, to be deleted after all measurements.

        For minutes after a deletion, ext4 creates files slowly: it does not reuse the freed
        inodes, but checks each of them when it searches for a free one.
        """
        path = self.path(name)
        if os.path.lexists(path):
            self.aside.mkdir(parents=True, exist_ok=True)
            path.rename(self.aside / str(next(self.numbers)))

    def tidy(self):
        """Deletes the stashed files."""
        shutil.rmtree(self.aside, ignore_errors=True)

    def outputs_are_there(self):
        return all(self.path(self.output(target)).exists() for target in self.last_layer)

    def _write_source(self, target, n, source):
        seed = (SEED * 1_000_003 + target) * 1_000 + n
        comment = COMMENT % 0
        body = random.Random(seed).randbytes(self.size.bytes - len(comment))
        self.path(source).write_bytes(comment + body)

    def _overwrite(self, target, at, content):
        source = self.sources(target)[0]
        with open(self.path(".edited"), "a") as edited:
            edited.write(f"{target}\n")
        with open(self.path(source), "r+b") as file:
            file.seek(at)
            file.write(content)

    def _undo_edits(self):
        for target in sorted({int(line) for line in self._read(".edited").split()}):
            self._write_source(target, 0, self.sources(target)[0])
        self.path(".edited").unlink(missing_ok=True)

    def _read(self, name):
        try:
            return self.path(name).read_text()
        except FileNotFoundError:
            return ""
