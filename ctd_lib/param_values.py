"""Types of parameters' values that pydantic lacks."""

from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, PositiveInt, StringConstraints


def _from_yaml(value: Any) -> Any:
    """Papermill's `-p lengths "[128, 512]"` arrives as text."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        what = getattr(error, "problem", "it cannot be read")
        raise ValueError(f"no YAML ({what}); quote names with such signs") from None


def _as_mix(value: Any) -> Any:
    """One corpus is a mix of one."""
    value = _from_yaml(value)
    return {value: 1.0} if isinstance(value, str) else value


_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Mix = Annotated[dict[str, _Weight], BeforeValidator(_as_mix)]
"""Corpora and their weights."""
Lengths = Annotated[list[PositiveInt], Field(min_length=1), BeforeValidator(_from_yaml)]
"""Lengths in tokens."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every random generator takes, NumPy's up to 32 bits."""
Policy = Annotated[str, StringConstraints(pattern=r"^(none|first|question|every-[1-9]\d*)$")]
"""Which tokens have global attention (`tasks.policy`)."""
