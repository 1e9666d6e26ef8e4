"""Models with random networks that all do something; fresh ones hand much on as it is."""

import torch

from mptvc.model.config import ModelConfig
from mptvc.model.model import Model


def stirred(config: ModelConfig, seed: int) -> Model:
    """A model whose blocks change what they see, and whose latents do not all round to nothing."""
    torch.manual_seed(seed)
    model = Model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention.out.weight", "mlp_out.weight", "embed_base.weight")):
                parameter.normal_(0, 0.2)
            if name.endswith("analysis.head.weight"):
                parameter.mul_(8)
    return model
