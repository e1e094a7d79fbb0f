"""Maximisation: one mechanism, one program, composed of parts.

Feature visualisation, DeepDream and adversarial perturbation differ only in their parts: objective, parametrisation,
transforms, regularisers, optimiser, octaves and constraint (Lucid's vocabulary). A `Recipe` holds the parts, `presets`
names good combinations, `maximize` is the program.
"""
