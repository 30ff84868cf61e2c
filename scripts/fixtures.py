"""Writes tests/data/formats: small model files, and expected.json with the bytes of every tensor in them.

    pip install onnx==1.23.2 safetensors==0.8.0 gguf==0.19.0 numpy ml_dtypes && python scripts/fixtures.py

What is expected comes from the arrays that went in, never from reading a file back. The outputs are checked in, so
this is run only to add a case.
"""

import collections
import json
import pathlib

import gguf
import ml_dtypes
import numpy as np
import safetensors
from onnx import TensorProto, helper, numpy_helper

import torch_pickle
from torch_pickle import Parameter, Storage, Tensor, whole

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "data" / "formats"
rng = np.random.default_rng(1)
cases = {}


def case(name, files, tensors):
    """A group of files that belong together. `tensors`: (tensor name, dtype, shape, file, bytes)."""
    for file, content in files.items():
        path = FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    keys = ("name", "dtype", "shape", "file", "hex")
    rows = [dict(zip(keys, (n, d, list(s), f, bytes(b).hex()))) for n, d, s, f, b in tensors]
    cases[name] = {"files": sorted(files), "tensors": rows}


def normal(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def pack_nibbles(values):
    """Two elements a byte, the first in the low half."""
    values = [int(v) & 15 for v in values] + [0] * (len(values) % 2)
    return bytes(low | high << 4 for low, high in zip(values[::2], values[1::2]))


def model(graph, **options):
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="fixtures", **options).SerializeToString()


def graph(name, nodes=(), initializers=(), inputs=(), **options):
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, list(inputs), [output], list(initializers), **options)


def raw_tensor(name, onnx_type, shape, data):
    tensor = TensorProto(name=name, data_type=onnx_type, dims=shape)
    tensor.raw_data = bytes(data)
    return tensor


def onnx_raw():
    """Every element type as `raw_data`, a scalar, an empty tensor; complex and string tensors to be left out."""
    arrays = {
        "f32": normal(2, 3),
        "f16": normal(3, dtype=np.float16),
        "bf16": normal(2, dtype=ml_dtypes.bfloat16),
        "f64": normal(2, dtype=np.float64),
        "i8": rng.integers(-128, 128, 5, dtype=np.int8),
        "u8": rng.integers(0, 256, (1, 5), dtype=np.uint8),
        "i16": rng.integers(-999, 999, 2, dtype=np.int16),
        "u16": rng.integers(0, 999, 2, dtype=np.uint16),
        "i32": rng.integers(-999, 999, 2, dtype=np.int32),
        "u32": rng.integers(0, 999, 2, dtype=np.uint32),
        "i64": rng.integers(-999, 999, 2, dtype=np.int64),
        "u64": rng.integers(0, 999, 2, dtype=np.uint64),
        "bool": np.array([True, False, True]),
        "f8_e4m3": normal(3, dtype=ml_dtypes.float8_e4m3fn),
        "f8_e5m2": normal(3, dtype=ml_dtypes.float8_e5m2),
    }
    initializers = [numpy_helper.from_array(a, "w_" + n) for n, a in arrays.items()]
    tensors = [("w_" + n, n, a.shape, "raw.onnx", a.tobytes()) for n, a in arrays.items()]

    def add(name, dtype, shape, onnx_type, data, found=True):
        initializers.append(raw_tensor(name, onnx_type, shape, data))
        if found:
            tensors.append((name, dtype, shape, "raw.onnx", data))

    add("odd_i4", "i4", (1, 5), TensorProto.INT4, pack_nibbles([-8, 7, 1, -1, 3]))
    add("even_u4", "u4", (2, 2), TensorProto.UINT4, pack_nibbles([15, 0, 9, 6]))
    add("scalar", "f32", (), TensorProto.FLOAT, np.float32(3.5).tobytes())
    add("empty", "f32", (0, 4), TensorProto.FLOAT, b"")
    add("complex", None, (1,), TensorProto.COMPLEX64, bytes(8), found=False)
    initializers.append(helper.make_tensor("strings", TensorProto.STRING, [2], [b"ab", b"c"]))
    case("raw", {"raw.onnx": model(graph("g", initializers=initializers))}, tensors)


