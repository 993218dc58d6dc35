"""`vlmixer`, and `python -m vlmixer`: the command. Ctrl-C is handled from the first moment to the last."""

import sys

from vlmixer.artifacts import interrupts


def main() -> int:
    """Run the command with the arguments of the process. Returns its exit code."""
    interrupts.exit_at_once()
    from vlmixer.pipeline.commands.main import main as command

    code = command()
    interrupts.exit_at_once()
    return code


if __name__ == "__main__":
    sys.exit(main())
