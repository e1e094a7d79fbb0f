"""Style transfer: by optimisation (Gatys et al. 2016), and by a network that learned one style (Johnson et al. 2016).

Both measure style and content by the same perceptual losses.
"""
