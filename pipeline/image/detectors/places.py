"""Where a detector of the user's own is looked for."""

import os
from pathlib import Path


def import_paths(config: str) -> tuple[str, ...]:
    """Folders in which a detector of the user's own may be: the working folder, the config file's folder, and in a
    checkout the repository, so that `examples.…` is found from anywhere.

    config: the file's path. The loader appends the folders to `sys.path`, in the command and in its workers, so that
    nothing in them hides an installed package.
    """
    checkout = Path(__file__).resolve().parents[3]
    examples = [str(checkout)] if (checkout / "examples").is_dir() else []
    return tuple(dict.fromkeys([os.getcwd(), str(Path(config).resolve().parent), *examples]))
