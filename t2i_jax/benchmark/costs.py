"""Operations and bytes of a program, counted from its trace, whatever network it is of.

Operations: those of matrix products and convolutions, two for each multiply-add. Products with
padding are counted, products with the zeros that dilation puts between values are not: a transposed
convolution with a k x k kernel costs k^2 multiply-adds for each input value and output channel.

Bytes: for each matrix product or convolution, its left operand read (the layer's input; the right
one is its kernel) and its result written. Kernels, and everything between two layers, are taken to
cost nothing, so the number is a lower bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


@dataclasses.dataclass(frozen=True)
class Cost:
  """Operations, and bytes to and from memory."""

  flops: float | int = 0
  bytes: float | int = 0

  def __add__(self, other: Cost) -> Cost:
    return Cost(self.flops + other.flops, self.bytes + other.bytes)

  def __mul__(self, times: float | int) -> Cost:
    return Cost(self.flops * times, self.bytes * times)


def count(fn: Callable, *args: Any) -> Cost:
  """Cost of `fn(*args)`; nothing is computed, so arguments may be jax.ShapeDtypeStruct.

  Operations on which no result depends are not counted. A scan costs its body times its length, a
  conditional its most expensive branch, `lax.platform_dependent` its default branch: so the count
  is that of the mathematics, the same on every backend. `shard_map` costs what one device computes.
  Raises ValueError for products in a while loop, whose number of iterations is unknown."""
  traced = jax.make_jaxpr(fn)(*args).jaxpr
  needed, _ = partial_eval.dce_jaxpr(traced, True)
  return _of_program(needed)


def _of_program(program: core.Jaxpr | core.ClosedJaxpr) -> Cost:
  equations = getattr(program, "jaxpr", program).eqns
  return sum((_of_equation(equation) for equation in equations), Cost())


def _of_equation(equation: core.JaxprEqn) -> Cost:
  name, params = equation.primitive.name, equation.params
  if name in _PRODUCTS:
    left, right = (variable.aval for variable in equation.invars[:2])
    (result,) = (variable.aval for variable in equation.outvars)
    products = result.size * _PRODUCTS[name](left, right, params)
    # A result that is summed in float32 is rounded on its way to memory.
    return Cost(2 * products, (left.size + result.size) * left.dtype.itemsize)
  inner = [_of_program(program) for program in core.jaxprs_in_params(params)]
  if name == "cond":
    platforms = params.get("branches_platforms") or ()
    if None in platforms:
      return inner[platforms.index(None)]
    return max(inner, key=lambda cost: cost.flops)
  total = sum(inner, Cost())
  if name == "while" and total.flops:
    raise ValueError("products in a while loop cannot be counted: its number of turns is unknown")
  return total * (params["length"] if name == "scan" else 1)


def _of_matrix_product(left, right, params) -> int:
  (contracted, _), _ = params["dimension_numbers"]
  return math.prod(left.shape[axis] for axis in contracted)


def _of_convolution(left, right, params) -> float:
  """Per value of the result, on average: of a dilated input, most of what the taps see is zero."""
  _, features, *axes = params["dimension_numbers"].rhs_spec
  taps = math.prod(right.shape[axis] for axis in (features, *axes))
  return taps / math.prod(params["lhs_dilation"])


# Multiply-adds per value of the result.
_PRODUCTS: dict[str, Callable[..., float]] = {
  "dot_general": _of_matrix_product,
  "conv_general_dilated": _of_convolution,
}
