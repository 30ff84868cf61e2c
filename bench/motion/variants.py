"""all-MiniLM-L6-v2 -> the models that are coded against it, or with layers that resemble each other.

    python variants.py --cache FOLDER DIR

The fine-tune is unsupervised SimCSE (arXiv 2104.08821): two passes of the same sentences under dropout are positive pairs, the other
sentences of a batch are negatives. Its training sentences come from the documents of calibration, so that evaluation knows none of them.
"""
import argparse
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "rate"))
import inputs
from models import MiniLM, same_length

STEPS, BATCH, RATE, DROPOUT, TEMPERATURE = 100, 16, 2e-5, 0.1, 0.05
SENTENCES, TOKENS_MAX = 4000, 40
LAYER = re.compile(r"(encoder\.layer\.)(\d+)(\..*)")
NOISE = 0.1


def finetuned(model, tensors):
    """All parameters after STEPS steps of AdamW."""
    torch.manual_seed(0)
    module = model.Module({name: tensor.clone() for name, tensor in tensors.items()})
    module.dropout = DROPOUT
    parameters = [parameter.requires_grad_() for parameter in module.w.values()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    for ids in training_batches(model):
        first, second = module(ids), module(ids)
        loss = F.cross_entropy(first @ second.T / TEMPERATURE, torch.arange(len(ids)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in module.w.items()}


def training_batches(model):
    """STEPS tensors [BATCH, time] of sentences of one length."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(model.folder / "minilm-tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(inputs.sentences(inputs.CALIBRATION, SENTENCES))]
    full = [batch for batch in same_length(ids, BATCH) if len(batch) == BATCH]
    return [full[index] for index in np.random.default_rng(4).permutation(len(full))[:STEPS]]


def amplified(tensors, tuned, times):
    return {name: tensor + times * (tuned[name] - tensor) for name, tensor in tensors.items()}


def permuted(tensors):
    """The same function: hidden units of every feed-forward network in another order."""
    random = np.random.default_rng(5)
    result = dict(tensors)
    for name in sorted(name for name in tensors if name.endswith("intermediate.dense.weight")):
        order = torch.from_numpy(random.permutation(len(tensors[name])))
        bias, output = name.replace("weight", "bias"), name.replace("intermediate", "output")
        result |= {name: tensors[name][order], bias: tensors[bias][order], output: tensors[output][:, order]}
    return result


def grown(tensors, noise):
    """Twice as many layers: the upper half is the lower one, each tensor with noise of `noise` times its root mean square."""
    random = torch.Generator().manual_seed(6)
    result = dict(tensors)
    layers = [(LAYER.fullmatch(name), tensor) for name, tensor in sorted(tensors.items()) if LAYER.fullmatch(name)]
    count = 1 + max(int(match[2]) for match, _ in layers)
    for match, tensor in layers:
        rms = tensor.square().mean().sqrt()
        copy = tensor + noise * rms * torch.randn(tensor.shape, generator=random) if noise else tensor.clone()
        result[f"{match[1]}{int(match[2]) + count}{match[3]}"] = copy
    return result


def variants(model):
    """Name -> its tensors."""
    tensors = {name: tensor for name, tensor in model.tensors().items() if tensor.is_floating_point()}
    tuned = finetuned(model, tensors)
    yield "finetuned", tuned
    yield "finetuned-5x", amplified(tensors, tuned, 5)
    yield "finetuned-20x", amplified(tensors, tuned, 20)
    yield "finetuned-permuted", permuted(tuned)
    yield "grown", grown(tensors, NOISE)
    yield "shared", grown(tensors, 0)
    # As a hub has them: the base in bf16, and what training in float32 makes of that base.
    base = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    yield "base-bf16", base
    yield "finetuned-bf16", {name: (tensor.float() + tuned[name] - tensors[name]).bfloat16() for name, tensor in base.items()}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("folder", type=Path)
    arguments = arguments.parse_args()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    model = MiniLM(arguments.cache)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in variants(model):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, arguments.folder / f"{name}.safetensors")
