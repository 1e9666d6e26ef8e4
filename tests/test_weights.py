"""Weights in folders: what is written comes back, identities, and everything that is refused."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

import mptvc
from mptvc.codec.codec import Codec
from mptvc.codec.stored import CONFIG_FILE, TENSORS_FILE, build_model, is_entropy, write_weights
from mptvc.codec.weights import _CoderOptions, read_weights, resolve_device
from mptvc.errors import WeightsError
from mptvc.model.config import LevelConfig, ModelConfig
from mptvc.model.integer_network import PRECISION
from mptvc.model.model import Model

Tensors = dict[str, Tensor]

MIXER_WEIGHT = "levels.1.entropy_model.mixers.0.inner.weight"
MIXER_BIAS = "levels.1.entropy_model.mixers.1.outer.bias"
FREQUENCIES = "levels.1.entropy_model.frequencies"
HYPER_ANALYSIS = "levels.1.entropy_model.hyper_analysis.inner.weight"
SYNTHESIS = "levels.1.synthesis.head.bias"
ANALYSIS = "levels.0.analysis.embed.weight"


@pytest.fixture(scope="module")
def folder(small_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as written; read only."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(small_model, folder)
    return folder


@pytest.fixture(scope="module")
def folder_ids(folder: Path) -> tuple[str, str]:
    return ids(folder)


@pytest.fixture
def tensors(folder: Path) -> Tensors:
    """The stored tensors, free to be changed."""
    return read_weights(folder)[1]


@pytest.fixture
def raw_config(small_config: ModelConfig) -> dict[str, Any]:
    """The configuration as JSON holds it, free to be changed."""
    raw: dict[str, Any] = json.loads(small_config.to_json())
    return raw


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the folder with other content in one of its files."""

    def make(*, config: str | bytes | None = None, data: bytes | None = None) -> Path:
        text = config.encode() if isinstance(config, str) else config
        made = tmp_path / "changed"
        made.mkdir()
        (made / CONFIG_FILE).write_bytes((folder / CONFIG_FILE).read_bytes() if text is None else text)
        (made / TENSORS_FILE).write_bytes((folder / TENSORS_FILE).read_bytes() if data is None else data)
        return made

    return make


def refusal(weights: Path | str) -> str:
    """The one line with which loading is refused."""
    with pytest.raises(WeightsError) as caught:
        mptvc.load(weights, device="cpu")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def ids(weights: Path | str) -> tuple[str, str]:
    """Identity of the entropy models and of the whole weights."""
    clips = mptvc.load(weights, device="cpu").coder
    return clips.entropy_id.hex(), clips.weights_id.hex()


# What is written comes back


def test_entropy_tensors_come_back_as_exact_integers(small_model: Model, folder: Path) -> None:
    loaded = mptvc.load(folder, device="cpu").model.state_dict()
    names = [name for name in loaded if is_entropy(name)]
    assert {name.rpartition(".")[2] for name in names} == {
        "weight",
        "bias",
        "own",
        "hyper_scale",
        "hyper_gate",
        "frequencies",
    }
    for name in names:
        assert torch.equal(loaded[name], small_model.state_dict()[name]), name


def test_network_tensors_come_back_in_half_precision(small_model: Model, folder: Path) -> None:
    loaded = mptvc.load(folder, device="cpu").model.state_dict()
    for name, tensor in small_model.state_dict().items():
        if not is_entropy(name):
            assert loaded[name].dtype == torch.float32
            assert torch.equal(loaded[name], tensor.half().float()), name


def test_stored_types_are_small(tensors: Tensors) -> None:
    assert {tensor.dtype for name, tensor in tensors.items() if not is_entropy(name)} == {torch.float16}
    assert tensors[MIXER_WEIGHT].dtype == torch.int8
    assert tensors[MIXER_BIAS].dtype == torch.int32
    assert tensors[FREQUENCIES].dtype == torch.int32


def test_configuration_comes_back_equal(small_config: ModelConfig, folder: Path) -> None:
    assert read_weights(folder)[0] == small_config


