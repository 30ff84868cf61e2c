"""PyTorch model + batches -> statistics file for `mcwc encode --calibration` (layout: docs/CALIBRATION.md).

    from mcwc_statistics import statistics
    statistics(model, batches, "stats.safetensors")

Importances come from perturbing one weight at a time (or, with fisher=True, from one backward pass a batch), row importances from
backward passes and token counts, moments from watching the inputs of every matrix product. Needs torch and safetensors.
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

MIN_ELEMENTS = 1024
MAX_COLUMNS = 6144
# Seeds start here: noise drawn like a model's initial weights, which are often seeded with 0, would not be independent of them.
SEED = 0x6D637763
# Below, rounding of float32 is too large a part of what is measured; above, it is no longer linear in the noise's energy.
LINEAR = (1e-8, 1e-2)
# Between the halves of random batches an importance differs by at most so many times, else the larger counts.
UNEVEN = 4
# What one half of random batches is checked with: an error that all weights make together, with noise in none of more than a part of
# its root mean square. If it is more than so many times what the other half's importances foretell, all are raised.
CHECKED_ERROR = 1e-3
LARGEST_NOISE = 0.5
CHECK_TOLERANCE = 2

CONVOLUTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
TRANSPOSED = {F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm}
LOOKUPS = {F.embedding, torch.embedding}


def statistics(model, batches, path, outputs=None, distortion="relative", fisher=False, rows=True, draws=2, noise=0.05,
               samples=None, strip="", seed=0, progress=True):
    """Measures `model` on `batches` and writes the statistics file at `path`; returns the tensors written.

    batches     a list; each a tensor, a tuple (`model(*batch)`) or a dict (`model(**batch)`), without padding: every position counts
    outputs     what of the model's result is compared: a function of it that returns a tensor or several; else all float tensors in it
    distortion  "relative": squared error / squared norm; "kl": Kullback-Leibler divergence of the softmax along the last axis
    fisher      importances from backward passes instead of perturbations: faster, and exact for small noise
    rows        row importances (backward passes; a model that cannot be differentiated needs rows=False)
    draws       noise tensors for each weight; each is measured on its own part of the batches
    noise       standard deviation of the noise over the weight's root mean square; adapted where the answer is not linear in it
    samples     how many samples the batches hold: else the sum of their first axes; 0 says that the inputs are random
                (no moments and no token frequencies then; what every other batch says is checked on the rest)
    strip       prefix that the model file's names lack
    """
    batches = list(batches)
    if not batches:
        raise ValueError("no batches")
    if distortion not in DISTORTIONS:
        raise ValueError(f"distortion {distortion!r} is none of {', '.join(DISTORTIONS)}")
    samples = sum(len(first_tensor(batch)) for batch in batches) if samples is None else samples
    weights = named_weights(model, strip)
    if not weights:
        raise ValueError(f"the model has no float weight with two axes and {MIN_ELEMENTS} elements")
    training = model.training
    model.eval()
    run = Runner(model, outputs, DISTORTIONS[distortion])
    say = print_progress if progress else lambda *_: None
    try:
        with torch.no_grad(), Watch(weights) as seen:
            references = [run(batch) for batch in batches]
        say("inputs", 1, 1)
        energies, parts = gradient_energies(run, batches, weights, seed, say) if fisher or rows else (None, {})
        for index, (name, weight) in enumerate(weights.items()):
            if not fisher:
                parts[name] = perturb(run, batches, references, name, weight, noise, draws, seed + index)
            say("importance", index + 1, len(weights))
        importances = {name: sum(parts[name]) / len(parts[name]) for name in weights}
        second_draw = None if samples else check(run, batches, references, weights, parts, importances, seed)
        for name, importance in importances.items():
            if importance == 0:
                print(f"{name}: no output depended on it; it is taken to matter as much as others do", file=sys.stderr)
        tensors = {f"{name}/importance": torch.tensor(value, dtype=torch.float32) for name, value in importances.items()}
        if rows:
            tensors |= row_importances(energies, seen, samples)
        if samples:
            for name, (kind, moments) in seen.moments.items():
                tensors[f"{name}/{kind}"] = moments.float()
            for name, columns in seen.too_wide.items():
                print(f"{name}: no moments, {columns} inputs are more than {MAX_COLUMNS}", file=sys.stderr)
    finally:
        model.train(training)
    save(tensors, path, samples, distortion, second_draw)
    return tensors


def row_importances(energies, seen, samples):
    tensors = {}
    for name, energy in energies.items():
        if name in seen.counts and not samples:
            # Random ids say nothing about how often rows are looked up, and leave most of them without a gradient.
            continue
        kind, _ = seen.moments.get(name, (None, None))
        row = row_importance(energy, seen.counts.get(name) if samples else None, kind is not None)
        # Where inputs run along the first axis, it has no output units.
        if row is not None and kind != "row_moments":
            tensors[f"{name}/row_importance"] = row
    return tensors


def save(tensors, path, samples, distortion, second_draw=None):
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
    inputs = "samples" if samples else "random"
    metadata = {"format": "mcwc-statistics", "version": "1", "samples": str(samples), "inputs": inputs, "distortion": distortion}
    if second_draw is not None:
        metadata["second_draw"] = f"{second_draw:.4g}"
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)


def named_weights(model, strip=""):
    """Each weight once, by its first name: tied ones are one tensor."""
    weights, known = {}, set()
    for name, weight in model.state_dict(keep_vars=True).items():
        if weight.is_floating_point() and weight.ndim >= 2 and weight.numel() >= MIN_ELEMENTS and weight.data_ptr() not in known:
            known.add(weight.data_ptr())
            weights[name.removeprefix(strip)] = weight
    return weights


class Runner:
    """Batch -> the outputs that are compared, and their distortion."""

    def __init__(self, model, outputs, distortion):
        self.model, self.outputs = model, outputs or float_tensors
        self.distortion, self.project = distortion

    def __call__(self, batch):
        if isinstance(batch, dict):
            result = self.model(**batch)
        else:
            result = self.model(*batch) if isinstance(batch, (tuple, list)) else self.model(batch)
        result = self.outputs(result)
        result = [result] if torch.is_tensor(result) else list(result)
        if not result:
            raise ValueError("the model's result holds no float tensor: name it with outputs=")
        for index, output in enumerate(result):
            if not torch.isfinite(output).all():
                raise ValueError(f"output {index} of the model is not finite")
        return result

    def measure(self, batch, reference):
        """Mean over the outputs."""
        return sum(self.distortion(a, b) for a, b in zip(reference, self(batch), strict=True)) / len(reference)


def relative(reference, output):
    return ((output.double() - reference.double()).square().sum() / reference.double().square().sum().clamp_min(1e-30)).item()


def relative_projection(output, random):
    """Scalar whose squared gradient is, on average over `random`, the distortion's sensitivity."""
    return (random * output).sum() / output.detach().norm().clamp_min(1e-15)


