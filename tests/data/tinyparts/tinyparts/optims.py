"""An optimizer that is not ours."""

import torch

from core.api import Optim


class Plain(Optim):
    """Gradient descent."""

    def __init__(self, options):
        self.lr = options.lr
        self.momentum = options.momentum

    def build(self, groups):
        return torch.optim.SGD([dict(group) for group in groups], lr=self.lr, momentum=self.momentum)