def test_loaded_weights_are_written_as_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_weights(mptvc.load(folder, device="cpu").model, tmp_path / "again")
    for name in (CONFIG_FILE, TENSORS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_fractional_weights_are_written_as_training_used_them(small_model: Model, tmp_path: Path) -> None:
    model = copy.deepcopy(small_model)
    entropy_model = model.level(0).entropy_model
    with torch.no_grad():
        entropy_model.hyper_scale[:3] = torch.tensor([3.4, 7.6, 500.0])
        entropy_model.mixers[0].inner.bias[:2] = torch.tensor([-70000.4, 70000.6])
    write_weights(model, tmp_path)
    loaded = mptvc.load(tmp_path, device="cpu").model.level(0).entropy_model
    assert loaded.hyper_scale[:3].tolist() == [3, 8, 127]
    assert loaded.mixers[0].inner.bias[:2].tolist() == [-70000, 70001]


def test_text_names_a_folder_as_a_path_does(folder: Path, folder_ids: tuple[str, str]) -> None:
    assert ids(str(folder)) == folder_ids


# Packaged weights


def test_packaged_weights_have_the_parameters_that_the_readme_states(codec: Codec) -> None:
    millions = sum(parameter.numel() for parameter in codec.model.parameters()) / 1e6
    assert f"{millions:.1f} M parameters" in (Path(__file__).parents[1] / "README.md").read_text()


def test_packaged_integer_networks_stay_in_the_exact_range(codec: Codec) -> None:
    bounds = [
        codec.model.level(k).entropy_model.accumulator_bound() for k in range(len(codec.model.config.levels))
    ]
    assert len(bounds) == 3
    assert all(0 < bound < 2**24 for bound in bounds)


def test_packaged_weights_load_the_same_every_time(codec: Codec) -> None:
    again = mptvc.load("tokenizer", device="cpu").coder
    assert (again.entropy_id, again.weights_id) == (codec.coder.entropy_id, codec.coder.weights_id)


# Identities


def test_loading_twice_gives_equal_ids(folder: Path, folder_ids: tuple[str, str]) -> None:
    assert ids(folder) == folder_ids


@pytest.mark.parametrize("name", [MIXER_WEIGHT, MIXER_BIAS, "levels.0.entropy_model.hyper_gate"])
def test_an_entropy_tensor_changes_both_ids(
    folder_ids: tuple[str, str], tensors: Tensors, store: Callable[..., Path], name: str
) -> None:
    tensors[name].view(-1)[0] += 1
    after = ids(store(data=save(tensors)))
    assert folder_ids[0] != after[0]
    assert folder_ids[1] != after[1]


def test_a_frequency_table_changes_both_ids(
    folder_ids: tuple[str, str], tensors: Tensors, store: Callable[..., Path]
) -> None:
    row = tensors[FREQUENCIES][0]
    row[int(row.argmax())] -= 1
    row[0] += 1
    after = ids(store(data=save(tensors)))
    assert folder_ids[0] != after[0]
    assert folder_ids[1] != after[1]


@pytest.mark.parametrize("name", [SYNTHESIS, ANALYSIS, HYPER_ANALYSIS])
def test_a_network_weight_changes_only_the_weights_id(
    folder_ids: tuple[str, str], tensors: Tensors, store: Callable[..., Path], name: str
) -> None:
    tensors[name].view(-1)[0] += 1
    after = ids(store(data=save(tensors)))
    assert folder_ids[0] == after[0]
    assert folder_ids[1] != after[1]


def test_the_configuration_changes_both_ids(
    folder_ids: tuple[str, str], raw_config: dict[str, Any], store: Callable[..., Path]
) -> None:
    raw_config["phase_jump"] = 20000.0
    after = ids(store(config=json.dumps(raw_config)))
    assert folder_ids[0] != after[0]
    assert folder_ids[1] != after[1]


def test_the_layout_of_the_files_changes_no_id(
    folder: Path,
    folder_ids: tuple[str, str],
    tensors: Tensors,
    raw_config: dict[str, Any],
    store: Callable[..., Path],
) -> None:
    data = save(dict(reversed(tensors.items())), metadata={"made": "elsewhere"})
    config = json.dumps(dict(reversed(raw_config.items())))
    changed = store(config=config, data=data)
    assert (changed / TENSORS_FILE).read_bytes() != (folder / TENSORS_FILE).read_bytes()
    assert ids(changed) == folder_ids


def test_a_file_of_other_weights_is_refused_with_both_ids(
    folder: Path, tensors: Tensors, store: Callable[..., Path], frames: np.ndarray
) -> None:
    tensors[SYNTHESIS][0] += 1
    mine, other = (mptvc.load(f, device="cpu") for f in (folder, store(data=save(tensors))))
    data = mine.compress(frames[:4])
    with pytest.raises(WeightsError) as caught:
        other.decompress(data)
    assert caught.value.expected == mine.coder.weights_id.hex()
    assert caught.value.found == other.coder.weights_id.hex()
    assert caught.value.expected in str(caught.value)
    assert caught.value.found in str(caught.value)
    assert mine.decompress(data).complete


# Tensors that are refused


@pytest.mark.parametrize("name", [MIXER_WEIGHT, FREQUENCIES, SYNTHESIS, HYPER_ANALYSIS])
def test_a_missing_tensor_is_named(tensors: Tensors, store: Callable[..., Path], name: str) -> None:
    del tensors[name]
    assert f"lack 1 tensors, the first is {name}" in refusal(store(data=save(tensors)))


def test_no_tensors_at_all_are_refused(store: Callable[..., Path]) -> None:
    assert "lack" in refusal(store(data=save({})))


def test_an_unknown_tensor_is_named(tensors: Tensors, store: Callable[..., Path]) -> None:
    tensors["levels.3.extra"] = torch.zeros(1)
    assert "levels.3.extra" in refusal(store(data=save(tensors)))


@pytest.mark.parametrize("name", [MIXER_WEIGHT, FREQUENCIES, SYNTHESIS])
def test_a_tensor_of_another_shape_is_named(tensors: Tensors, store: Callable[..., Path], name: str) -> None:
    expected = list(tensors[name].shape)
    tensors[name] = torch.cat([tensors[name]] * 2)
    message = refusal(store(data=save(tensors)))
    assert name in message
    assert f"expected {tensors[name].dtype} {expected}" in message


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (MIXER_WEIGHT, torch.float16),
        (MIXER_BIAS, torch.int8),
        (FREQUENCIES, torch.int64),
        (SYNTHESIS, torch.float32),
        (SYNTHESIS, torch.complex64),
    ],
)
def test_a_tensor_of_another_type_is_named(
    tensors: Tensors, store: Callable[..., Path], name: str, dtype: torch.dtype
) -> None:
    expected = tensors[name].dtype
    tensors[name] = tensors[name].to(dtype)
    message = refusal(store(data=save(tensors)))
    assert f"{name} is {dtype}" in message
    assert f"expected {expected}" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tensor_with_a_number_that_is_not_finite_is_named(
    tensors: Tensors, store: Callable[..., Path], value: float
) -> None:
    tensors[SYNTHESIS][3] = value
    message = refusal(store(data=save(tensors)))
    assert SYNTHESIS in message
    assert "not finite" in message


