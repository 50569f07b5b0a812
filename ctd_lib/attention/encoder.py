"""The forward of a base model: embeddings, a plan made once, the layers, the outputs."""

import torch
from torch import Tensor

from ctd_lib.attention.swap import Swapped
from ctd_lib.errors import CtdError


class Encoder(Swapped):
    """Stands in for a native forward, which makes a T x T mask or falls back to full attention.

    A subclass gives `plan`, what all layers share of one batch: it travels to the self-attention in
    the place of the mask.
    """

    def plan(self, hidden: Tensor, valid: Tensor | None, **extra):
        """What the layers share, from the embedded batch (B, T, C) and its valid tokens (B, T)."""
        raise NotImplementedError

    def outputs(self, hidden: Tensor, hidden_states: tuple[Tensor, ...] | None):
        """The output object of the native class."""
        raise NotImplementedError

    def positions(self) -> int:
        """The longest sequence that the position embeddings take, in tokens."""
        return self.config.max_position_embeddings

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        **extra,
    ):
        """As the native class, but for attention probabilities, which are never formed.

        Raises:
            CtdError: on `output_attentions`, on masks of a wrong shape, and where the sequence is
                longer than the position embeddings.
        """
        check_inputs(input_ids, inputs_embeds, attention_mask, self.positions())
        if output_attentions or self.config.output_attentions:
            raise CtdError(
                "The fast attention never forms attention probabilities;"
                " uninstall it for output_attentions."
            )
        hidden = self.embeddings(
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
        )
        valid = None if attention_mask is None else attention_mask.bool()
        if valid is not None and valid.all():
            valid = None
        plan = self.plan(hidden, valid, **extra)

        states = [hidden]
        for layer in self.encoder.layer:
            output = layer(states[-1], attention_mask=plan)
            states.append(output if isinstance(output, Tensor) else output[0])
            if not (output_hidden_states or self.config.output_hidden_states):
                states = states[-1:]
        result = self.outputs(states[-1], tuple(states) if len(states) > 1 else None)
        return result if return_dict is not False else result.to_tuple()


def check_inputs(
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    attention_mask: Tensor | None,
    positions: int,
) -> None:
    """Refuse what a base model cannot read.

    Args:
        input_ids: (B, T); or
        inputs_embeds: (B, T, C).
        attention_mask: (B, T).
        positions: the longest sequence that the position embeddings take, in tokens.

    Raises:
        CtdError: both or neither are given, the sequence is too long, or the mask is of a wrong
            shape.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise CtdError("A forward needs either input_ids or inputs_embeds, and not both.")
    shape = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
    if shape[1] > positions:
        raise CtdError(
            f"A sequence of {shape[1]} tokens is longer than the {positions} that this model takes."
        )
    if attention_mask is not None and attention_mask.shape != shape:
        raise CtdError(
            f"attention_mask must have shape {tuple(shape)}, not {tuple(attention_mask.shape)}."
        )


def heads(linear: torch.nn.Linear, hidden: Tensor, count: int) -> Tensor:
    """A projection split into heads: (B, T, C) -> (B, T, H, D)."""
    return linear(hidden).unflatten(-1, (count, -1))
