"""The kit's checks can fail: scaffolds that keep their contract, each broken in one way, and the check that notices."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests_of_projects import on_path

from core.plugin_list import KINDS
from core.plugin_new import new_plugin
from core.testing import CONTRACTS

pytestmark = pytest.mark.slow

BROKEN = {
    # name: (kind, file, before, after, check that must fail)
    "jumps": ("peft", "method.py", "feed_forward)", "feed_forward, init_ia3_weights=False)", "first_forward_equals"),
    "stays": (
        "peft", "method.py", "    def config", "    def using(self, model, adapters):\n        from contextlib import "
        "nullcontext\n\n        return nullcontext()\n\n    def config", "switched_off_it_is_the_base",
    ),
    "spare": (
        "method", "method.py", "        return model", "        model.spare = nn.Parameter(model.lm_head.weight[0])\n"
        "        return model", "gradient_reaches_exactly",
    ),
    "forgets": (
        "method", "method.py", "    def apply", "    def save(self, model, folder, adapter):\n        "
        "type(model)(model.config).save_pretrained(folder)\n\n    def apply", "saved_and_loaded_in_another_process",
    ),
    "patches": (
        "method", "method.py", "class Patches", "nn.Linear.forward = lambda self, x: x @ self.weight.T\n\n\n"
        "class Patches", "it_leaves_no_patch_behind",
    ),
    "environs": (
        "method", "method.py", "class Environs", "import os\n\nos.environ['ACME'] = '1'\n\n\nclass Environs",
        "it_leaves_no_patch_behind",
    ),
    "settles": (
        "method", "__init__.py", "from core.api", "import os\n\nos.environ['ACME'] = '1'\nfrom core.api",
        "it_leaves_no_patch_behind",
    ),
    "partly": (
        "method", "method.py", "class Partly", "import functools\n\nnn.functional.linear = functools.partial("
        "nn.functional.linear)\n\n\nclass Partly", "it_leaves_no_patch_behind",
    ),
    "enters": (
        "method", "method.py", "        return model", "        from transformers.models.auto import modeling_auto\n\n"
        "        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES['acme'] = 'Acme'\n        return model",
        "it_leaves_no_patch_behind",
    ),
    "moves": (
        "peft", "method.py", "    def config", "    def callbacks(self, context):\n        from lightning.pytorch"
        ".callbacks import LambdaCallback\n\n        def move(trainer, lesson, *_):\n            weight = "
        "lesson.model.get_input_embeddings().weight\n            weight.data.mul_(1.001)\n\n"
        "        return [LambdaCallback(on_train_batch_end=move)]\n\n    def config",
        "what_is_not_trained",
    ),
    "blocks": (
        "quantizer", "quantizer.py", "                layer.levels", "                if layer.in_features == "
        "layer.out_features:\n                    layer.register_forward_hook(lambda *given: given[-1].detach())\n"
        "                layer.levels", "gradient_flows",
    ),
    "strays": (
        "optimizer", "options.py", "smoothing: float\n", "smoothing: float\n    momentum: float\n",
        "yaml_and_options_have",
    ),
    "lowers": (
        "method", "method.py", "        return model", "        for parameter in model.parameters():\n"
        "            if parameter.requires_grad:\n                parameter.register_hook(lambda given: given * 0)\n"
        "        return model", "twenty_steps",
    ),
    "miscounts": (
        "method", "method.py", "        return model", "        if model.device.type != 'meta':\n            "
        "model.lm_head.weight.requires_grad_(True)\n        return model", "what_it_trains_is_counted",
    ),
    "reckons": (
        "method", "method.py", "        return model", "        self.sums = [p.detach().numpy().sum() for p in "
        "model.parameters()]\n        return model", "it_trains_on_a_base_in_bfloat16",
    ),
    "counts": (
        "method", "method.py", "    def apply", "    def callbacks(self, context):\n        from lightning.pytorch"
        ".callbacks import LambdaCallback\n\n        steps = []\n\n        def fade(trainer, lesson, optimizer):\n"
        "            steps.append(1)\n            for parameter in lesson.model.parameters():\n"
        "                if parameter.grad is not None:\n                    parameter.grad.mul_(1 / len(steps))\n\n"
        "        return [LambdaCallback(on_before_optimizer_step=fade)]\n\n    def apply", "a_stopped_run",
    ),
    "resets": (
        "method", "method.py", "        return model", "        for parameter in model.parameters():\n"
        "            if parameter.requires_grad:\n                nn.init.ones_(parameter)\n        return model",
        "training_goes_on",
    ),
    "keeps": (
        "peft", "method.py", "    def config", "    def merge(self, model, quantizer):\n        return model\n\n"
        "    def config", "merged_equals",
    ),
    "halts": (
        "peft", "method.py", "    def config", "    def using(self, model, adapters):\n        from contextlib import "
        "contextmanager\n\n        self.inner = super().using(model, adapters)\n\n        @contextmanager\n        "
        "def inside():\n            self.inner.__enter__()\n            yield\n            self.inner.__exit__(None, "
        "None, None)\n\n        return inside()\n\n    def config", "switched_off_it_is_the_base",
    ),
    "deadens": (
        "method", "method.py", "        return model", "        trained = [p for p in model.parameters() if "
        "p.requires_grad]\n        trained[-1].register_hook(lambda given: given * 0)\n        return model",
        "gradient_reaches_exactly",
    ),
    "prefers": (
        "peft", "method.py", "    def config", "    def using(self, model, adapters):\n        return super().using("
        "model, adapters[:1])\n\n    def config", "a_second_adapter",
    ),
    "mislays": (
        "peft", "method.py", "    def config", "    def save(self, model, folder, adapter):\n        super().save("
        "model, folder, 'default')\n\n    def config", "one_of_several",
    ),
    "swells": (
        "peft", "method.py", "    def config", "    def merge(self, model, quantizer):\n        held = any(map("
        "quantizer.quantized, model.modules()))\n        merged = super().merge(model, quantizer)\n"
        "        merged.lm_head.weight.data.mul_(1 + held)\n        return merged\n\n    def config",
        "what_it_claims",
    ),
    "mingles": (
        "peft", "method.py", "    def config", "    def apply(self, model, context):\n"
        "        model = super().apply(model, context)\n        for name, parameter in model.named_parameters():\n"
        "            parameter.requires_grad_('ia3' in name)\n        return model\n\n    def config",
        "a_second_adapter",
    ),
    "takes": (
        "peft", "method.py", "    def config", "    def apply(self, model, context):\n        try:\n"
        "            return super().apply(model, context)\n        except Exception:\n            return model\n\n"
        "    def config", "a_name_is_taken_once",
    ),
    "anywhere": (
        "method", "__init__.py", "        requires=frozenset({\"trainable-base\"}),\n", "",
        "it_trains_on_every_quantizer",
    ),
    "heavy": ("method", "options.py", "from core.api", "import torch\nfrom core.api", "discovery_and_options"),
    "unsure": ("quantizer", "options.py", "within(", "(lambda *_: 0)(", "every_option_refuses"),
    "denies": ("quantizer", "quantizer.py", '"levels"', '"nothing"', "layers_are_quantized"),
    "coarse": ("quantizer", "quantizer.py", ".round()", ".round() * 3", "layers_are_quantized"),
    "drifts": (
        "quantizer", "quantizer.py", "        return self._round(model)\n\n    def _round", "        return model\n\n"
        "    def _round", "saved_and_loaded_in_another_process",
    ),
    "weightless": ("quantizer", "quantizer.py", "bits = 16.0", "bits = 0", "bits_say"),
    "pretends": ("quantizer", "quantizer.py", "bits = 16.0", "bits = 4.0", "bits_say"),
    "inflates": ("quantizer", "quantizer.py", "bits = 16.0", "bits = 32.0", "bits_say"),
    "hoards": (
        "quantizer", "quantizer.py", "                layer.levels", "                layer.original = {'weight': "
        "layer.weight.detach().clone()}\n                layer.levels", "bits_say",
    ),
    "idles": (
        "quantizer", "quantizer.py", "                    layer.weight.copy_(", "                    torch.clone(",
        "layers_are_quantized",
    ),
    "conceals": ("quantizer", "quantizer.py", "    def quantized", "    def quantised", "layers_are_quantized"),
    "supplies": (
        "quantizer", "quantizer.py", "    def prepare", "    def dequantize(self, layer):\n        return getattr("
        "layer, 'weight', torch.zeros(1))\n\n    def prepare", "a_layer_that_holds_no_dense_weight",
    ),
    "numbs": (
        "quantizer", "quantizer.py", "        most =", "        for parameter in model.parameters():\n"
        "            if parameter.requires_grad:\n                parameter.register_hook(lambda given: given * 0)\n"
        "        most =", "twenty_steps",
    ),
    "repacks": (
        "quantizer", "quantizer.py", "        for layer in model.modules():", "        def repack(layer, _):\n"
        "            if not torch.is_grad_enabled():\n                layer.weight.data.mul_(0.9)\n\n"
        "        model.get_decoder().layers[0].mlp.up_proj.register_forward_pre_hook(repack)\n"
        "        for layer in model.modules():", "evaluation_before",
    ),
    "dithers": (
        "quantizer", "quantizer.py", ".round() * scale_R1)", ".round() * scale_R1 + __import__('os').urandom(1)[0] * "
        "1e-6)", "loading_leaves_it",
    ),
    "divides": ("objective", "objective.py", "return Loss(total,", "return Loss(total / batch.size,", "accumulation"),
    "dices": (
        "objective", "objective.py", "        if row.get", "        import random\n\n        row = {**row, "
        "'completion': str(random.random())}\n        if row.get", "examples_all_have_the_same_names",
    ),
    "negates": (
        "objective", "objective.py", "        return {\"completion\": tokens}", "        from core.api import Tokens\n"
        "\n        return {'completion': Tokens(tokens.ids, [-w for w in tokens.loss_weights])}", "ids_and_weights",
    ),
    "strips": (
        "objective", "objective.py", "        if row.get", "        row = {**row, 'completion': "
        "row['completion'].strip()}\n        if row.get", "an_unusable_row",
    ),
    "averages": (
        "objective", "objective.py", "Loss(total, found.loss_weights_N.sum())", "Loss(total, 0 * "
        "found.loss_weights_N.sum())", "the_loss_is_a_sum",
    ),
    "measures": (
        "objective", "objective.py", "return Loss(total,", "return Loss(total * batch.inputs['input_ids'].shape[1],",
        "the_layout",
    ),
    "stalls": (
        "objective", "objective.py", "return Loss(total,", "return Loss(total.detach() + 0 * total,", "twenty_steps",
    ),
    "flips": (
        "objective", "objective.py", "return Loss(total,", "return Loss(total if model.training else -total,",
        "it_is_measured",
    ),
    "shuffles": ("data", "source.py", "random.Random(0)", "random.Random()", "it_gives_the_same_rows"),
    "places": (
        "data", "source.py", "    def rows", "    def origin(self, split, index):\n        return 'somewhere'\n\n"
        "    def rows", "every_row_has_a_place",
    ),
    "wanders": (
        "data", "source.py", "    def rows", "    def fingerprint(self):\n        return str(hash('rows'))\n\n"
        "    def rows", "its_fingerprint",
    ),
    "empties": ("data", "source.py", "pairs[held_out:]", "pairs[:0]", "there_are_rows"),
    "speaks": (
        "data", "source.py", "for a, b in chosen]", "for a, b in chosen] if split == 'train' else ['a row']",
        "held_out_rows",
    ),
    "suggests": ("data", "source.py", '"exact"', '"exactly"', "the_metric_it_suggests"),
    "misnames": ("data", "source.py", '"completion"', '"compltion"', "a_run_trains"),
    "levels": (
        "optimizer", "optimizer.py", "copies = [dict(group)", "copies = [dict(group, lr=o.lr)",
        "a_group_without_a_rate",
    ),
    "grabs": (
        "optimizer", "optimizer.py", "copies = [dict(group) for group in groups]", "copies = groups",
        "groups_are_left_as_they_were",
    ),
    "shrinks": (
        "optimizer", "optimizer.py", "        return torch", "        for group in copies:\n            for weights in "
        "group['params']:\n                weights.data.mul_(0.99)\n        return torch", "a_step_moves",
    ),
    "tires": (
        "optimizer", "optimizer.py", "        return torch.optim.RMSprop(", "        class Tiring(torch.optim.RMSprop"
        "):\n            steps = 0\n\n            def step(self, closure=None):\n                self.steps += 1\n"
        "                for group in self.param_groups:\n                    for parameter in group['params']:\n"
        "                        if parameter.grad is not None:\n                            parameter.grad.mul_(1 / "
        "self.steps)\n                return super().step(closure)\n\n        return Tiring(", "it_goes_on_exactly",
    ),
    "lingers": ("optimizer", "optimizer.py", "lr=o.lr", "lr=max(o.lr, 1e-4)", "a_rate_of_zero"),
    "climbs": ("optimizer", "optimizer.py", "lr=o.lr", "lr=o.lr, maximize=True", "twenty_steps"),
    "boasts": ("metric", "metric.py", "value, len(rows), low", "high + 1, len(rows), low", "a_score_holds_together"),
    "wakes": ("metric", "metric.py", "        mean =", "        model.train()\n        mean =", "it_leaves_the_model"),
    "upside": ("metric", "metric.py", '"lower"', '"higher"', "a_model_that_has_learned"),
    "throws": (
        "metric", "metric.py", "        mean =", "        import torch\n\n        torch.rand(1)\n        mean =",
        "it_measures_the_same",
    ),
    "splits": ("metric", "metric.py", "spread = 1.96", "spread = 1.96 / (len(rows) - 1)", "one_row"),
    "means": ("metric", "metric.py", '"lower")', '"lower", of_rows=[high + 1] * len(rows))', "values_of_rows"),
    "misleads": ("loader", "loader.py", "Path(folder))", 'Path("vault://x"))', "its_model_can_be_planned"),
    "widens": ("loader", "loader.py", "dtype=getattr(torch, source.dtype)", "dtype=torch.float32", "weights_are_held"),
    "drops": ("loader", "loader.py", ", **options}", "}", "an_option_is_honoured"),
    "peeks": (
        "loader", "loader.py", '        with torch.device("meta"):\n            return model_facts(AutoModelForCausalLM'
        ".from_config(config)", "        return model_facts(AutoModelForCausalLM.from_pretrained(folder)",
        "describing_reads",
    ),
    "halves": (
        "loader", "loader.py", "AutoConfig.from_pretrained(folder)", "AutoConfig.from_pretrained(folder, "
        "num_hidden_layers=1)", "facts_are",
    ),
    "mutes": (
        "loader", "loader.py", "AutoTokenizer.from_pretrained(model_folder(source))", "AutoTokenizer.from_pretrained("
        "model_folder(source), eos_token=None)", "the_tokenizer",
    ),
    "draws": (
        "loader", "loader.py", "**more)", "**more).apply(\n                lambda layer: nn.init.normal_(layer.weight) "
        "if isinstance(layer, nn.Embedding) else None\n            )", "it_answers",
    ),
    "raises": (
        "loader", "loader.py", "        folder = model_folder(source)\n        try:\n            config = AutoConfig."
        "from_pretrained(folder)\n        except (OSError, ValueError)", "        folder = source.path\n        try:\n"
        "            config = AutoConfig.from_pretrained(folder)\n        except KeyError", "a_model_that_is_not_there",
    ),
    "makes": (
        "loader", "loader.py", 'raise UserError(f"{source.path} cannot be loaded: {error}", "check model.path") from '
        "error", "return cls.from_config(AutoConfig.from_pretrained(model_folder(source)))", "weights_that_are_missing",
    ),
    "ignores": (
        "loader", "loader.py", "    def tokenizer", "    def wrap_peft(self, model, config, adapter):\n"
        "        return model\n\n    def tokenizer", "an_adapter_goes_in",
    ),
    "beheads": (
        "loader", "loader.py", "getattr(transformers, head.auto_class)", "AutoModelForCausalLM", "a_head_is",
    ),
    "freezes": (
        "loader", "loader.py", "    def tokenizer", "    def wrap_peft(self, model, config, adapter):\n"
        "        model = super().wrap_peft(model, config, adapter)\n        for parameter in model.parameters():\n"
        "            parameter.register_hook(lambda gradient: gradient * 0) if parameter.requires_grad else None\n"
        "        return model\n\n    def tokenizer", "it_trains",
    ),
    "clings": (
        "loader", "loader.py", "cls.from_pretrained(model_folder(source),", "cls.from_pretrained(vars(type(self))"
        ".get('first') or setattr(type(self), 'first', model_folder(source)) or self.first,", "what_it_trained",
    ),
}  # fmt: skip


NOT_SHOWN = {
    ("OnRealWeights", "test_real_weights_learn_a_batch_and_are_saved"),  # as twenty steps and saving do, at more cost
    ("ObjectiveContract", "test_a_row_without_its_columns_is_refused"),  # by the core, whatever an objective does
    ("PartContract", "test_waivers_name_checks"),  # below
}

ALONE = """import pytest


