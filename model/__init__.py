"""The trainer's side: network, objectives, data, training and evaluation; needs no Beam and no spaCy.

Nothing is imported here, so that `import model` stays light; see `model.train` and `model.evaluate`.
"""
