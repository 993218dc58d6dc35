"""What the Flex Template's launcher starts. It wants a file, not a module."""

from vlmixer.pipeline.jobs.flex import main

if __name__ == "__main__":
    main()
