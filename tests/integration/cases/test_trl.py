"""The entropy-spike reward in TRL's own trainer, with a tiny model that is made here."""

from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch

from interlock.training import trl_reward
from interlock.training.spikes import SpikeTracker


@pytest.mark.slow
def test_grpo_takes_the_reward_and_logs_the_spike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = ["<pad>", "<eos>", "<unk>", *"abcdefgh"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, eos_token_id=1,
            bos_token_id=1, max_position_embeddings=64,
        )
    )  # fmt: skip
    before = model.lm_head.weight.detach().clone()
    rewards: list[list[float | None]] = []

    def entropy_of(completion: str) -> float:
        """More different letters, more entropy: a stand-in for a decision register."""
        return min(1.0, len(set(completion)) / 6)

    inner = trl_reward(weight=1.0, entropy_of=entropy_of, tracker=SpikeTracker(k=0.1, warm_up=2))

    def spike(**columns: object) -> list[float | None]:
        rewards.append(inner(**columns))
        return rewards[-1]

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[spike],
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, num_generations=4,
            max_completion_length=6, max_steps=3, logging_steps=1, save_strategy="no",
            report_to="none", use_cpu=True, learning_rate=1e-2, beta=0.0,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["ab", "cd", "ef", "gh"]}),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert len(rewards) == 3
    assert all(len(r) == 4 and all(v is not None and v <= 0 for v in r) for r in rewards)
    assert any(v < 0 for r in rewards for v in r if v is not None)
    logged = [h for h in trainer.state.log_history if any("entropy_spike" in k for k in h)]
    assert logged
    assert not torch.equal(before, model.lm_head.weight)
