"""How each family of open-vocabulary models of transformers is asked for phrases, and which boxes come out."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.detectors.transformers_models import KEY, canvas, numbered

TEXTS_AT_A_TIME = 64
"""Phrases that OWL's text tower takes together."""
MAX_TOKENS = 77
"""Of OMDet-Turbo's texts."""


class Found(NamedTuple):
    """What an image was found to have. boxes: (n, 4) xyxy in pixels of the image; scores: (n,); texts: (n,), which
    phrase fits best; features: (n, D)."""

    boxes: Tensor
    scores: Tensor
    texts: Tensor
    features: Tensor


class Asker(Protocol):
    """A family of models, ready to be asked for some phrases."""

    template: str

    def __init__(
        self, network: Any, processor: Any, texts: Sequence[str], device: torch.device, per_prompt: int | None
    ) -> None: ...

    def ask(self, inputs: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[Found]:
        """inputs: of the image processor, for images of this shape."""
        ...


class Owl:
    """OWL-ViT and OWLv2: one box per patch of the image, compared with every phrase."""

    template = "a photo of a {}"

    def __init__(
        self, network: Any, processor: Any, texts: Sequence[str], device: torch.device, per_prompt: int | None
    ) -> None:
        self._network, self._processor = network, processor
        towers = getattr(network, network.base_model_prefix)
        parts = []
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            tokens = processor.tokenizer(
                list(texts[start : start + TEXTS_AT_A_TIME]), padding=True, truncation=True, return_tensors="pt",
                max_length=network.config.text_config.max_position_embeddings,
            ).to(device)  # fmt: skip
            parts.append(towers.get_text_features(**tokens).pooler_output)
        self._texts = torch.cat(parts)

    def ask(self, inputs: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[Found]:
        grid, _ = self._network.image_embedder(inputs["pixel_values"])
        patches = grid.flatten(1, 2)
        count = len(patches)
        logits, embeddings = self._network.class_predictor(patches, self._texts.expand(count, -1, -1))
        boxes = self._network.box_predictor(patches, grid)
        sizes = torch.tensor([shape[:2]] * count, device=boxes.device)

        def post(boxes: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
            outputs = SimpleNamespace(logits=logits, pred_boxes=boxes)
            return list(
                self._processor.image_processor.post_process_object_detection(
                    outputs, threshold=-1.0, target_sizes=sizes
                )
            )

        found, rows = post(boxes, sizes), post(numbered(boxes), torch.ones_like(sizes))
        return [
            Found(own["boxes"], own["scores"], own["labels"], states[numbers["boxes"][:, 0].long()])
            for own, numbers, states in zip(found, rows, embeddings, strict=True)
        ]


class GroundingDino:
    """Grounding DINO: each query has a score for each token of the prompt. A phrase's score is its best token's, as in
    the library's own rule; a query finds the phrase that fits best."""

    template = "{}"

    def __init__(
        self, network: Any, processor: Any, texts: Sequence[str], device: torch.device, per_prompt: int | None
    ) -> None:
        self._network = network
        tokenizer = processor.tokenizer
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        stop = tokenizer.convert_tokens_to_ids(".")
        ids = [tokenizer(text.lower(), add_special_tokens=False)["input_ids"] for text in texts]
        self._prompts = []
        for rows in chunks([len(own) + 1 for own in ids], network.config.max_text_len - 2, per_prompt, texts):
            tokens, spans = [first], []
            for row in rows:
                spans.append((len(tokens), len(tokens) + len(ids[row])))
                tokens += [*ids[row], stop]
            self._prompts.append((torch.tensor([[*tokens, last]], device=device), spans, rows[0]))
        remember(network.model.text_backbone, len(self._prompts))
        remember(network.model.backbone, 1)

    def ask(self, inputs: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[Found]:
        height, width = canvas(shape, inputs)
        count = len(inputs["pixel_values"])
        found = []
        for tokens, spans, first in self._prompts:
            prompt = tokens.expand(count, -1)
            outputs = self._network(**inputs, input_ids=prompt, attention_mask=torch.ones_like(prompt))
            chances = outputs.logits.sigmoid()
            scores, best = torch.stack([chances[..., a:b].amax(-1) for a, b in spans], -1).max(-1)
            states = outputs.intermediate_hidden_states[:, -1]
            found.append((_corners(outputs.pred_boxes, height, width), scores, best + first, states))
        return [Found(*(torch.cat([part[row] for part in parts]) for parts in zip(*found, strict=True)))
                for row in range(count)]  # fmt: skip


class OmDet:
    """OMDet-Turbo: each query has a score for each class of the prompt; the best pairs of query and class are kept, as
    many as there are queries, as in the library's own rule. Its non-maximum suppression is left to the pipeline."""

    template = "{}"

    def __init__(
        self, network: Any, processor: Any, texts: Sequence[str], device: torch.device, per_prompt: int | None
    ) -> None:
        self._network = network
        tokenizer = processor.tokenizer

        def encode(kind: str, content: list[str]) -> dict[str, Tensor]:
            encoded = tokenizer(
                content, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            return {f"{kind}_{key}": encoded[key].to(device) for key in ("input_ids", "attention_mask")}

        lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts]
        spare = len(tokenizer("Detect .")["input_ids"])
        self._prompts = []
        for rows in chunks(lengths, MAX_TOKENS - spare, per_prompt, texts):
            own = [texts[row] for row in rows]
            prompt = encode("classes", own) | encode("tasks", [f"Detect {', '.join(own)}."])
            self._prompts.append((prompt, rows[0], len(rows)))
        network.language_cache_class.capacity = len(texts)
        network.language_cache_prompt.capacity = len(self._prompts)
        remember(network.vision_backbone, 1)

    def ask(self, inputs: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[Found]:
        height, width = canvas(shape, inputs)
        pixels = inputs["pixel_values"]
        count = len(pixels)
        found = []
        for prompt, first, classes in self._prompts:
            given = {key: value.repeat(count, 1) for key, value in prompt.items()}
            structure = torch.full((count,), classes, device=pixels.device)
            outputs = self._network(
                pixel_values=pixels, classes_structure=structure, output_hidden_states=True, **given
            )
            chances = outputs.decoder_class_logits.sigmoid()
            queries = chances.shape[1]
            scores, places = chances.flatten(1).topk(queries, dim=1)
            rows = places // classes
            boxes = _corners(outputs.decoder_coord_logits, height, width)
            states = outputs.decoder_hidden_states[-1]
            taken = torch.arange(count, device=pixels.device)[:, None]
            found.append((boxes[taken, rows], scores, places % classes + first, states[taken, rows]))
        return [Found(*(torch.cat([part[row] for part in parts]) for parts in zip(*found, strict=True)))
                for row in range(count)]  # fmt: skip


ASKERS: dict[str, type[Asker]] = {
    "owlvit": Owl, "owlv2": Owl, "grounding-dino": GroundingDino, "mm-grounding-dino": GroundingDino,
    "omdet-turbo": OmDet,
}  # fmt: skip
"""By model_type of the config."""


def chunks(lengths: Sequence[int], room: int, most: int | None, texts: Sequence[str]) -> list[range]:
    """Runs of phrases, given by their lengths in tokens, that go into one prompt with this room, at most `most` each.

    Depends on the phrases alone, so that every process divides them alike. Raises CallError.
    """
    if most is not None and most < 1:
        raise CallError(f"images.detector_options.concepts_per_prompt: expected 1 or more, found {most}.")
    found, start, used = [], 0, 0
    for row, length in enumerate(lengths):
        if length > room:
            raise CallError(f"{KEY}: {texts[row]!r} has {length} tokens, and the model takes {room}. Shorten the name.")
        if used + length > room or row - start == most:
            found.append(range(start, row))
            start, used = row, 0
        used += length
    return [*found, range(start, len(lengths))]


def remember(part: nn.Module, limit: int) -> None:
    """Let a part of a network keep its last results, by the content of the tensors that it is given."""
    forward: Callable[..., Any] = part.forward
    results: dict[Any, Any] = {}

    def remembering(*given: Any, **named: Any) -> Any:
        key = _content(given)
        if key not in results:
            while len(results) >= limit:
                del results[next(iter(results))]
            results[key] = forward(*given, **named)
        return results[key]

    part.forward = remembering


def _content(given: Sequence[Any]) -> tuple[Any, ...]:
    tensors = [value for value in given if isinstance(value, Tensor)]
    return tuple((tuple(tensor.shape), tensor.cpu().numpy().tobytes()) for tensor in tensors)


def _corners(boxes: Tensor, height: float, width: float) -> Tensor:
    """Corners in pixels of relative boxes (…, 4) given by centre and size."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], -1)