@pytest.mark.parametrize(
    "first", [[0, 2, 1], [-1, 2, 2], [2, 1, 1], [1, 1, 0], [2**24, 1, 1], [2**31 - 1, 2**31 - 1, 5]]
)
def test_frequencies_that_are_no_distribution_name_their_level(
    tensors: Tensors, store: Callable[..., Path], first: list[int]
) -> None:
    row = tensors[FREQUENCIES][0]
    assert int(row.sum()) == 2**PRECISION
    assert row[:3].tolist() == [1, 1, 1]
    row[:3] = torch.tensor(first)
    assert "level 1: the frequency tables" in refusal(store(data=save(tensors)))


def test_tables_with_prediction_that_do_not_fit_name_their_level() -> None:
    """Each of them: frequencies that are none, and rows that are not there."""
    config, given = read_weights("codec")
    spoilt = set[str]()
    for name, tensor in given.items():
        level = name[len("levels.")]
        if not name.startswith(f"levels.{level}.key.") or name.endswith(
            ".filters"
        ):  # of which all are allowed
            continue
        other = tensor.clone()
        other.view(-1)[0] = 255 if tensor.dtype == torch.uint8 else other.view(-1)[0] + 1
        with pytest.raises(WeightsError, match=rf"^level {level}: (the frequency tables|.*row 255 is used)"):
            build_model(config, given | {name: other})
        spoilt.add(name.rpartition(".")[2])
    assert spoilt >= {"activity_frequencies", "share_frequencies", "camera_frequencies", "scale_of", "row_of"}