def kl(reference, output):
    reference, output = (tensor.double().log_softmax(-1) for tensor in (reference, output))
    return (reference.exp() * (reference - output)).sum(-1).mean().item()


def kl_projection(output, random):
    """For small errors the divergence is half the quadratic form of diag(p) - p pᵀ, a root of which meets `random` here."""
    root = output.detach().softmax(-1).sqrt()
    random = root * (random - root * (root * random).sum(-1, keepdim=True))
    return (random * output).sum() * (0.5 / (output.numel() // output.shape[-1])) ** 0.5


DISTORTIONS = {"relative": (relative, relative_projection), "kl": (kl, kl_projection)}


@torch.no_grad()
def perturb(run, batches, references, name, weight, noise, draws, seed):
    """Distortion for each unit of squared error of the weight, of each draw."""
    generator = torch.Generator(weight.device).manual_seed(SEED + seed)
    original = weight.detach().clone()
    rms = original.double().square().mean().sqrt().item()
    if rms < 1e-30:
        return [0.0]
    ratios = []
    try:
        for draw in range(draws):
            part = range(draw % len(batches), len(batches), draws)
            direction = torch.randn(weight.shape, generator=generator, device=weight.device)
            for _ in range(4):
                weight.copy_(original + (noise * rms) * direction)
                energy = (weight.double() - original.double()).square().sum().item()
                distortion = sum(run.measure(batches[index], references[index]) for index in part) / len(part)
                if distortion == 0 or LINEAR[0] <= distortion <= LINEAR[1]:
                    break
                noise *= 0.25 if distortion > LINEAR[1] else 4.0
            ratios.append(distortion / energy)
    except ValueError as error:
        raise ValueError(f"{name} with noise: {error}") from error
    finally:
        weight.copy_(original)
    return ratios


@torch.no_grad()
def check(run, batches, references, weights, parts, importances, seed):
    """How many times the error that importances of the first part of random batches foretell noise in all weights makes on the second;
    None with one batch. Raises importances where parts disagree, or the error is much more."""
    for name, part in parts.items():
        if max(part) > UNEVEN * min(part):
            print(f"{name}: more important on some random inputs than on others; the larger importance counts", file=sys.stderr)
            importances[name] = max(part)
    known = {name: part[0] for name, part in parts.items() if part[0] > 0}
    if len(batches) < 2 or not known:
        return None
    total = sum(weights[name].numel() for name in known)
    originals = {name: weights[name].detach().clone() for name in known}
    foretold = 0.0
    try:
        for index, (name, importance) in enumerate(known.items()):
            weight, original = weights[name], originals[name]
            generator = torch.Generator(weight.device).manual_seed(SEED + seed + len(weights) + index)
            rms = original.double().square().mean().sqrt().item()
            deviation = min((CHECKED_ERROR / total / importance) ** 0.5, LARGEST_NOISE * rms)
            weight.copy_(original + deviation * torch.randn(weight.shape, generator=generator, device=weight.device))
            foretold += importance * (weight.double() - original.double()).square().sum().item()
        second = range(1, len(batches), 2)
        found = sum(run.measure(batches[index], references[index]) for index in second) / len(second)
    finally:
        for name, original in originals.items():
            weights[name].copy_(original)
    ratio = found / foretold
    if ratio <= CHECK_TOLERANCE:
        return ratio
    print(f"on other random inputs errors cost {ratio:.1f} times as much: importances are raised by as much", file=sys.stderr)
    for name in importances:
        importances[name] *= ratio
    return 1.0


def gradient_energies(run, batches, weights, seed, say):
    """Expected squared gradient of each weight, mean over the batches; and the mean over the weight, of every other batch."""
    torch.manual_seed(SEED + seed)
    kept = {name: weight.requires_grad for name, weight in weights.items()}
    energies = {name: torch.zeros(weight.shape) for name, weight in weights.items()}
    halves = min(2, len(batches))
    parts = {name: [0.0] * halves for name in weights}
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for index, batch in enumerate(batches):
            outputs = run(batch)
            projected = sum(run.project(output, torch.randn_like(output)) for output in outputs) / len(outputs) ** 0.5
            gradients = torch.autograd.grad(projected, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients):
                if gradient is not None:
                    squares = gradient.float().square().cpu()
                    energies[name] += squares / len(batches)
                    parts[name][index % halves] += squares.double().mean().item() / len(range(index % halves, len(batches), halves))
            say("gradients", index + 1, len(batches))
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(kept[name])
    return energies, parts


def row_importance(energy, counts, multiplied):
    """Mean 1. Rows of a table matter as often as they are looked up; each counts once more, as it may be elsewhere."""
    rows = energy.flatten(1).mean(1).double()
    if rows.mean() <= 0:
        return None
    rows /= rows.mean()
    if counts is not None:
        frequency = (counts + 1) / (counts + 1).mean()
        rows = (rows + frequency) / 2 if multiplied else frequency
    return rows.float()


class Watch(TorchFunctionMode):
    """Sees what the weights are multiplied with, whichever module does it."""

    def __init__(self, weights):
        super().__init__()
        self.names = {weight.data_ptr(): name for name, weight in weights.items()}
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        self.moments, self.positions, self.counts, self.too_wide = {}, {}, {}, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.linear:
            self.product(*operands(args, kwargs, "input", "weight"), columns=True)
        elif function in PRODUCTS:
            self.product(*operands(args, kwargs, "input", "other"), columns=False)
        elif function in (torch.addmm, torch.Tensor.addmm):
            self.product(args[1], args[2], columns=False)
        elif function in CONVOLUTIONS:
            self.convolution(CONVOLUTIONS[function], *args, **kwargs)
        elif function in TRANSPOSED:
            self.transposed(*args, **kwargs)
        elif function in LOOKUPS:
            first, second = operands(args, kwargs, "input", "weight")
            self.lookup(first, second) if second.is_floating_point() else self.lookup(second, first)
        elif function is torch.Tensor.__getitem__ and torch.is_tensor(args[1]) and args[1].dtype in (torch.int32, torch.int64):
            self.lookup(args[1], args[0])
        return function(*args, **kwargs)

    def name(self, weight):
        return self.names.get(weight.data_ptr()) if torch.is_tensor(weight) else None

    def product(self, x, weight, columns):
        """`columns`: the product runs along the last axis of `weight`, else along the last but one."""
        name = self.name(weight)
        if name is None or weight.ndim != 2 or weight.numel() != self.shapes[name].numel() or not torch.is_tensor(x):
            return
        if weight.shape != self.shapes[name] or not weight.is_contiguous():
            if weight.T.shape != self.shapes[name] or not weight.T.is_contiguous():
                return
            columns = not columns
        self.add(name, "column_moments" if columns else "row_moments", x.reshape(-1, x.shape[-1]))

    def convolution(self, axes, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        name = self.name(weight)
        if name is None or weight.shape != self.shapes[name]:
            return
        if weight[0].numel() > MAX_COLUMNS:
            self.too_wide[name] = weight[0].numel()
            return
        stride, dilation = spread(stride, axes), spread(dilation, axes)
        reach = [gap * (size - 1) for gap, size in zip(dilation, weight.shape[2:])]
        if isinstance(padding, str):
            pads = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
        else:
            pads = [(p, p) for p in spread(padding, axes)]
        x = input if input.ndim == axes + 2 else input[None]
        for sample in F.pad(x, [side for pair in reversed(pads) for side in pair]):
            patches = sample.reshape(groups, -1, *sample.shape[1:])
            for axis, (step, gap, far, size) in enumerate(zip(stride, dilation, reach, weight.shape[2:])):
                # The window lies behind all other axes; of it every `gap`th element meets the kernel.
                patches = patches.unfold(axis + 2, far + 1, step)[..., ::gap]
            order = [0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes)]
            self.add(name, "column_moments", patches.permute(order).reshape(-1, weight[0].numel()))

    def transposed(self, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        name = self.name(weight)
        if name is not None and groups == 1 and weight.shape == self.shapes[name]:
            x = input if input.ndim == weight.ndim else input[None]
            self.add(name, "row_moments", x.movedim(1, -1).reshape(-1, x.shape[1]))

    def lookup(self, ids, table):
        name = self.name(table)
        if name is not None and table.shape == self.shapes[name]:
            counts = torch.bincount(ids.flatten().cpu(), minlength=len(table)).double()
            self.counts[name] = self.counts.get(name, 0) + counts

    def add(self, name, kind, x):
        if x.shape[-1] > MAX_COLUMNS:
            self.too_wide[name] = x.shape[-1]
            return
        x = x.detach().float()
        before, after = self.positions.get(name, 0), self.positions.get(name, 0) + len(x)
        _, mean = self.moments.get(name, (kind, 0))
        self.positions[name] = after
        self.moments[name] = (kind, mean * (before / after) + (x.T @ x).double().cpu() / after)


def operands(args, kwargs, first, second):
    args = list(args)
    return [kwargs[key] if key in kwargs else args.pop(0) for key in (first, second)]


def spread(value, axes):
    return list(value) * (axes if len(value) == 1 else 1) if isinstance(value, (tuple, list)) else [value] * axes


def first_tensor(batch):
    return next(iter(tensors_in(batch)))


def float_tensors(result):
    return [tensor for tensor in tensors_in(result) if tensor.is_floating_point()]


def tensors_in(value):
    if torch.is_tensor(value):
        yield value
    elif hasattr(value, "values"):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def print_progress(what, done, total):
    print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
