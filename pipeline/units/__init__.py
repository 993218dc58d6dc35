"""Resumable units of work, without Beam: plan, then work, then publish.

A stage is planned as units of work (plan.py, unit.py). A unit writes its files, each published by rename, and last its
result under OUT/work/STAGE (doing.py, results.py); a unit with a result is done and is never done again. When all units
are done, the stage's manifest is made of their results and published, and the work folder is removed (finishing.py). A
plan that differs from the one that was begun is refused. pipeline/jobs runs the units on Beam.
"""