@pytest.mark.parametrize("value", [-(2**24), 2**31 - 1, -(2**31)])
def test_a_bias_beyond_the_exact_range_names_its_level(
    tensors: Tensors, store: Callable[..., Path], value: int
) -> None:
    tensors[MIXER_BIAS][0] = value
    message = refusal(store(data=save(tensors)))
    assert "level 1: the integer network" in message
    assert "2^24" in message


def wide_model(weight: int, bias: int = 0) -> Model:
    """One level whose first integer layer has 1057 inputs, all of its weights alike, and one output."""
    level = LevelConfig(values=(3,) * 1024, dim=1024, blocks=0, groups=(1024,), hidden=1)
    model = Model(ModelConfig((level,), patch_size=2, patch_frames=1))
    layer = model.level(0).entropy_model.mixers[0].inner
    torch.nn.init.constant_(layer.weight, weight)
    torch.nn.init.constant_(layer.bias, bias)
    return model


def test_too_many_inputs_for_exact_sums_are_refused(tmp_path: Path) -> None:
    reach = 1057 * 127 * 127
    assert reach > 2**24
    with pytest.raises(WeightsError, match=f"level 0: .* {reach}, beyond"):
        write_weights(wide_model(127), tmp_path / "wide")
    assert not (tmp_path / "wide").exists()


