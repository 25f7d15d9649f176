"""The embedded base: a small drawn world and the diffusion models trained on it.

Everything here is made from scratch: the renderer draws the training data, the captions
describe it, and the judge is trained on the renderer's ground truth alone, so it never
learns the generator's mistakes.
"""
