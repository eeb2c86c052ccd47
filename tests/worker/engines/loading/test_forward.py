"""Architectures that cannot be batched: each computes what `transformers.generate` computes, and goes on exactly."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.kinds import ModelKind, find_kind
from millstream.worker.engines.transformers.loading.placement import placement
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.conftest import EOS, byte_tokenizer
from tests.worker.engines.loading.own_code.modeling_glade import GladeConfig, GladeModel
from tests.worker.engines.loading.own_code.tokenization_glade import GladeTokenizer
from tests.worker.engines.loading.test_architectures import ALL, DECODER, GPT2, SIZE
from tests.worker.engines.rig import Rig, choice

OWN_CODE = Path(__file__).parent / "own_code"
LATENT = {"q_lora_rank": None, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
ROUTED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
SMALL = {"vocab_size": 260, "hidden_size": 64, "num_hidden_layers": 2, "eos_token_id": EOS}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DELTA = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
CODED: dict[str, Any] = {
    "vocab_size": 260,
    "d_model": 64,
    "max_position_embeddings": 512,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "init_std": 0.3,
    "eos_token_id": EOS,
    "pad_token_id": 257,
    "bos_token_id": 258,
    "decoder_start_token_id": EOS,
    "forced_eos_token_id": None,
}
UNBATCHED: dict[str, dict[str, Any]] = {
    "BloomForCausalLM": {**ALL, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "FalconForCausalLM": {**ALL, **SIZE, "alibi": True},
    "MptForCausalLM": {"vocab_size": 260, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 512},
    "DeepseekV3ForCausalLM": {**DECODER, "num_key_value_heads": 4, "head_dim": 8, **LATENT, **ROUTED},
    "MambaForCausalLM": SMALL,
    "Mamba2ForCausalLM": {**SMALL, "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1},
    "RwkvForCausalLM": {**SMALL, "context_length": 512},
    "Qwen3NextForCausalLM": {
        **DECODER,
        "num_hidden_layers": 4,
        **EXPERTS,
        "shared_expert_intermediate_size": 32,
        **DELTA,
    },
}
ENCODING: dict[str, dict[str, Any]] = {
    "T5ForConditionalGeneration": {
        "vocab_size": 260,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 96,
        "num_layers": 2,
        "num_heads": 4,
        "initializer_factor": 3.0,
        "eos_token_id": EOS,
        "pad_token_id": 257,
        "decoder_start_token_id": 257,
    },
    "BartForConditionalGeneration": CODED,
    "M2M100ForConditionalGeneration": {**CODED, "forced_bos_token_id": 77},
    "MarianMTModel": CODED,
}
PROMPTS = [[(7 * i + n) % 250 for i in range(n)] for n in (3, 40, 150)]


def made(name: str, sizes: dict[str, Any]) -> PreTrainedModel:
    family = name.removesuffix("Model").removesuffix("LMHead").removesuffix("MT").partition("For")[0]
    torch.manual_seed(7)
    model: PreTrainedModel = getattr(transformers, name)(getattr(transformers, f"{family}Config")(**sizes)).eval()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = EOS
    model.generation_config.forced_bos_token_id = sizes.get("forced_bos_token_id")
    return model


def saved(model: PreTrainedModel, folder: Path, small: EngineSettings) -> EngineSettings:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return replace(small, source=ModelSource(str(folder)), slots=3)


def library(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """Returns what `generate` makes of a prompt, without an end."""
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "num_beams": 1}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=257, **options)[0].tolist()
    return out[1:] if model.config.is_encoder_decoder else out[len(prompt) :]


@cache
def kind_of(name: str) -> ModelKind:
    return "seq2seq" if name in ENCODING else "causal"


@pytest.mark.parametrize("name", [*UNBATCHED, *ENCODING])
def test_it_generates_as_the_library_does_and_goes_on_exactly(name: str, tmp_path: Path, small: EngineSettings) -> None:
    """Greedy: several at once, each as `generate` alone (which bans the end, as `min_tokens` does). Drawn: the same
    from every cut."""
    model = made(name, (UNBATCHED | ENCODING)[name])
    settings = saved(model, tmp_path, small)
    assert find_kind(settings.source) == kind_of(name)
    with closing(Rig(settings, kind_of(name))) as rig:
        assert rig.card.details["batching"] == "no"
        greedy = rig.tokens(*(rig.spec(prompt, 12, min_tokens=12, ignore_eos=False) for prompt in PROMPTS))
        assert greedy == [library(model, prompt, 12) for prompt in PROMPTS]
        drawn = {"temperature": 1.0, "seed": 5, "top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": 0.1}
        whole = rig.one(PROMPTS[1], 24, **drawn)
        cuts = [rig.spec(PROMPTS[1], 24, generated=whole[:at], **drawn) for at in (1, 9, 23)]
        assert rig.tokens(*cuts) == [whole] * 3


def test_guides_logprobs_and_aborts(tmp_path: Path, small: EngineSettings) -> None:
    model = made("BloomForCausalLM", UNBATCHED["BloomForCausalLM"])
    with closing(Rig(saved(model, tmp_path, small))) as rig:
        tokens = rig.one(PROMPTS[0], 20, ignore_eos=False, guide=choice("mill", "stream"))
        assert rig.engine.tokenizer.decode(tokens) in ("mill", "stream")
        (scored,) = rig.run(rig.spec(PROMPTS[1], 0, prompt_logprobs=0))
        logits = model(torch.tensor([PROMPTS[1]])).logits[0].log_softmax(-1)
        wanted = [logits[i, token].item() for i, token in enumerate(PROMPTS[1][1:])]
        told = [each.logprob for each in scored[0].prompt_logprobs or []]
        assert told[1:] == pytest.approx(wanted, abs=1e-4)
        left, stays = rig.spec(PROMPTS[0], 400), rig.spec(PROMPTS[0], 20)

        async def leave() -> None:
            rig.engine.add(left)
            await rig.news()
            rig.engine.abort(left.key)

        rig.drive(leave())
        assert rig.tokens(stays)[0] == library(model, PROMPTS[0], 20)
        assert rig.engine.stats().running == 0
        assert len([o for step in rig.steps for o in step if o.key == left.key]) < 400


def test_more_than_there_is_room_for_wait(tmp_path: Path, small: EngineSettings) -> None:
    model = made("MambaForCausalLM", UNBATCHED["MambaForCausalLM"])
    with closing(Rig(saved(model, tmp_path, small))) as rig:
        assert rig.tokens(*(rig.spec(PROMPTS[0], 6) for _ in range(9))) == [rig.one(PROMPTS[0], 6)] * 9


def test_the_other_way_can_be_asked_for_and_forbidden(tmp_path: Path, small: EngineSettings) -> None:
    model = made("GPT2LMHeadModel", {**ALL, **GPT2})
    settings = saved(model, tmp_path / "gpt2", small)
    with closing(Rig(replace(settings, batching="off"))) as alone, closing(Rig(settings)) as together:
        assert alone.one(PROMPTS[1], 20) == together.one(PROMPTS[1], 20)
        assert (alone.card.details["batching"], "batching" in together.card.details) == ("no", False)
        assert alone.card.fingerprint != together.card.fingerprint
    bloom = saved(made("BloomForCausalLM", UNBATCHED["BloomForCausalLM"]), tmp_path / "bloom", small)
    with pytest.raises(LoadFailed, match=r"cannot run BloomForCausalLM: it .*--batching"):
        Rig(replace(bloom, batching="on"))


def test_a_batch_that_computes_something_else_is_found(
    tmp_path: Path, small: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: Bloom's attention never sees the cache, and the library says nothing of it."""
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.load.why_not_batched", lambda sketch: None)
    model = made("BloomForCausalLM", UNBATCHED["BloomForCausalLM"])
    with closing(Rig(saved(model, tmp_path, small))) as rig:
        assert "something else" in rig.card.details["unbatched"]
        assert rig.one(PROMPTS[1], 12, min_tokens=12, ignore_eos=False) == library(model, PROMPTS[1], 12)


