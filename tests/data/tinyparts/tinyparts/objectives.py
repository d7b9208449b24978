"""An objective with a reference: be likelier than the model was at the start."""

import torch.nn.functional as F

from core.api import Head, Loss, Objective, Tokens, chat_tokens, token_logprobs

SEEN: list = []


class Closer(Objective):
    """``-log sigmoid(log p - log p_reference)``, log 2 before the first step."""

    columns = frozenset({"prompt", "completion"})
    smallest_batch = 2

    def __init__(self, options):
        self.options = options

    def head(self, rows):
        SEEN.append(f"head of {len(rows)} rows")
        return Head()

    def prepare_rows(self, rows):
        SEEN.append(f"prepare {len(rows)} rows")
        return rows.map(lambda row, index: {"label": index % 2}, with_indices=True)

    def encode(self, row, tokenizer):
        messages = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        return {"answer": chat_tokens(tokenizer, messages), "label": row["label"]}

    def reference(self, logprobs):
        return {"reference": logprobs.sum("answer")}

    def loss(self, model, batch):
        result = token_logprobs(model, batch)
        gain_B = result.sum("answer") - batch.numbers["reference"]
        labels = batch.numbers["label"]
        return Loss(-F.logsigmoid(gain_B).sum(), batch.size, {"odd": (labels.sum(), batch.size)})


class Parity(Objective):
    """A classifier: which of two classes a text belongs to."""

    columns = frozenset({"prompt", "label"})

    def __init__(self, options):
        self.options = options

    def head(self, rows):
        return Head("AutoModelForSequenceClassification", {"num_labels": len(set(rows["label"]))})

    def encode(self, row, tokenizer):
        ids = tokenizer(row["prompt"])["input_ids"]
        return {"text": Tokens(ids, [0.0] * len(ids)), "label": row["label"]}

    def loss(self, model, batch):
        logits_BC = model(**batch.inputs).logits
        assert logits_BC.shape == (batch.size, 2)
        ids_T = batch.inputs["input_ids"].reshape(-1)
        SEEN.append([int(ids_T[end]) for end in batch.ends("text")])
        labels_B = batch.numbers["label"].long()
        right = (logits_BC.argmax(1) == labels_B).sum()
        return Loss(F.cross_entropy(logits_BC, labels_B, reduction="sum"), batch.size, {"right": (right, batch.size)})
