"""Products as llama.cpp does them: ggml's mul_mat, called in the libraries that llama-cpp-python brings."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import Body

__all__ = ["matmul"]

TYPES = {"q4_0": (2, 18), "q8_0": (8, 34)}
"""ggml's number of the type, and bytes of a block of 32 weights."""
REPACKED = ("q4_0",)
"""Types that llama.cpp repacks for x86 processors on loading; the buffer that does so fails on others."""
FLOAT32 = 0
BLOCK = 32
PARAMETERS = 4096
"""More bytes than ggml's structures of parameters have."""


class _Context(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def matmul(kind: str, rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    """Weights lie in the form that ggml's CPU backend likes best, as llama.cpp loads them; a graph for each copy."""
    call = _Library()
    backend = call("ggml_backend_cpu_init")
    _set_threads(call, backend, threads)
    number, block_bytes = TYPES[kind]
    store, work = _open_context(call, copies + 1), _open_context(call, 4 * copies + 8)
    weights = [call("ggml_new_tensor_2d", store, number, depth, columns, types="pill") for _ in range(copies)]
    x = call("ggml_new_tensor_2d", work, FLOAT32, depth, rows, types="pill")
    graphs = []
    for weight in weights:
        graph = call("ggml_new_graph_custom", work, 16, False, types="plb")
        call("ggml_build_forward_expand", graph, call("ggml_mul_mat", work, weight, x, types="ppp"), types="pp")
        graphs.append(graph)
    if kind not in REPACKED or not _allocate_repacked(call, store):
        call("ggml_backend_alloc_ctx_tensors", store, backend, types="pp")
    call("ggml_backend_alloc_ctx_tensors", work, backend, types="pp")
    rng = np.random.default_rng(0)
    _fill(call, x, rng.standard_normal((rows, depth), np.float32))
    codes = rng.integers(0, 256, (depth * columns // BLOCK, block_bytes), np.uint8)
    codes[:, :2] = np.full(1, 0.01, np.float16).view(np.uint8)  # the scale of each block comes first
    for weight in weights:
        _fill(call, weight, codes)
    compute = call.function("ggml_backend_graph_compute", "pp", ctypes.c_int)
    return lambda turn: compute(backend, graphs[turn % copies])


class _Library:
    """Functions of ggml by name. types: a letter for each argument, p(ointer), i(nt), l(ong), b(ool), z(bytes)."""

    LETTERS = {
        "p": ctypes.c_void_p,
        "i": ctypes.c_int,
        "l": ctypes.c_int64,
        "b": ctypes.c_bool,
        "z": ctypes.c_char_p,
    }

    def function(self, name: str, types: str, result: Any = ctypes.c_void_p) -> Any:
        """Whichever library holds it."""
        for library in _load_libraries():
            found = getattr(library, name, None)
            if found is not None:
                found.argtypes = [self.LETTERS[letter] for letter in types]
                found.restype = result
                return found
        raise AttributeError(f"this llama-cpp-python has no {name}")

    def __call__(self, name: str, *arguments: Any, types: str = "") -> Any:
        return self.function(name, types)(*arguments)


@cache
def _load_libraries() -> list[ctypes.CDLL]:
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    order = ("ggml-base", "ggml-cpu", "ggml")
    kinds = (".so", ".dylib", ".dll")
    files = [path for name in order for path in sorted(folder.glob(f"*{name}.*")) if path.suffix in kinds]
    return [ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in files]


def _set_threads(call: _Library, backend: int, threads: int) -> None:
    """A pool that stays, as in llama.cpp; else each call would start threads."""
    parameters = ctypes.create_string_buffer(PARAMETERS)
    call("ggml_threadpool_params_init", ctypes.addressof(parameters), threads, types="pi")
    pool = call("ggml_threadpool_new", ctypes.addressof(parameters), types="p")
    call("ggml_backend_cpu_set_n_threads", backend, threads, types="pi")
    call("ggml_backend_cpu_set_threadpool", backend, pool, types="pp")


def _open_context(call: _Library, tensors: int) -> int:
    """Room for the descriptions of tensors and graphs; their data are allocated by the backend."""
    init = call.function("ggml_init", "")
    init.argtypes = [_Context]
    found: int = init(_Context((tensors + 1) * 65536, None, True))
    return found


def _allocate_repacked(call: _Library, context: int) -> bool:
    """Whether the library has the buffer that repacks weights for this processor."""
    registry = call("ggml_backend_cpu_reg")
    device = call("ggml_backend_reg_dev_get", registry, 0, types="pl")
    address = call("ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts", types="pz")
    if not address:
        return False
    extras = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(device)
    name = call.function("ggml_backend_buft_name", "p", ctypes.c_char_p)
    index = 0
    while extras and extras[index]:  # a NULL ends the list
        if name(extras[index]) == b"CPU_REPACK":
            return bool(call("ggml_backend_alloc_ctx_tensors_from_buft", context, extras[index], types="pp"))
        index += 1
    return False


def _fill(call: _Library, tensor: int, values: Any) -> None:
    flat = np.ascontiguousarray(values)
    call("ggml_backend_tensor_set", tensor, flat.ctypes.data, 0, flat.nbytes, types="ppll")