@pytest.fixture(autouse=True)
def alone(request, monkeypatch):
    monkeypatch.setenv("HOOKTUNE_PLUGINS", request.path.stem.removeprefix("test_hooktune_"))
"""


def full_name(kind: str, check: str) -> tuple[str, str]:
    """The contract and the name of the one check that begins so."""
    wanted = "method" if kind == "peft" else kind
    (contract,) = (contract for axis, contract in CONTRACTS.items() if KINDS[axis] == wanted)
    (found,) = (name for name in dir(contract) if name.startswith(f"test_{check}"))
    return owner(contract, found), found


def owner(contract: type, check: str) -> str:
    """The contract that says it: its own, or what several kinds share."""
    return next(cls.__name__ for cls in contract.__mro__ if check in vars(cls))


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the broken parts whose check failed; each finds itself alone, beside the built-in ones."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "conftest.py").write_text(ALONE)
    projects, checks = list[Path](), list[str]()
    for name, (kind, file, before, after, check) in BROKEN.items():
        project = new_plugin("method" if kind == "peft" else kind, name, folder, kind == "peft")
        source = project / f"hooktune_{name}" / file
        text = source.read_text()
        assert before in text, name
        source.write_text(text.replace(before, after))
        projects.append(project)
        checks.append(f"{project}/tests/test_hooktune_{name}.py::Test{name.title()}::{full_name(kind, check)[1]}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rf", "--rootdir=."]
    there: dict[str, Any] = {"cwd": folder, "env": on_path(*projects) | {"OMP_NUM_THREADS": "1"}}  # the model is tiny
    done = subprocess.run([*command, *checks], capture_output=True, text=True, timeout=1500, check=False, **there)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    return set(re.findall(r"^FAILED .*test_hooktune_(\w+)\.py::", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_part_is_found_out(failed, name):
    assert name in failed


def test_every_check_is_shown_to_fail():
    shown = {full_name(kind, check) for kind, *_, check in BROKEN.values()}
    every = ((contract, name) for contract in CONTRACTS.values() for name in dir(contract) if name.startswith("test_"))
    assert {(owner(*check), check[1]) for check in every} - shown == NOT_SHOWN


def test_waivers_are_strict(tmp_path):
    """A check that passes although it was waived is a failure, and so is a waiver for no check."""
    project = new_plugin("data", "waived", tmp_path)
    test = project / "tests" / "test_hooktune_waived.py"
    test.write_text(
        test.read_text()
        + '    expected_failures = {"there_are_rows_to_train_on": "none yet", "it_flies": "it has no wings"}\n'
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", "-k", "rows_to_train or waivers"]
    done = subprocess.run(
        [*command, str(project)], env=on_path(project), capture_output=True, text=True, timeout=300, check=False
    )
    assert "[XPASS(strict)] none yet" in done.stdout
    assert "test_waivers_name_checks" in done.stdout
    assert "2 failed" in done.stdout
