"""The synthetic world: scenes of coloured shapes, their images and words, an exact detector, and the files that training reads."""
