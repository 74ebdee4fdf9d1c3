"""The plan: the score that the network renders. ``analysis`` measures it, ``composer`` writes it. Torch-free.

One column of a plan covers a patch of Mel frames (8 × 10 ms for the default model) and holds ``FEATURES`` numbers:

- 0 to 11: chroma, pitch classes C to B above 180 Hz, divided by the column's maximum: 0 to 1;
- 12 to 23: bass chroma, the same of 40 to 250 Hz;
- 24 to 27: onset strength in each quarter of the column: mean positive difference of the normalised Mel, times 2;
- 28: loudness, the mean of the normalised Mel;
- 29: brightness, the mean of the upper half of its bands minus that of the lower half.
"""

from typing import Final

CHROMA: Final = slice(0, 12)
BASS: Final = slice(12, 24)
ONSET: Final = slice(24, 28)
LOUDNESS: Final = 28
BRIGHTNESS: Final = 29
FEATURES: Final = 30
ONSET_PARTS: Final = 4
ONSET_GAIN: Final = 2.0
