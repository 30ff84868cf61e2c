"""Tensors -> a checkpoint as `torch.save` writes it, with stand-ins for what PyTorch pickles by name: it need not be installed."""

import collections
import io
import pickle
import sys
import types
import zipfile

import ml_dtypes
import numpy as np


def stand_in(module, name, **members):
    named = type(name, (), {"__module__": module, "__qualname__": name, **members})
    sys.modules.setdefault(module, types.ModuleType(module))
    setattr(sys.modules[module], name, named)
    return named


STORAGE_KINDS = {np.float32: "FloatStorage", np.float16: "HalfStorage", ml_dtypes.bfloat16: "BFloat16Storage"}
STORAGE_KINDS |= {np.int64: "LongStorage", np.bool_: "BoolStorage"}
STORAGE_KINDS = {dtype: stand_in("torch", kind) for dtype, kind in STORAGE_KINDS.items()}
REBUILD_TENSOR = stand_in("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = stand_in("torch._utils", "_rebuild_parameter")


class Storage:
    def __init__(self, array):
        self.array = array


class Tensor:
    def __init__(self, storage, shape, strides, offset=0):
        self.parts = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return REBUILD_TENSOR, self.parts


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return REBUILD_PARAMETER, (self.tensor, True, collections.OrderedDict())


class Pickler(pickle.Pickler):
    """Keeps storages apart: `storages` gets the key and the array of each."""

    def __init__(self, content, storages):
        super().__init__(content, 2)
        self.storages = storages

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = self.storages.setdefault(id(value), (str(len(self.storages)), value.array))[0]
        return "storage", STORAGE_KINDS[value.array.dtype.type], key, "cpu", value.array.size


def whole(array):
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor(Storage(array), array.shape, strides)


def save(value, path):
    content, storages = io.BytesIO(), {}
    Pickler(content, storages).dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        entries = {"data.pkl": content.getvalue(), "byteorder": b"little"}
        entries |= {"data/" + key: array.tobytes() for key, array in storages.values()}
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}"), data)
