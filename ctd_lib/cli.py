"""Training, measurement and export as commands, for several processes and for clusters.

    accelerate launch --num_processes 2 -m ctd_lib.distill --arch longformer

Options are the parameters of the notebook of the same stage, and do the same; but where a variant
changes a parameter, an option counts even if it says what is the default, as a notebook's cannot.
"""

import argparse
import sys
from collections.abc import Sequence

from ctd_lib import params, processes
from ctd_lib.errors import CtdError

STAGES = {
    "pretrain": params.PretrainParams,
    "distill": params.DistillParams,
    "finetune": params.FinetuneParams,
    "measure": params.MeasureParams,
    "export": params.ExportParams,
}


def run(stage: str, arguments: Sequence[str] | None = None) -> int:
    """Make the artifact of a stage; an error of the user is one sentence and exit code 1."""
    given = vars(_parser(stage).parse_args(arguments))
    try:
        chosen = params.make(STAGES[stage], **given)
        from ctd_lib import pipeline

        artifact = getattr(pipeline, stage)(chosen)
    except CtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if processes.is_main():
        print(artifact.path)
    processes.end()
    return 0


def _parser(stage: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m ctd_lib.{stage}",
        description="Makes the artifact of this stage, and what is missing upstream of it.",
        allow_abbrev=False,
    )
    for name, field in STAGES[stage].__pydantic_fields__.items():
        default = "the profile's" if field.is_required() else field.default
        text = f"{_description(STAGES[stage], name)} [{default}]"
        parser.add_argument(f"--{name}", metavar="VALUE", help=text.replace("%", "%%"))
    return parser


def _description(cls: type, name: str) -> str:
    """The docstring under a field, which pydantic knows in the class that has it as its own."""
    fields = (base.__dict__.get("__pydantic_fields__", {}).get(name) for base in cls.__mro__)
    return next(field.description for field in fields if field and field.description)
