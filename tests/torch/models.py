# SPDX-License-Identifier: MIT
"""The models of the tests. Whole-module checkpoints name their classes as models.NAME."""
import torch
from torch import nn


class Net(nn.Module):
    """The model of PyTorch's tutorial on saving and loading."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class Small(nn.Module):
    """Convolution, batch norm (buffers), a linear layer: a checkpoint of a few KiB."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(x.reshape(-1, 8))


class Tied(nn.Module):
    """Tied weights, a buffer that is not persistent, a parameter that is None, a child used twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm = nn.LayerNorm(4)
        self.again = self.norm
        self.register_parameter("absent", None)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1))])

    def forward(self, x):
        return self.head(self.again(self.norm(self.embed(x)))) * self.scale


def fill(module):
    """Small distinct numbers without a random generator, so that files made twice are equal."""
    with torch.no_grad():
        for i, t in enumerate(module.state_dict(keep_vars=True).values()):
            n = t.numel()
            values = (torch.arange(n, dtype=torch.int64) * 37 + i * 11) % 97 - 48
            t.copy_((values.to(torch.float64) / 128).reshape(t.shape).to(t.dtype))
    return module
