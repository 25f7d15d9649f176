"""What a scheduler does in one sampling run, as a table of coefficients.

`text_to_video` can import nothing of Unsee, so this file lies beside it;
`unsee.models.sampling.sampler_table` is a link to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SamplerTable:
    """One scheduler at one number of steps, making E evaluations of the model.

    `timesteps` float32 [E]; `initial` float32 [E + 1], `pred` float32 [E + 1, E], `noise` float32
    [E + 1, N] for the N noises that are drawn: the weighted sum of the initial noise, the model's
    outputs and the drawn noises in row k < E is the k-th model input, that in row E the final
    latents. `noise` is None where none has a weight.
    """

    timesteps: Floats
    initial: Floats
    pred: Floats
    noise: Floats | None

    @property
    def num_evaluations(self) -> int:
        """E, how often the model is called."""
        return len(self.timesteps)