def test_an_encoders_prompt_has_no_logprobs(tmp_path: Path, small: EngineSettings) -> None:
    settings = saved(made("MarianMTModel", CODED), tmp_path, small)
    with closing(Rig(settings, "seq2seq")) as rig:
        assert rig.card.capabilities == ("completions",)
        with pytest.raises(BadRequest, match="encodes its prompt"):
            rig.engine.prepare(rig.spec(PROMPTS[0], 3, prompt_logprobs=0))


def with_own_code(folder: Path, small: EngineSettings) -> tuple[PreTrainedModel, EngineSettings]:
    """Makes a checkpoint whose code lies beside its weights, as those of ChatGLM and Baichuan do."""
    torch.manual_seed(7)
    model = GladeModel(GladeConfig(eos_token_id=EOS, max_position_embeddings=256)).eval()
    torch.nn.init.normal_(model.output.weight)
    model.save_pretrained(folder)
    GladeTokenizer().save_pretrained(folder)
    for file in OWN_CODE.glob("*_glade.py"):
        shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "GladeConfig", "AutoModel": "GladeModel", "AutoModelForCausalLM": "GladeModel"}
    config["auto_map"] = {auto: f"modeling_glade.{name}" for auto, name in names.items()}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_glade.GladeTokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return model, replace(small, source=ModelSource(str(folder), trust_remote_code=True))


