"""The program that the Flex Template's launcher starts. The launcher needs a file, not a module."""

from vlmixer.pipeline.jobs.dataflow import main

if __name__ == "__main__":
    main()
