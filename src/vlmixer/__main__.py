"""`python -m vlmixer` is the `vlmixer` command."""

import sys

from vlmixer.pipeline.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