def test_sums_may_come_as_close_as_one_to_the_exact_range(tmp_path: Path) -> None:
    rest = 2**24 - 1057 * 124 * 127
    assert rest > 0
    with pytest.raises(WeightsError, match="level 0"):
        write_weights(wide_model(124, -rest), tmp_path / "at")
    write_weights(wide_model(124, 1 - rest), tmp_path / "below")
    model = build_model(*read_weights(tmp_path / "below"))
    assert model.level(0).entropy_model.accumulator_bound() == 2**24 - 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (MIXER_WEIGHT, float("nan")),
        (MIXER_WEIGHT, float("inf")),
        (MIXER_BIAS, float("nan")),
        (SYNTHESIS, float("nan")),
        (HYPER_ANALYSIS, float("-inf")),
    ],
)
def test_a_model_with_a_number_that_is_not_finite_is_not_written(
    small_model: Model, tmp_path: Path, name: str, value: float
) -> None:
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = value
    with pytest.raises(WeightsError, match=f"{name} .*not finite"):
        write_weights(model, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_weight_beyond_half_precision_is_not_written(small_model: Model, tmp_path: Path) -> None:
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        model.get_parameter(SYNTHESIS)[0] = 1e5
    with pytest.raises(WeightsError, match=f"{SYNTHESIS} .*not finite"):
        write_weights(model, tmp_path / "made")
    assert not (tmp_path / "made").exists()


# Configurations that are refused


@pytest.mark.parametrize(
    "text",
    [
        "",
        "levels",
        "{",
        '{"levels": [',
        pytest.param("[" * 100_000, id="nested"),
        pytest.param(b"\x80\x02}q\x00.", id="pickle"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
    ],
)
def test_a_config_that_is_no_json_is_refused(store: Callable[..., Path], text: str | bytes) -> None:
    refusal(store(config=text))


@pytest.mark.parametrize("text", ["null", "[]", "3", "{}", '{"levels": {}}', '{"levels": [3]}'])
def test_json_of_another_form_is_refused(store: Callable[..., Path], text: str) -> None:
    assert "config.json" in refusal(store(config=text))


@pytest.mark.parametrize("field", ["window", "rope_base", "scales"])
def test_a_missing_field_is_named(raw_config: dict[str, Any], store: Callable[..., Path], field: str) -> None:
    del raw_config[field]
    assert refusal(store(config=json.dumps(raw_config))).count(f"'{field}'") == 1  # expected, not found


@pytest.mark.parametrize("field", ["values", "dim", "hidden"])
def test_a_missing_field_of_a_level_is_named(
    raw_config: dict[str, Any], store: Callable[..., Path], field: str
) -> None:
    del raw_config["levels"][1][field]
    assert refusal(store(config=json.dumps(raw_config))).count(f"'{field}'") == 1  # expected, not found


def test_an_unknown_field_is_named(raw_config: dict[str, Any], store: Callable[..., Path]) -> None:
    raw_config["dropout"] = 0.1
    assert "dropout" in refusal(store(config=json.dumps(raw_config)))


def test_an_unknown_field_of_a_level_is_named(raw_config: dict[str, Any], store: Callable[..., Path]) -> None:
    raw_config["levels"][0]["dropout"] = 0.1
    assert "dropout" in refusal(store(config=json.dumps(raw_config)))


INFINITY = float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_frames", 0),
        ("patch_frames", 17),
        ("patch_size", 5),
        ("patch_size", 2**40),
        ("clip_frames", 30),
        ("clip_frames", 0),
        ("clip_frames", 4 * 10**9),
        ("window", 0),
        ("window", 10**9),
        ("heads", -1),
        ("heads", 10**9),
        ("heads", 1.5),
        ("heads", True),
        ("heads", "2"),
        ("heads", None),
        ("head_dim", 7),
        ("head_dim", 10**9),
        ("mlp_ratio", 10**6),
        ("rope_base", 1.0),
        ("rope_base", float("nan")),
        ("rope_base", "10"),
        ("phase_jump", -1.0),
        ("phase_jump", INFINITY),
        ("hyper_channels", 0),
        ("hyper_channels", 10**9),
        ("hyper_values", 4),
        ("hyper_values", 17),  # an activation above 127: sums would no longer be exact
        ("hyper_stride", 0),
        ("scales", 1),
        ("scales", 10**9),
        ("heads", INFINITY),
        ("heads", float("nan")),
        pytest.param("rope_base", 10**400, id="rope_base-10^400"),
    ],
)
def test_a_field_out_of_range_is_named(
    raw_config: dict[str, Any], store: Callable[..., Path], field: str, value: object
) -> None:
    raw_config[field] = value
    assert field in refusal(store(config=json.dumps(raw_config)))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("dim", 7, "dim from attended channels"),
        ("linear", -1, "linear channels"),
        ("linear", 12, "linear channels"),
        ("linear", 0.5, "integer for linear"),
        ("dim", 10**9, "dim from attended channels to 2048"),
        ("blocks", -1, "blocks"),
        ("blocks", 10**9, "blocks"),
        ("hidden", 0, "hidden"),
        ("hidden", 10**9, "hidden"),
        ("groups", [4, 7], "groups"),
        ("groups", [12, 0], "groups above zero"),
        ("groups", [-4, 16], "groups above zero"),
        ("groups", 12, "groups"),
        ("values", [], "channels"),
        ("values", [3] * 10**6, "1024 channels"),
        ("values", [4] * 12, "values"),
        ("values", [129] * 12, "values"),
        ("values", [10**30] * 12, "values"),
        ("values", [3.0] * 12, "values"),
        ("values", [True] * 12, "values"),
    ],
)
def test_a_field_of_a_level_out_of_range_is_named(
    raw_config: dict[str, Any], store: Callable[..., Path], field: str, value: object, complaint: str
) -> None:
    raw_config["levels"][2][field] = value
    assert complaint in refusal(store(config=json.dumps(raw_config)))


