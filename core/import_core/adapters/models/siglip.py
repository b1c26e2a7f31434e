"""SigLIP by onnxruntime: texts and images to vectors of one space, in threads of its own.

What goes in and comes out is the model's own: texts in lower case, 64 tokens, filled up with `</s>` (id 1), which the
model was trained with and reads; images squashed to its size; the graph's pooled output, which is not of length 1 yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from import_core.adapters.images.decoding import restrict_loaders
from import_core.adapters.models.folder import (
    ImagePreparation,
    ModelFolder,
    checksum_of,
    open_folder,
    unusable,
)
from import_core.adapters.models.preparation import prepare_image
from import_core.adapters.packages import optional
from import_core.adapters.vectors.base import DIMENSIONS
from import_core.domain.errors import EmbeddingFailedError, ItemError

TOKENS = 64
PADDING, PADDING_ID = "</s>", 1
LONGEST_TEXT = 4096
"""Characters that are looked at: 64 tokens are a few hundred."""
PIXELS, IDS = "pixel_values", "input_ids"
OUTPUTS = {PIXELS: ("image_embeds", "pooler_output"), IDS: ("text_embeds", "pooler_output")}
"""By input, the names under which exports give the pooled output."""
_TYPES = {PIXELS: "tensor(float)", IDS: "tensor(int64)"}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Graph:
    """A loaded graph and which of its outputs is meant; `also` is fed where one graph needs both inputs."""

    session: Any
    input: str
    output: str
    also: dict[str, Any]

    def run(self, values: Any) -> Any:
        """The pooled output, one row for each row of `values` (blocking)."""
        return self.session.run([self.output], {self.input: values, **self.also})[0]


class SiglipEmbedder:
    """Made by `load_siglip`. Raises EmbeddingFailedError where the model fails on what it is given.

    One batch is computed at a time, in `threads` threads; callers wait for their turn.

    A batch that is being computed can't be ended from outside: who is cancelled leaves it behind.
    """

    def __init__(
        self,
        *,
        checksum: str,
        images: Graph,
        texts: Graph,
        tokenizer: Any,
        preparation: ImagePreparation,
        threads: int,
        batch: int,
    ) -> None:
        self.checksum = checksum
        self._images = images
        self._texts = texts
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._batch = batch
        restrict_loaders()
        self._computing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._decoding = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="embedding-images")

    async def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text; of a long one, its beginning."""
        vectors: list[list[float]] = []
        for at in range(0, len(texts), self._batch):
            part = texts[at : at + self._batch]
            vectors += await self._compute(self._compute_texts, part)
        return vectors

    async def embed_images(self, images: Sequence[bytes]) -> list[list[float] | None]:
        """One vector for each encoded image; None for one that can't be decoded."""
        vectors: list[list[float] | None] = []
        for at in range(0, len(images), self._batch):
            part = images[at : at + self._batch]
            prepared = await asyncio.gather(
                *(self._run(self._decoding, self._prepare, content) for content in part)
            )
            usable = [pixels for pixels in prepared if pixels is not None]
            computed = iter(await self._compute(self._compute_images, usable) if usable else ())
            vectors += [None if pixels is None else next(computed) for pixels in prepared]
        return vectors

    async def aclose(self) -> None:
        """Wait for what is being computed and end the threads."""
        for executor in (self._decoding, self._computing):
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    def check(self) -> None:
        """Compute one text and one image (blocking). Raises ValueError for outputs of another kind."""
        import numpy

        blank = numpy.zeros((3, self._preparation.height, self._preparation.width), dtype=numpy.float32)
        self._compute_texts(["a"])
        self._compute_images([blank])

    async def _compute(self, work: Callable[[Sequence[Any]], Result], part: Sequence[Any]) -> Result:
        try:
            return await self._run(self._computing, work, part)
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise EmbeddingFailedError(f"the embedding model failed: {_line(error)}") from error

    async def _run(
        self, executor: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any
    ) -> Result:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    def _prepare(self, content: bytes) -> Any:
        try:
            return prepare_image(content, self._preparation)
        except ItemError:
            return None

    def _compute_images(self, pixels: Sequence[Any]) -> list[list[float]]:
        import numpy

        return _unit_rows(self._images.run(numpy.stack(pixels)), len(pixels))

    def _compute_texts(self, texts: Sequence[str]) -> list[list[float]]:
        import numpy

        encoded = self._tokenizer.encode_batch([text[:LONGEST_TEXT].lower() for text in texts])
        ids = numpy.asarray([one.ids for one in encoded], dtype=numpy.int64)
        return _unit_rows(self._texts.run(ids), len(texts))


