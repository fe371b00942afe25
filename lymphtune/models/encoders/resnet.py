"""The study's residual network: Table 1 with the shortcuts' sums."""

from lymphtune.models.convolution import Config, StudyEncoder
from lymphtune.registry import encoders


@encoders.register("resnet", Config)
class ResNet(StudyEncoder):
    """Table 1 with one residual block per stage: 1.24 M parameters at K=32 and 224 px, flattened, linear head."""

    def __init__(self, crop_px: int, config: Config) -> None:
        super().__init__(crop_px, config, residual=True)
