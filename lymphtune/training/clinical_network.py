"""A fitted clinical pipeline as a PyTorch network in float64, for export to graphs without scikit-learn.

Shapes: B patients, A attributes, V support vectors, L leaves of all trees.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from lymphtune.errors import InputError


def as_network(pipeline: Pipeline) -> nn.Module:
    """Return a network from attributes [B, A], float64, not standardised, to probabilities of tumoral [B].

    Raises InputError for a model of a type that cannot be converted.
    """
    scale, model = pipeline[0], pipeline[-1]
    if type(model) not in NETWORKS:
        known = ", ".join(sorted(kind.__name__ for kind in NETWORKS))
        raise InputError(f"{type(model).__name__} cannot be converted to a network; supported models: {known}")
    return nn.Sequential(Standardised(scale.mean_, scale.scale_), NETWORKS[type(model)](model))


class Standardised(nn.Module):
    """A StandardScaler; missing values (NaN) become its mean."""

    mean_A: Tensor
    sd_A: Tensor

    def __init__(self, mean_A: np.ndarray, sd_A: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean_A", torch.as_tensor(mean_A))
        self.register_buffer("sd_A", torch.as_tensor(sd_A))

    def forward(self, attributes_BA: Tensor) -> Tensor:
        standard_BA = (attributes_BA - self.mean_A) / self.sd_A
        return torch.where(standard_BA.isnan(), 0.0, standard_BA)


class Layers(nn.Module):
    """Fully connected layers with ReLU between; a single layer is logistic regression."""

    def __init__(self, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([_fixed(weight) for weight in weights])
        self.biases = nn.ParameterList([_fixed(bias) for bias in biases])

    def forward(self, given: Tensor) -> Tensor:
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            given = (given @ weight + bias).relu()
        return (given @ last[0] + last[1]).squeeze(1).sigmoid()


class Kernel(nn.Module):
    """A support vector machine with a Gaussian kernel, and Platt's sigmoid from its score to a probability."""

    vectors_VA: Tensor
    weight_V: Tensor

    def __init__(self, calibrated: CalibratedClassifierCV) -> None:
        super().__init__()
        (parts,) = calibrated.calibrated_classifiers_
        machine, (sigmoid,) = parts.estimator, parts.calibrators
        self.register_buffer("vectors_VA", torch.as_tensor(machine.support_vectors_))
        self.register_buffer("weight_V", torch.as_tensor(machine.dual_coef_[0]))
        self.gamma, self.bias = float(machine.gamma), float(machine.intercept_[0])
        self.slope, self.offset = float(sigmoid.a_), float(sigmoid.b_)

    def forward(self, standard_BA: Tensor) -> Tensor:
        distance_BV = (standard_BA[:, None] - self.vectors_VA).square().sum(dim=2)
        score_B = ((-self.gamma * distance_BV).exp() * self.weight_V).sum(dim=1) + self.bias
        return (-(self.slope * score_B + self.offset)).sigmoid()


class Leaves(nn.Module):
    """A random forest as the boxes of its leaves, of which a patient is in one per tree."""

    low_LA: Tensor
    high_LA: Tensor
    tumoral_L: Tensor

    def __init__(self, forest: RandomForestClassifier) -> None:
        super().__init__()
        boxes = [box for tree in forest.estimators_ for box in _boxes(tree.tree_)]
        low, high, tumoral = (np.array(part) for part in zip(*boxes, strict=True))
        self.register_buffer("low_LA", torch.from_numpy(low))
        self.register_buffer("high_LA", torch.from_numpy(high))
        self.register_buffer("tumoral_L", torch.from_numpy(tumoral / len(forest.estimators_)))

    def forward(self, standard_BA: Tensor) -> Tensor:
        input_B1A = standard_BA.float().double()[:, None]  # the trees of scikit-learn compare in float32
        inside_BL = ((input_B1A > self.low_LA) & (input_B1A <= self.high_LA)).all(dim=2)
        return (inside_BL * self.tumoral_L).sum(dim=1)


def _boxes(tree: Any) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return the lower bounds [A], exclusive, upper bounds [A] and fraction of tumoral patients of each leaf."""
    leaves, whole = [], np.full(tree.n_features, np.inf)
    stack = [(0, -whole, whole)]
    while stack:
        node, low_A, high_A = stack.pop()
        left, right, feature = tree.children_left[node], tree.children_right[node], tree.feature[node]
        if left == right:  # a leaf: both are -1
            leaves.append((low_A, high_A, float(tree.value[node, 0, 1])))
            continue
        at = np.arange(tree.n_features) == feature
        stack.append((left, low_A, np.where(at, np.minimum(high_A, tree.threshold[node]), high_A)))
        stack.append((right, np.where(at, np.maximum(low_A, tree.threshold[node]), low_A), high_A))
    return leaves


def _fixed(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(value), requires_grad=False)


NETWORKS: dict[type, Callable[[Any], nn.Module]] = {
    LogisticRegression: lambda model: Layers([model.coef_.T], [model.intercept_]),
    MLPClassifier: lambda model: Layers(model.coefs_, model.intercepts_),
    CalibratedClassifierCV: Kernel,
    RandomForestClassifier: Leaves,
}