def load_siglip(path: Path, *, threads: int = 2, batch: int = 8) -> SiglipEmbedder:
    """Load a model's folder (blocking, seconds for a real one) and try it.

    Raises ModelUnusableError for a folder that does not hold a SigLIP of 768 dimensions, and MissingPackageError.
    """
    folder = open_folder(path)
    runtime = optional("onnxruntime", extra="enrich", purpose="Embedding")
    tokenizer = _open_tokenizer(folder)
    sessions = {graph: _open_session(runtime, folder, graph, threads) for graph in _graphs(folder)}
    embedder = SiglipEmbedder(
        checksum=checksum_of(path),
        images=_find_graph(folder, sessions[folder.image_graph], PIXELS),
        texts=_find_graph(folder, sessions[folder.text_graph], IDS),
        tokenizer=tokenizer,
        preparation=folder.preparation,
        threads=threads,
        batch=batch,
    )
    try:
        embedder.check()
    except Exception as error:
        raise unusable(path, f"its model can't be run: {_line(error)}") from error
    return embedder


def _graphs(folder: ModelFolder) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((folder.image_graph, folder.text_graph)))


def _open_tokenizer(folder: ModelFolder) -> Any:
    tokenizers = optional("tokenizers", extra="enrich", purpose="Embedding")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise unusable(folder.path, f"its {folder.tokenizer.name} can't be read: {_line(error)}") from error
    if tokenizer.id_to_token(PADDING_ID) != PADDING:
        raise unusable(
            folder.path,
            f"its {folder.tokenizer.name} is none of SigLIP's: token {PADDING_ID} is"
            f" {tokenizer.id_to_token(PADDING_ID)!r} and not {PADDING!r}",
        )
    tokenizer.enable_truncation(max_length=TOKENS)
    tokenizer.enable_padding(pad_id=PADDING_ID, pad_token=PADDING, length=TOKENS)
    return tokenizer


def _open_session(runtime: Any, folder: ModelFolder, graph: Path, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait by spinning would take the CPU from everything else between two batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(graph), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no class of their own
        raise unusable(folder.path, f"its {graph.name} can't be loaded: {_line(error)}") from error


def _find_graph(folder: ModelFolder, session: Any, wanted: str) -> Graph:
    """Which input and output are meant. Raises ModelUnusableError for a graph with another signature."""
    import numpy

    graph = folder.image_graph if wanted == PIXELS else folder.text_graph
    inputs = {one.name: one for one in session.get_inputs()}
    if wanted not in inputs or not inputs.keys() <= _TYPES.keys():
        raise unusable(
            folder.path, f"its {graph.name} takes {', '.join(sorted(inputs))} and not {wanted} alone"
        )
    expected = {
        PIXELS: (3, folder.preparation.height, folder.preparation.width),
        IDS: (TOKENS,),
    }
    for name, found in inputs.items():
        if found.type != _TYPES[name]:
            raise unusable(
                folder.path, f"its {graph.name} takes {name} as {found.type} and not {_TYPES[name]}"
            )
        if not _fits(found.shape, expected[name]):
            sizes = "×".join(map(str, expected[name]))
            raise unusable(
                folder.path, f"its {graph.name} takes {name} of shape {found.shape} and not batch×{sizes}"
            )
    outputs = {one.name: one for one in session.get_outputs()}
    output = next((name for name in OUTPUTS[wanted] if name in outputs), None)
    if output is None:
        raise unusable(
            folder.path,
            f"its {graph.name} gives {', '.join(sorted(outputs))} and none of {', '.join(OUTPUTS[wanted])}",
        )
    if not _fits(outputs[output].shape, (DIMENSIONS,)):
        raise unusable(
            folder.path,
            f"its {graph.name} gives {output} of shape {outputs[output].shape} and not batch×{DIMENSIONS}:"
            " a SigLIP of the size base is needed",
        )
    blanks = {
        PIXELS: numpy.zeros((1, *expected[PIXELS]), dtype=numpy.float32),
        IDS: numpy.full((1, TOKENS), PADDING_ID, dtype=numpy.int64),
    }
    return Graph(session, wanted, output, {name: blanks[name] for name in inputs if name != wanted})


def _fits(shape: Sequence[Any], expected: Sequence[int]) -> bool:
    """Whether the sizes after the batch's are these; one with a name may be of any size."""
    return len(shape) == len(expected) + 1 and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(shape[1:], expected, strict=True)
    )


def _unit_rows(output: Any, rows: int) -> list[list[float]]:
    """Rows of length 1. Raises ValueError for an output of another shape, or without a direction."""
    import numpy

    if output.shape != (rows, DIMENSIONS):
        raise ValueError(f"its output has the shape {output.shape} and not ({rows}, {DIMENSIONS})")
    vectors = output.astype(numpy.float32)
    lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    if not numpy.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("its output is zero or not finite")
    unit: list[list[float]] = (vectors / lengths).tolist()
    return unit


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