@pytest.mark.parametrize("count", [0, 9])
def test_a_number_of_levels_out_of_range_is_refused(
    raw_config: dict[str, Any], store: Callable[..., Path], count: int
) -> None:
    raw_config["levels"] = raw_config["levels"][:1] * count
    assert "levels" in refusal(store(config=json.dumps(raw_config)))


@pytest.mark.parametrize(
    ("level_changes", "changes"),
    [
        ({"dim": 2048, "blocks": 3}, {"heads": 16, "head_dim": 256}),
        ({"dim": 2048, "blocks": 6}, {"mlp_ratio": 8}),
        ({"values": [3] * 1024, "dim": 1024, "groups": [1] * 1024, "hidden": 512}, {}),
    ],
)
def test_sizes_in_range_that_the_tensors_do_not_have_take_no_memory(
    raw_config: dict[str, Any],
    store: Callable[..., Path],
    level_changes: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    resource = pytest.importorskip("resource")

    def peak() -> int:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    raw_config.update(changes)
    raw_config["levels"] = [{**raw_config["levels"][2], **level_changes}]
    changed = store(config=json.dumps(raw_config))  # over 2 GB as float32
    before = peak()
    assert "config.json implies" in refusal(changed)
    assert peak() < 2 * before


# Files that are refused


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.999999])
def test_a_truncated_tensor_file_is_named(folder: Path, store: Callable[..., Path], share: float) -> None:
    data = (folder / TENSORS_FILE).read_bytes()
    cut = data[: int(share * len(data))]
    assert len(cut) < len(data)
    assert f"{TENSORS_FILE} is no sound safetensors file" in refusal(store(data=cut))


def test_bytes_after_the_tensors_are_refused(folder: Path, store: Callable[..., Path]) -> None:
    data = (folder / TENSORS_FILE).read_bytes()
    assert "no sound safetensors file" in refusal(store(data=data + b"\0"))


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_under_the_tensors_name_is_refused_and_not_run(
    store: Callable[..., Path], tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    changed = store()
    for write in (
        lambda: torch.save({"weights": Touch(trace)}, changed / TENSORS_FILE),
        lambda: (changed / TENSORS_FILE).write_bytes(pickle.dumps(Touch(trace))),
    ):
        write()
        assert "no sound safetensors file" in refusal(changed)
        assert not trace.exists()


def test_a_type_that_torch_does_not_know_is_refused(store: Callable[..., Path]) -> None:
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    assert "no sound safetensors file" in refusal(store(data=data))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "absent") in refusal(tmp_path / "absent")


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    assert "is not a folder" in refusal(folder / TENSORS_FILE)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"], ids=["too long", "with a zero byte"])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    assert "is not a folder" in refusal(name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert CONFIG_FILE in refusal(tmp_path)


@pytest.mark.parametrize("name", [CONFIG_FILE, TENSORS_FILE])
def test_a_folder_without_one_file_names_it(store: Callable[..., Path], name: str) -> None:
    changed = store()
    (changed / name).unlink()
    assert name in refusal(changed)


# Devices and types


@pytest.mark.parametrize(("option", "value"), [("device", "abacus"), ("dtype", "float16")])
def test_an_unknown_device_or_type_is_a_wrong_argument(folder: Path, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=value):
        mptvc.load(folder, **{"device": "cpu", option: value})


@pytest.mark.parametrize(("cuda", "found"), [(False, "cpu"), (True, "cuda")])
def test_a_device_on_which_nothing_was_tested_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, found: str
) -> None:
    """An Apple GPU is there, and is left alone until somebody names it."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert resolve_device("auto").type == found


def test_a_device_without_float64_is_refused_for_weights_with_prediction() -> None:
    options = _CoderOptions(torch.device("mps"), torch.float32, None, 1, None)
    with pytest.raises(ValueError, match="an Apple GPU has no float64 for weights with prediction"):
        options.coder(*read_weights("codec"))
