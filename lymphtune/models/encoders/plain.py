"""The study's "Deep CNN": Table 1 without the residual sums."""

from lymphtune.models.convolution import Config, StudyEncoder
from lymphtune.registry import encoders


@encoders.register("plain", Config)
class Plain(StudyEncoder):
    """The convolutions of `resnet`, one after the other, without shortcuts."""

    def __init__(self, crop_px: int, config: Config) -> None:
        super().__init__(crop_px, config, residual=False)
