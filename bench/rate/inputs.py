"""What the models are fed: sentences, pictures of text lines and audio frames, the same on every run.

Sentences come from the docstrings of the packages that requirements.txt pins, sorted by their hashes; each source file gives
either to calibration or to evaluation, so that the two share no document. Lines of text are such sentences' words, drawn with the
fonts that Matplotlib brings; audio is synthesized. Seeds of calibration and evaluation differ.
"""
import ast
import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np

EVALUATION, CALIBRATION = "evaluation", "calibration"
PACKAGES = ["fontTools", "jinja2", "matplotlib", "networkx", "numpy", "onnx", "scipy", "setuptools", "sympy", "torch"]
RANDOM = {EVALUATION: 1, CALIBRATION: 2}

LINE_HEIGHT, LINE_WIDTH = 48, 320
SAMPLE_RATE, FRAME = 16000, 1024


def sentences(part, count):
    """[str]: English technical prose, 50 to 300 characters each."""
    known, found = set(), []
    for package in PACKAGES:
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(folder.rglob("*.py")):
            if {"tests", "_vendor"} & set(path.parts) or digest(f"{package}/{path.relative_to(folder)}")[0] % 2 != RANDOM[part] % 2:
                continue
            for text in prose(path):
                key = re.sub(r"[^a-z]", "", text.lower())[:40]
                if key not in known:
                    known.add(key)
                    found.append(text)
    if len(found) < count:
        raise SystemExit(f"{len(found)} sentences for {part}, {count} are needed")
    return sorted(found, key=digest)[:count]


def prose(path):
    """Sentences of a module's docstrings that look like prose."""
    try:
        module = ast.parse(path.read_bytes())
    except SyntaxError:  # Written for a newer Python.
        return
    for node in ast.walk(module):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
            for text in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                text = re.sub(r":\w+:`~?([^`]*)`|``?([^`]*)``?", lambda match: match[1] or match[2], text)
                letters = sum(character.isalpha() or character == " " for character in text)
                if 50 <= len(text) <= 300 and re.match(r"[A-Z][a-z]* [a-z]", text) and text[-1] == "." and letters > 0.93 * len(text) and not re.search(r"[_$]| : ", text):
                    yield text


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def text_lines(part, count):
    """float32 [count, 3, 48, 320] in -1..1 as PP-OCR reads them; fonts, sizes, contrasts, slants, blur and noise vary."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    random = np.random.default_rng(RANDOM[part])
    folder = Path(matplotlib.get_data_path(), "fonts/ttf")
    fonts = sorted(path for path in folder.glob("*.ttf") if re.match(r"(DejaVu|STIXGeneral)(?!.*(Display|Math))", path.name))
    images = []
    for text in sentences(part, count):
        words = text.split()
        start = int(random.integers(max(1, len(words) - 4)))
        words = words[start:start + int(random.integers(2, 5))]
        if random.random() < 0.3:
            words.insert(int(random.integers(len(words) + 1)), f"{random.integers(10 ** int(random.integers(1, 7)))}")
        text = " ".join(words)
        font = ImageFont.truetype(fonts[random.integers(len(fonts))], int(random.integers(20, 36)))
        left, top, right, bottom = font.getbbox(text)
        paper, ink = random.integers(190, 256), random.integers(0, 90)
        if random.random() < 0.2:
            paper, ink = ink, paper
        width, height = right - left + int(random.integers(8, 24)), LINE_HEIGHT - int(random.integers(0, 4))
        image = Image.new("L", (width, height), int(paper))
        ImageDraw.Draw(image).text((4 - left, (height - bottom + top) / 2 - top), text, int(ink), font)
        image = image.rotate(random.normal() * 0.6, Image.Resampling.BICUBIC, fillcolor=int(paper))
        if random.random() < 0.4:
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.0)))
        width = min(LINE_WIDTH, round(width * LINE_HEIGHT / height))
        pixels = np.asarray(image.resize((width, LINE_HEIGHT), Image.Resampling.BILINEAR), np.float32)
        pixels = np.clip(pixels + random.normal(size=pixels.shape) * random.uniform(0, 14), 0, 255)
        line = np.zeros((3, LINE_HEIGHT, LINE_WIDTH), np.float32)
        line[:, :, :width] = pixels / 127.5 - 1
        images.append(line)
    return np.stack(images)


def audio_frames(part, count):
    """float32 [count, 1024] at 16 kHz, mean 0 and variance 1: harmonic tones with vibrato or a glide, and noise."""
    random = np.random.default_rng(RANDOM[part])
    time = np.arange(FRAME) / SAMPLE_RATE
    frames = np.empty((count, FRAME))
    for frame in frames:
        pitch = 2 ** random.uniform(np.log2(50), np.log2(1000))
        vibrato = random.uniform(0, 0.03) * np.sin(2 * np.pi * (random.uniform(3, 8) * time + random.random()))
        glide = random.normal() * 0.5 * time * (random.random() < 0.5)
        phase = 2 * np.pi * np.cumsum(pitch * 2 ** (vibrato + glide)) / SAMPLE_RATE
        tilt, formant, width = random.uniform(0.3, 2), random.uniform(300, 2500), random.uniform(200, 1500)
        tone = np.zeros(FRAME)
        for harmonic in range(1, int(min(40, 7600 / pitch)) + 1):
            gain = harmonic ** -tilt * (0.2 + np.exp(-(((harmonic * pitch - formant) / width) ** 2)))
            tone += gain * np.sin(harmonic * phase + random.uniform(0, 2 * np.pi))
        noise = random.normal(size=FRAME) * 10 ** random.uniform(-2.5, 0)
        frame[:] = tone / tone.std() + noise
    frames -= frames.mean(1, keepdims=True)
    return (frames / frames.std(1, keepdims=True)).astype(np.float32)

