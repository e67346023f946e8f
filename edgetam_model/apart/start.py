"""The first lines of a decoder's process: `python -I -S start.py KIND CONNECTION CANVAS MEMORY FOLDERS`.

A script and not a module: neither the environment nor the working directory decide what it loads.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path[:] = sys.argv[5].split(os.pathsep)

    from edgetam_model.apart.child import main

    main(*sys.argv[1:5])
