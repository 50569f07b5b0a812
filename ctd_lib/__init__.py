"""Convert-Then-Distill: long-context encoders, converted, distilled and measured."""

__version__ = "0.1.0"

ARCHS = ("full", "longformer", "bigbird", "lsg", "nystromformer")
