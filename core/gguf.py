"""A GGUF file as a folder that transformers and peft load like any other, converted once and cached.

transformers reads GGUF, but neither quantizes nor saves what it read; so the weights are stored as safetensors first.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.cache import cache_folder, file_hash
from core.errors import UserError

CONVERSION = 2
"""Part of the cache's key: raised when the folder that ``converted`` writes changes."""


def check(file: Path) -> GGUFReader:
    """Open a GGUF file without reading its weights.

    Raises:
        UserError: it is cut off, or no GGUF at all.
    """
    try:
        return GGUFReader(file)
    except Exception as error:
        with file.open("rb") as head:
            magic = head.read(4)
        what = "is cut off or damaged" if magic == b"GGUF" else "is not a GGUF file"
        raise UserError(f"{file} {what} ({file.stat().st_size:,} bytes)", "download it again") from error


def converted(file: Path) -> Path:
    """The folder with config, safetensors and tokenizer that ``file`` was converted to, converting it when needed.

    It lies in ``HOOKTUNE_CACHE``, else in the user's cache directory, under the hash of the file.

    Raises:
        UserError: the file is cut off, or of an architecture that transformers does not read.
    """
    folder = cache_folder() / "gguf" / f"{file.stem}-{file_hash(file)[:12]}-{CONVERSION}"
    if (folder / "config.json").exists():
        return folder
    reader = check(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            print(f"converting {file.name} to safetensors, once: {folder}", file=sys.stderr, flush=True)
            _convert(file, folder, reader)
    return folder


def _dtype(reader: GGUFReader) -> torch.dtype:
    """float32 when the file holds matrices in it; what was quantized needs no more than bfloat16."""
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) > 1]
    return torch.float32 if any(tensor.tensor_type.name == "F32" for tensor in matrices) else torch.bfloat16


def _repaired(tokenizer: Any, reader: GGUFReader) -> Any:
    """The tokenizer with the special tokens that the file names; transformers confuses them in some versions."""
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        field = reader.fields.get(f"tokenizer.ggml.{key}_token_id")
        if field is not None:
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(int(field.contents())))
    tokenizer.clean_up_tokenization_spaces = False  # it would strip spaces that BPE put there
    return tokenizer


def _convert(file: Path, folder: Path, reader: GGUFReader) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        transformers.logging.disable_progress_bar()
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=_dtype(reader))
        tokenizer = _repaired(AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name), reader)
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{file}: transformers cannot read it: {error}", "convert it to a safetensors folder"
        ) from error
    # what it was read from is no quantization of ours: left in, the folder could not be saved or quantized
    for name in ("quantization_config", "quantization_method"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.replace(folder)