def onnx_typed():
    """`float_data` and `double_data` are found; varint fields, and floats in two pieces, are not."""
    floats, doubles, pieces = normal(2, 2), normal(3, dtype=np.float64), normal(4)
    split = TensorProto(name="split", data_type=TensorProto.FLOAT, dims=[4])
    split_bytes = split.SerializeToString() + b"".join(
        bytes([0x22, 8]) + half.tobytes() for half in (pieces[:2], pieces[2:])
    )
    unpacked_bytes = TensorProto(name="unpacked", data_type=TensorProto.FLOAT, dims=[1]).SerializeToString()
    unpacked_bytes += bytes([0x25]) + normal(1).tobytes()
    initializers = [
        helper.make_tensor("floats", TensorProto.FLOAT, [2, 2], floats.flatten()),
        helper.make_tensor("doubles", TensorProto.DOUBLE, [3], doubles),
        helper.make_tensor("longs", TensorProto.INT64, [3], [1, -1, 1 << 40]),
        helper.make_tensor("unsigned", TensorProto.UINT64, [1], [1 << 60]),
        helper.make_tensor("halves", TensorProto.FLOAT16, [2], np.array([1, 2], np.float16)),
        helper.make_tensor("bytes", TensorProto.UINT8, [2], [1, 255]),
        helper.make_tensor("complex", TensorProto.COMPLEX64, [1], [1 + 2j]),
        helper.make_tensor("no_elements", TensorProto.FLOAT, [0], []),
    ]
    content = graph("g", initializers=initializers).SerializeToString()
    for tensor in (split_bytes, unpacked_bytes):
        content += bytes([0x2A, len(tensor)]) + tensor
    head = helper.make_model(graph("g"), producer_name="fixtures")
    head.ClearField("graph")
    length = len(content)
    assert 128 <= length < 1 << 14
    whole = head.SerializeToString() + bytes([0x3A, length & 127 | 128, length >> 7]) + content
    rows = [
        ("floats", "f32", (2, 2), "typed.onnx", floats.tobytes()),
        ("doubles", "f64", (3,), "typed.onnx", doubles.tobytes()),
    ]
    case("typed", {"typed.onnx": whole}, rows)


