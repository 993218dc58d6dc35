"""The patch bank: concepts, their patches, and search. Needs neither Beam nor torch."""
