"""A deployed ensemble as an ONNX graph: a reproducible export without the exporter's console output.

Shapes: N cells of one patient, S side of a picture.
"""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import onnx
import torch
from onnxscript import opset18

from lymphtune.cohort.cohort import PICTURE_PX
from lymphtune.errors import InputError, reason
from lymphtune.training.deployed import Deployed

CELLS = "cells"  # the first input; the others are named as the attributes
OUTPUTS = ("probability", "members")
OPSET = 18
LARGEST_BYTES = 2**31 - 2**26  # of weights: an ONNX file holds up to 2 GB, the graph included


def as_onnx(deployed: Deployed, picture_px: int = PICTURE_PX) -> onnx.ModelProto:
    """Return the graph from CELLS and one input per attribute to OUTPUTS, for any number of cells.

    Raises InputError where ONNX lacks an operation of a network, or the weights are too large for one file.
    """
    n_bytes = sum(tensor.nbytes for tensor in {*deployed.parameters(), *deployed.buffers()})
    if n_bytes > LARGEST_BYTES:
        raise InputError(
            f"{n_bytes / 1e9:.1f} GB of weights; one .onnx file holds {LARGEST_BYTES / 1e9:.1f}: average fewer trials"
        )
    kinds = [torch.float32 if attribute.levels is None else torch.int64 for attribute in deployed.attributes]
    values = [torch.ones(1, dtype=kind) for kind in kinds]  # separate tensors: a shared one would become one input
    example = (torch.zeros(3, picture_px, picture_px, 3, dtype=torch.uint8), values)
    inputs = [CELLS, *(attribute.name for attribute in deployed.attributes)]
    try:
        with torch.no_grad(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            program: Any = torch.onnx.export(
                deployed,
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=OUTPUTS,
                dynamic_shapes=({0: "n_cells"}, [{0: torch.export.Dim.STATIC}] * len(values)),
                custom_translation_table={torch.ops.aten.sort.stable: _sorted},
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(f"a network of the ensemble cannot be exported to ONNX ({_cause(error)})") from error
    return _bare(program.model_proto)


def _sorted(given: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Return sorted values and their indices; TopK keeps the order of equal values."""
    return opset18.TopK(given, opset18.Shape(given, start=dim, end=dim + 1), axis=dim, largest=int(descending))


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes on source files and lines."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _cause(error: BaseException) -> str:
    """Return the first line of the error that the exporter's error was caused by."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason(error)