def test_a_model_with_code_of_its_own(tmp_path: Path, small: EngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wants the places of its tokens told, its cache is of tuples, its tokenizer is of Python alone."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, settings = with_own_code(tmp_path / "glade", small)
    assert find_kind(settings.source) == "causal"
    with closing(Rig(settings)) as rig:
        read = list(PROMPTS[1])
        for _ in range(12):
            read.append(int(model(torch.tensor([read])).logits[0, -1].argmax()))
        assert rig.one(PROMPTS[1], 12) == read[len(PROMPTS[1]) :]
        drawn = {"temperature": 1.0, "seed": 3}
        whole = rig.one(PROMPTS[0], 20, **drawn)
        assert rig.tokens(rig.spec(PROMPTS[0], 20, generated=whole[:7], **drawn)) == [whole]
        assert rig.engine.tokenizer.decode(rig.engine.tokenizer.encode("Mühle")) == "Mühle"


def test_code_of_a_models_own_runs_only_where_it_is_trusted(tmp_path: Path, small: EngineSettings) -> None:
    _, settings = with_own_code(tmp_path / "glade", small)
    with pytest.raises(LoadFailed, match="brings its own code: if you trust it, start the worker with --trust-remote"):
        find_kind(replace(settings.source, trust_remote_code=False))


def test_layers_on_several_devices_run_one_sequence_at_a_time(
    tmp_path: Path, small: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the layers lies on a disk here, as it would on another GPU: the batch's cache would lie on one."""
    model = made("LlamaForCausalLM", DECODER)
    settings = saved(model, tmp_path / "llama", small)
    parts = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
    places = dict.fromkeys(parts, "cpu") | {"model.layers.1": "disk"}
    told = {"device_map": places, "offload_folder": str(tmp_path / "disk")}
    monkeypatch.setattr("millstream.worker.engines.transformers.loading.load.placement", lambda *_: told)
    with closing(Rig(settings)) as rig:
        assert rig.card.details["unbatched"] == "has its layers on several devices"
        assert rig.one(PROMPTS[1], 12) == library(model, PROMPTS[1], 12)


def test_the_hosts_share_of_a_model_is_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda *_: (5, 5))
    told = placement(EngineSettings(max_gpu_memory="8GiB"), torch.device("cuda"))
    host = told["max_memory"].pop("cpu")
    assert told == {"device_map": "auto", "max_memory": {0: "8GiB", 1: "8GiB"}} and host > 1 << 20


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"device_map": "sideways"}, "--device-map 'sideways' is none of auto, balanced"),
        ({"device_map": "cuda:7"}, "--device-map 'cuda:7' is none of .*, nor a device of this machine"),
        ({"max_gpu_memory": "a lot"}, "--max-gpu-memory 'a lot' is no amount: give one such as 20GiB"),
        ({"max_gpu_memory": "8GiB"}, "--max-gpu-memory bounds what a model takes of each GPU, and here it goes to cpu"),
    ],
    ids=["map", "device", "amount", "no GPU"],
)
def test_places_that_there_are_not_are_refused_before_loading(
    told: dict[str, str], why: str, small: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    nowhere = replace(small, source=ModelSource("/nowhere"), device="cpu")
    with pytest.raises(LoadFailed, match=why):
        Rig(replace(nowhere, **told))


def test_a_device_map_goes_to_the_library_and_one_device_is_batched(tmp_path: Path, small: EngineSettings) -> None:
    model = made("LlamaForCausalLM", DECODER)
    settings = replace(saved(model, tmp_path / "llama", small), device_map="auto", device="cpu")
    with closing(Rig(settings)) as rig:
        assert placement(settings, torch.device("cpu")) == {"device_map": "auto"}
        assert "unbatched" not in rig.card.details
        assert rig.one(PROMPTS[1], 12) == library(model, PROMPTS[1], 12)
