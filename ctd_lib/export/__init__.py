"""A finished model for others to use: a hub-ready folder with a model card, ONNX, int8.

    python -m ctd_lib.export --arch longformer --role student

Options are the parameters of finetuning and `ExportParams`' own.
"""
