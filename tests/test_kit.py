"""The kit's checks can fail: scaffolds that keep their contract, each broken in one way, and the check that notices."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests_of_projects import on_path

from core.plugin_new import new_plugin

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
        "peft", "method.py", "    def config", "    def callbacks(self, context):\n        from lightning.pytorch "
        "import LambdaCallback\n\n        def move(trainer, lesson, *_):\n            weight = "
        "lesson.model.get_input_embeddings().weight\n            weight.data.mul_(1.001)\n\n"
        "        return [LambdaCallback(on_train_batch_end=move)]\n\n    def config",
        "what_is_not_trained",
    ),
    "blocks": (
        "quantizer", "quantizer.py", "                layer.levels", "                if layer.in_features == "
        "layer.out_features:\n                    layer.register_forward_hook(lambda *given: given[-1].detach())\n"
        "                layer.levels", "gradient_flows",
    ),
    "heavy": ("method", "options.py", "from core.api", "import torch\nfrom core.api", "discovery_and_options"),
    "unsure": ("quantizer", "options.py", "within(", "(lambda *_: 0)(", "every_option_refuses"),
    "denies": ("quantizer", "quantizer.py", '"levels"', '"nothing"', "layers_are_quantized"),
    "coarse": ("quantizer", "quantizer.py", ".round()", ".round() * 3", "layers_are_quantized"),
    "drifts": (
        "quantizer", "quantizer.py", "        return self._round(model)\n\n    def _round", "        return model\n\n"
        "    def _round", "saved_and_loaded_in_another_process",
    ),
    "divides": ("objective", "objective.py", "return Loss(total,", "return Loss(total / batch.size,", "accumulation"),
    "dices": (
        "objective", "objective.py", "return {", "import random\n\n        row = {**row, 'completion': "
        "str(random.random())}\n        return {", "examples_all_have_the_same_names",
    ),
    "shuffles": ("data", "source.py", "random.Random(0)", "random.Random()", "it_gives_the_same_rows"),
    "places": (
        "data", "source.py", "    def rows", "    def origin(self, split, index):\n        return 'somewhere'\n\n"
        "    def rows", "every_row_has_a_place",
    ),
    "levels": (
        "optimizer", "optimizer.py", "copies = [dict(group)", "copies = [dict(group, lr=o.lr)",
        "a_group_without_a_rate",
    ),
    "grabs": (
        "optimizer", "optimizer.py", "copies = [dict(group) for group in groups]", "copies = groups",
        "groups_are_left_as_they_were",
    ),
    "boasts": ("metric", "metric.py", "value, len(rows), low", "high + 1, len(rows), low", "a_score_holds_together"),
    "wakes": ("metric", "metric.py", "        mean =", "        model.train()\n        mean =", "it_leaves_the_model"),
    "upside": ("metric", "metric.py", '"lower"', '"higher"', "a_model_that_has_learned"),
    "widens": ("loader", "loader.py", "dtype=getattr(torch, source.dtype)", "dtype=torch.float32", "weights_are_held"),
    "drops": ("loader", "loader.py", ", **options}", "}", "an_option_is_honoured"),
}  # fmt: skip


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Name -> checks that failed, all in one process of pytest."""
    folder = tmp_path_factory.mktemp("broken")
    projects: list[Path] = []
    for name, (kind, file, before, after, _) in BROKEN.items():
        project = new_plugin("method" if kind == "peft" else kind, name, folder, kind == "peft")
        source = project / f"hooktune_{name}" / file
        text = source.read_text()
        assert before in text, name
        source.write_text(text.replace(before, after))
        projects.append(project)
    checks = " or ".join(sorted({check for *_, check in BROKEN.values()}))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rf", "-k", checks]
    command += [str(project / "tests") for project in projects]
    done = subprocess.run(
        command, cwd=folder, env=on_path(*projects), capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, set[str]] = {name: set() for name in BROKEN}
    for name, check in re.findall(r"^FAILED .*test_hooktune_(\w+)\.py::\w+::test_(\w+)", done.stdout, re.MULTILINE):
        found[name].add(check)
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_part_is_found_out(failed, name):
    wanted = BROKEN[name][-1]
    assert any(check.startswith(wanted) for check in failed[name]), failed[name]


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
