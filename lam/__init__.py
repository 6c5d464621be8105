"""Latent action models, compared fairly.

Letters used for shapes in every docstring and shape comment of the package:

====== ==================================================================
B      clips in a batch
F      frames of a clip
H, W   height and width of a frame, in pixels
T      states of a clip, T = F / frames_per_state
N      tokens of a state, N = rows * columns of the encoder's grid
D      width of a token
L      latent tokens of a transition
A      width of a latent token
C      codes of a transition
K      codes in a codebook
U      numbers of a recorded action
====== ==================================================================
"""
