"""A LoRA adapter merged at load makes the tokens that the adapted model makes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.exactness.test_exact_arithmetic import PROMPTS, generated
from tests.worker.engines.rig import Rig

peft = pytest.importorskip("peft")
# peft asks transformers for a property it renames in version 6.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    base = LlamaForCausalLM.from_pretrained(tiny_folder)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    folder = tmp_path_factory.mktemp("lora")
    adapted.save_pretrained(folder)
    return folder


def test_the_adapted_model_speaks(
    tiny_settings: EngineSettings, tiny_folder: Path, adapter: Path, reference: LlamaForCausalLM
) -> None:
    adapted = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tiny_folder), adapter).merge_and_unload()
    rig = Rig(replace(tiny_settings, adapter=str(adapter), served_name="adapted"))
    ours = rig.tokens(*(rig.spec(prompt, 20) for prompt in PROMPTS))
    rig.close()
    assert ours == [generated(adapted.eval(), prompt, 20) for prompt in PROMPTS]
    assert ours != [generated(reference, prompt, 20) for prompt in PROMPTS]
    assert rig.card.name == "adapted"


def test_an_adapter_that_is_none(tiny_settings: EngineSettings, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="Cannot load the adapter"):
        TransformersEngine(replace(tiny_settings, adapter=str(tmp_path))).load()
