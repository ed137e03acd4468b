"""From an expression to nested tuples, which native code is made of. It never computes one."""

from __future__ import annotations

import ast
from typing import Any

from belljar.expression import WORD, Expression

SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def tree(expression: Expression) -> Any:
    """Return ``expression`` as nested tuples, an operator first in each; numbers stay numbers.

    TypeError for what is no expression.
    """
    if not isinstance(expression, Expression):
        raise TypeError(f"an expression such as bj.exit.data != 0 is wanted here, not {expression!r}")
    return _tree(ast.parse(expression.text, mode="eval").body)


def _tree(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value & WORD
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ("~", _tree(operand))
        case ast.BinOp(left=left, op=sign, right=right) | ast.Compare(left=left, ops=[sign], comparators=[right]):
            return (SIGNS[type(sign)], _tree(left), _tree(right))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="mem"), attr=width), args=[at]):
            return ("mem", int(width[1:]) // 8, _tree(at))
        case ast.Call(func=ast.Attribute(value=inner, attr="isin"), args=[ast.List(elts=values)]):
            return ("isin", _tree(inner), [_tree(value) for value in values])
        case ast.Attribute(value=ast.Name(id=("reg" | "exit") as whose), attr=name):
            return (whose, name)
    raise TypeError(f"{ast.unparse(node)} cannot be computed natively")