def onnx_nested():
    """Tensors in branches, a loop body, a function, node attributes, a sparse initializer and a training graph."""
    rows = []

    def tensor(name, found_as=None, shape=(2,)):
        array = normal(*shape)
        rows.append((found_as or name, "f32", shape, "nested.onnx", array.tobytes()))
        return raw_tensor(name, TensorProto.FLOAT, shape, array.tobytes())

    def constant(output, name=""):
        return helper.make_node("Constant", [], [output], value=tensor(name, found_as=output))

    def indices(name, found_as):
        array = np.array([1, 3], np.int64)
        rows.append((found_as, "i64", (2,), "nested.onnx", array.tobytes()))
        return raw_tensor(name, TensorProto.INT64, (2,), array.tobytes())

    inner = graph("inner", [constant("deep")], [tensor("inner_w")])
    body = graph("body", [helper.make_node("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1)], [tensor("loop_w")])
    then_branch = graph("then", [constant("y", name="value")], [tensor("bias", found_as="bias#2")])
    # The helper sorts attributes by name, so the else branch comes first in the file.
    else_branch = graph("else", [constant("y_else", name="value")], [tensor("bias", shape=(3,))])
    custom = helper.make_node("Custom", ["x"], ["custom_y"], domain="local")
    custom.attribute.append(
        helper.make_attribute("tables", [tensor("", "custom_y"), tensor("", "unnamed"), tensor("own", "own")])
    )
    nodes = [
        constant("c0"),
        helper.make_node("If", ["x"], ["y"], then_branch=then_branch, else_branch=else_branch),
        helper.make_node("Loop", ["x", "x"], ["y"], body=body),
        custom,
    ]
    sparse = helper.make_sparse_tensor(tensor("sparse"), indices("sparse_at", "sparse_at"), [5])
    main = graph("main", nodes, [tensor("main_w")], sparse_initializer=[sparse])
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [constant("in_function")], [helper.make_opsetid("", 21)]
    )
    proto = helper.make_model(main, functions=[function], producer_name="fixtures")
    proto.training_info.add().algorithm.CopyFrom(graph("training", initializers=[tensor("training_w")]))
    case("nested", {"nested.onnx": proto.SerializeToString()}, rows)


def onnx_external():
    """External data at offsets, with and without `length`, shared by two tensors, and in a folder."""
    a, b, c = normal(4), normal(2, dtype=np.float16), rng.integers(0, 256, 6, dtype=np.uint8)
    main_data = bytes([0xEE] * 5) + a.tobytes() + bytes([0xEE] * 3) + b.tobytes()
    rows, initializers = [], []

    def add(name, dtype, onnx_type, array, found_in, **entries):
        tensor = TensorProto(name=name, data_type=onnx_type, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
        rows.append((name, dtype, array.shape, found_in, array.tobytes()))

    add("a", "f32", TensorProto.FLOAT, a, "external.bin", location="external.bin", offset=5, length=16)
    add("b", "f16", TensorProto.FLOAT16, b, "external.bin", location="./external.bin", offset=24)
    add("c", "u8", TensorProto.UINT8, c, "weights/c.bin", location="weights/c.bin")
    add("a_again", "f32", TensorProto.FLOAT, a[:2], "external.bin", location="external.bin", offset=5, length=8)
    content = model(graph("g", initializers=initializers))
    case("external", {"external.onnx": content, "external.bin": main_data, "weights/c.bin": c.tobytes()}, rows)


def serialize(tensors, metadata=None):
    """`tensors`: name -> (the library's name of the element type, shape, bytes)."""
    buffers = [np.frombuffer(data, np.uint8) for _, _, data in tensors.values()]  # keeps the pointers valid
    specs = {
        name: safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=buffer.ctypes.data, data_len=len(data))
        for (name, (dtype, shape, data)), buffer in zip(tensors.items(), buffers)
    }
    return bytes(safetensors.serialize(specs, metadata))


def safetensors_dtypes():
    """Every element type of the library that is ours too, and one that is not."""
    ours = {
        "float32": ("f32", 4), "float16": ("f16", 2), "bfloat16": ("bf16", 2), "float64": ("f64", 8),
        "int8": ("i8", 1), "uint8": ("u8", 1), "int16": ("i16", 2), "uint16": ("u16", 2), "int32": ("i32", 4),
        "uint32": ("u32", 4), "int64": ("i64", 8), "uint64": ("u64", 8), "bool": ("bool", 1),
        "float8_e4m3fn": ("f8_e4m3", 1), "float8_e5m2": ("f8_e5m2", 1),
    }  # fmt: skip
    tensors, rows = {}, []
    for theirs, (dtype, size) in ours.items():
        shape = (3, 1)
        data = rng.bytes(3 * size) if dtype != "bool" else bytes([1, 0, 1])
        tensors["w." + dtype] = (theirs, shape, data)
        rows.append(("w." + dtype, dtype, shape, "dtypes.safetensors", data))
    for name, shape, data in [("scalar", (), rng.bytes(4)), ("empty", (0, 2), b"")]:
        tensors[name] = ("float32", shape, data)
        rows.append((name, "f32", shape, "dtypes.safetensors", data))
    tensors["complex"] = ("complex64", (1,), rng.bytes(8))
    content = serialize(tensors, {"format": "pt"})
    case("dtypes", {"dtypes.safetensors": content}, rows)


def safetensors_sharded():
    """Two shards and their index."""
    files, rows, weight_map = {}, [], {}
    for number, names in enumerate([["embed", "layer.0"], ["layer.1"]], 1):
        file = f"sharded-{number:05}-of-00002.safetensors"
        tensors = {}
        for name in names:
            data = normal(2, 2).tobytes()
            tensors[name] = ("float32", (2, 2), data)
            rows.append((name, "f32", (2, 2), file, data))
            weight_map[name] = file
        files[file] = serialize(tensors)
    index = {"metadata": {"total_size": 48}, "weight_map": weight_map}
    files["sharded.safetensors.index.json"] = json.dumps(index, indent=2).encode()
    case("sharded", files, rows)


def gguf_types():
    """Every type of the library, two rows of two blocks each; one of them is not ours."""
    writer = gguf.GGUFWriter(None, "fixture")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    writer.add_array("floats", [1.0, 2.5])
    writer.add_bool("flag", True)
    writer.add_custom_alignment(64)
    ours = {"F32": "f32", "F16": "f16", "F64": "f64", "BF16": "bf16"}
    ours |= {"I8": "i8", "I16": "i16", "I32": "i32", "I64": "i64"}
    rows = []
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        data = np.frombuffer(rng.bytes(4 * size), np.uint8).reshape(2, 2 * size)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        if kind.name in ours:
            rows.append((kind.name, ours[kind.name], (2, 2), "types.gguf", data.tobytes()))
        elif kind.name != "Q8_1":
            rows.append((kind.name, "u8", data.shape, "types.gguf", data.tobytes()))
    # What Q4_0 and Q8_0 hold after real quantization, and a vector.
    weights = normal(3, 64)
    for kind in (gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0):
        data = gguf.quants.quantize(weights, kind)
        writer.add_tensor("weights." + kind.name, data, raw_dtype=kind)
        rows.append(("weights." + kind.name, "u8", data.shape, "types.gguf", data.tobytes()))
    bias = normal(5)
    writer.add_tensor("bias", bias)
    rows.append(("bias", "f32", (5,), "types.gguf", bias.tobytes()))
    path = FOLDER / "types.gguf"
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}
    assert all(found[name] == data for name, _, _, _, data in rows)
    case("gguf", {"types.gguf": path.read_bytes()}, rows)


def tfjs(name, file, groups, wrap):
    """`groups`: (shard names, where each but the first begins, weights as (spec, bytes, dtype or None))."""
    manifest, files, rows = [], {}, []
    for paths, cuts, weights in groups:
        data = b"".join(content for _, content, _ in weights)
        bounds = [0, *cuts, len(data)]
        shards = {path: (start, end) for path, start, end in zip(paths, bounds, bounds[1:])}
        files |= {path: data[start:end] for path, (start, end) in shards.items()}
        manifest.append({"paths": paths, "weights": [spec for spec, _, _ in weights]})
        start = 0
        for spec, content, dtype in weights:
            end, shape = start + len(content), tuple(spec["shape"])
            row = len(content) // int(np.prod(shape[:-1], dtype=int)) if len(shape) > 1 else 0
            for path, (first, last) in shards.items() if dtype else ():
                if first <= start and end <= last:
                    rows.append((spec["name"], dtype, shape, path, content))
                elif start < last and first < end:
                    a, b = -((start - max(first, start)) // row), (min(end, last) - start) // row
                    piece = content[a * row : b * row]
                    rows.append((f"{spec['name']}[{a}:{b}]", dtype, (b - a, shape[-1]), path, piece))
            start = end
    files[file] = json.dumps(wrap(manifest)).encode()
    case(name, files, rows)


def tfjs_model():
    """Float, quantized, bool and string weights in two groups; a kernel that lies in two shards."""

    def weight(name, array, dtype, stored=None, found=True):
        spec = {"name": name, "shape": list(array.shape), "dtype": dtype}
        ours = {"float32": "f32", "float16": "f16", "int32": "i32", "uint8": "u8", "uint16": "u16", "bool": "bool"}
        if stored:
            spec["quantization"] = {"dtype": stored, "scale": 0.01, "min": -1.25}
        return spec, array.tobytes(), ours[stored or dtype] if found else None

    words = [b"one", b"", "zw\u00f6lf".encode()]
    text = b"".join(len(word).to_bytes(4, "little") + word for word in words)
    strings = ({"name": "words", "shape": [3], "dtype": "string"}, text, None)
    first = [
        weight("conv/kernel", normal(3, 3, 2, 4), "float32"),
        weight("conv/bias", normal(4), "float32"),
        strings,
        weight("steps", rng.integers(-9, 9, 3, dtype=np.int32), "int32"),
    ]
    second = [
        weight("dense/kernel", rng.integers(0, 256, (5, 6), dtype=np.uint8), "float32", "uint8"),
        weight("dense/bias", rng.integers(0, 65536, 6, dtype=np.uint16), "float32", "uint16"),
        weight("half", normal(2, 2, dtype=np.float16), "float32", "float16"),
        weight("mask", np.array([True, False, True]), "bool"),
    ]
    groups = [(["group1-shard1of2.bin", "group1-shard2of2.bin"], [150], first), (["group2-shard1of1.bin"], [], second)]
    tfjs("tfjs", "model.json", groups, lambda manifest: {"format": "layers-model", "weightsManifest": manifest})
    kernel = weight("conv/filters", rng.integers(0, 256, (3, 3, 1, 4), dtype=np.uint8), "float32", "uint8")
    groups = [(["face_model.bin"], [], [kernel])]
    tfjs("face", "face-weights_manifest.json", groups, lambda manifest: manifest)


def torch_checkpoint():
    """Parameters, a tied one, a slice, types and nested dictionaries; a transposed tensor is left out."""
    kernel, halves, longs = normal(4, 3), normal(5, dtype=np.float16), rng.integers(-9, 9, 3, dtype=np.int64)
    storage = Storage(kernel)
    state = collections.OrderedDict()
    state["linear.weight"] = Parameter(Tensor(storage, (4, 3), (3, 1)))
    state["tied.weight"] = Tensor(storage, (4, 3), (3, 1))
    state["rows"] = Tensor(storage, (2, 3), (3, 1), 3)
    state["transposed"] = Tensor(storage, (3, 4), (1, 3))
    state["halves"] = whole(halves)
    state["mask"] = whole(np.array([True, False]))
    state["scalar"] = whole(np.array(2.5, ml_dtypes.bfloat16))
    optimizer = {"state": {0: {"step": 7, "moments": whole(longs)}}, "lr": 1e-3, "names": ["a", ("b", None)]}
    path = FOLDER / "checkpoint.pth"
    torch_pickle.save({"model": state, "optimizer": optimizer}, path)
    rows = [
        ("linear.weight", "f32", (4, 3), path.name, kernel.tobytes()),
        ("tied.weight", "f32", (4, 3), path.name, kernel.tobytes()),
        ("rows", "f32", (2, 3), path.name, kernel[1:3].tobytes()),
        ("halves", "f16", (5,), path.name, halves.tobytes()),
        ("mask", "bool", (2,), path.name, bytes([1, 0])),
        ("scalar", "bf16", (), path.name, bytes([0x20, 0x40])),
        ("moments", "i64", (3,), path.name, longs.tobytes()),
    ]
    case("torch", {path.name: path.read_bytes()}, rows)


if __name__ == "__main__":
    onnx_raw()
    onnx_typed()
    onnx_nested()
    onnx_external()
    safetensors_dtypes()
    safetensors_sharded()
    gguf_types()
    tfjs_model()
    torch_checkpoint()
    text = ",\n".join(
        f'"{name}": {{"files": {json.dumps(c["files"])}, "tensors": [\n  '
        + ",\n  ".join(json.dumps(t) for t in c["tensors"])
        + "\n]}"
        for name, c in cases.items()
    )
    (FOLDER / "expected.json").write_text("{\n" + text + "\n}\n")
