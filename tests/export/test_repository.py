"""The whole repository of a tiny base: complete, left alone when up to date, renewed when not."""

from __future__ import annotations

import copy
import gc
import json
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from tokenizers import Tokenizer

from record_fakes import revision_record
from unsee.core.errors import (
    InputError,
    Locked,
    NotExportable,
    RepositoryError,
    RepositoryIncomplete,
)
from unsee.core.files import LOCK_FILE, lock
from unsee.evaluation.seeing.frame_store import FrameStore
from unsee.evaluation.seeing.generate import FrameMaker, clip_sampling
from unsee.export.build import write_repository
from unsee.export.cli import export
from unsee.export.engines.record import EngineChoice, EngineSelection
from unsee.export.version import read_export
from unsee.models.base import load_base
from unsee.repository.check import loadable_models
from unsee.repository.layout import EXPORT_FILE, LOCKS_DIR, graph_digest

SIMPLE = EngineSelection(engine="onnxruntime")
GRAPHS = ("text_encoder", "policy_base", "video_denoiser", "vae_decoder")


@pytest.fixture
def repository(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported.repository_dir, tmp_path / "repository")


@pytest.fixture(scope="module")
def renewed(exported, tmp_path_factory):
    """A copy of the repository after an export of the base with another autoencoder; the base,
    the export's record, and the copy's state before."""
    repository = tmp_path_factory.mktemp("renewed") / "repository"
    shutil.copytree(exported.repository_dir, repository)
    base = load_base(exported.base_dir)
    with torch.no_grad():
        base.t2v_vae().decoder.conv_out.weight.mul_(1.1)
    before = state(repository)
    record = write_repository(base, repository, selection=SIMPLE)
    return SimpleNamespace(base=base, repository=repository, before=before, record=record)


def state(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_layout_is_complete(exported):
    files = {
        str(path.relative_to(exported.repository_dir))
        for path in exported.repository_dir.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    expected = {"policies.json", "engines.json"}
    expected |= {"policy_base/1/revision.json", "policy_base/1/golden.safetensors"}
    for model in ("prompt_encoder", "text_to_video"):
        expected |= {f"{model}/1/model.py", f"{model}/config.pbtxt"}
    for model in GRAPHS:
        expected |= {f"{model}/1/model.onnx", f"{model}/1/export.json", f"{model}/config.pbtxt"}
    for asset in ("tokenizer.json", "samplers.safetensors", "base.json"):
        expected.add(f"text_to_video/assets/{asset}")
    assert expected <= files
    code = ("prompt_encoder/1/", "text_to_video/1/")
    assert {f for f in files - expected if not f.startswith(code)} == set()
    for model in ("prompt_encoder", "text_to_video"):
        assert f"{model}/1/{model}/__init__.py" in files


def test_the_first_pointer_file_makes_the_base_active(exported):
    content = json.loads((exported.repository_dir / "policies.json").read_bytes())
    state = {"active": 1, "eligible": [1], "history": [1]}
    assert content.pop("policies")["base"].items() >= state.items()
    assert content == {"schema_version": 2, "default_policy": None, "last_change": None}


def test_base_json_carries_the_bases_own_values(exported, tmp_path):
    content = json.loads(
        (exported.repository_dir / "text_to_video" / "assets" / "base.json").read_bytes()
    )
    assert content["digest"] == exported.base.digest()
    maker = FrameMaker(exported.base, FrameStore(tmp_path), clip_sampling(exported.base))
    assert content["models_digest"] == maker.digest("video")
    assert content["prompt"] == {"masks_padding": False, "padding": "read", "cleans": False}
    assert content["latents"] == {"channels": 4, "vae_scale": 8, "frames_per_latent": 1}
    assert content["defaults"]["scheduler"] == "DDIMScheduler"
    assert content["defaults"]["num_frames"] == 4
    assert content["limits"]["num_inference_steps"] == [1, 5]
    assert content["limits"]["size_multiple"] == 16
    assert content["limits"]["prompt_tokens"] == 48
    for model in ("text_encoder", "video_denoiser", "vae_decoder"):
        assert content["graphs"][model] == graph_digest(exported.repository_dir / model / "1")
    for model in ("video_denoiser", "vae_decoder"):
        assert content["graphs"][f"{model}_engine"] == "onnxruntime-float32"


def test_tokenizer_json_tokenises_like_the_bases_tokenizer(exported):
    folder = exported.repository_dir / "text_to_video" / "assets"
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    slow = exported.base.tokenizer()
    for text in ("", "Blimbo", "Zoë in the RAIN,  twice"):
        assert fast.encode(text).ids == slow(text, padding="max_length").input_ids


def test_samplers_cover_every_number_of_steps(exported):
    file = exported.repository_dir / "text_to_video" / "assets" / "samplers.safetensors"
    with safe_open(file, framework="np") as tensors:
        names = set(tensors.keys())
    assert {f"DDIMScheduler/{steps}/pred" for steps in range(1, 6)} <= names
    assert exported.record.num_tables["DDIMScheduler"] == 5


def test_a_second_run_changes_nothing(exported, repository):
    before = state(repository)
    record = write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert all(outcome.reused for outcome in record.graphs)
    assert state(repository) == before


def test_a_changed_source_is_exported_again_and_nothing_else(renewed):
    assert {o.model: o.reused for o in renewed.record.graphs} == {
        "text_encoder": True,
        "policy_base": True,
        "vae_decoder": False,
        "video_denoiser": True,
    }
    before, after = renewed.before, state(renewed.repository)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        "vae_decoder/1/model.onnx",
        "vae_decoder/1/export.json",
        "text_to_video/assets/base.json",
        "engines.json",
    }
    assert after.keys() == before.keys()


def test_a_damaged_export_is_not_taken_for_an_export(repository):
    version_dir = repository / "vae_decoder" / "1"
    assert read_export(version_dir) is not None
    with (version_dir / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert read_export(version_dir) is None
    (version_dir / EXPORT_FILE).write_text("{}")
    assert read_export(version_dir) is None


def test_engines_are_measured_once_and_written_where_they_are_read(exported, repository):
    selection = EngineSelection(engine="openvino")
    lines: list[str] = []
    base = load_base(exported.base_dir)
    record = write_repository(base, repository, lines.append, selection)
    assert not record.engines_reused
    assert all(outcome.reused for outcome in record.graphs)
    assert "measuring openvino-float32 on video_denoiser" in lines
    choice = EngineChoice.model_validate_json((repository / "engines.json").read_bytes())
    assert choice == record.engines
    content = json.loads((repository / "text_to_video" / "assets" / "base.json").read_bytes())
    for model in ("video_denoiser", "vae_decoder"):
        engine = choice.graphs[model].engine
        assert engine.startswith("openvino-")
        assert content["graphs"][f"{model}_engine"] == engine
        config = (repository / model / "config.pbtxt").read_text()
        assert 'backend: "openvino"' in config
        assert ("HINT_BF16" in config) == (engine == "openvino-bfloat16")
        assert "WARM_UP_SHAPES" in config
        float32 = choice.graphs[model].candidates[0]
        assert float32.engine == "openvino-float32"
        assert float32.timing.error < 1e-3
        assert float32.psnr_db > 35
    before = state(repository)
    assert write_repository(base, repository, lines.append, selection).engines_reused
    assert state(repository) == before


def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(exported, tmp_path):
    selection = EngineSelection(engine="onnxruntime", precision="float16")
    with pytest.raises(NotExportable, match="onnxruntime computes in float32, not in float16"):
        write_repository(exported.base, tmp_path / "repository", selection=selection)
    assert not (tmp_path / "repository").exists()


def test_what_an_interrupted_export_left_is_removed(exported, repository):
    leftover = repository / "video_denoiser" / ".unfinished-0"
    leftover.mkdir()
    write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert not leftover.exists()


def test_what_an_interrupted_export_has_mixed_is_not_served(renewed, repository, monkeypatch):
    shutil.rmtree(repository / "vae_decoder")
    shutil.copytree(renewed.repository / "vae_decoder", repository / "vae_decoder")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("unsee.export.build.found_or_chosen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_repository(renewed.base, repository, selection=SIMPLE)
    with pytest.raises(RepositoryIncomplete, match="vae_decoder is of another export"):
        loadable_models(repository)
    write_repository(renewed.base, repository, selection=SIMPLE)
    assert "vae_decoder" in loadable_models(repository)


def test_two_exports_into_one_repository_take_turns(exported, repository, monkeypatch):
    alone = []

    def graph(*arguments):
        with pytest.raises(Locked), lock(repository / LOCKS_DIR / LOCK_FILE, command="export"):
            pass
        with pytest.raises(Locked), lock(repository, command="serve", shared=True):
            pass
        alone.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("unsee.export.build._graph", graph)
    with pytest.raises(KeyboardInterrupt):
        write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert alone


def test_an_encoder_that_was_copied_to_float32_is_freed_before_the_next_graph(
    exported, repository, monkeypatch
):
    weights = []

    def in_float32(model):
        copied = copy.deepcopy(model)
        weights.append(weakref.ref(next(copied.parameters())))
        return copied

    def base_policy(*arguments):
        gc.collect()
        assert weights[0]() is None
        raise KeyboardInterrupt

    monkeypatch.setattr("unsee.export.build.in_float32", in_float32)
    monkeypatch.setattr("unsee.export.build._base_policy", base_policy)
    with pytest.raises(KeyboardInterrupt):
        write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)


def test_what_is_served_is_refused_before_anything_is_loaded(exported, repository, monkeypatch):
    monkeypatch.setattr("unsee.export.build.sampling_graphs", None)
    before = state(repository)
    words = f"{repository} is being served; stop `unsee serve` first, or export to another folder"
    with lock(repository, command="serve", shared=True), pytest.raises(RepositoryError) as caught:
        write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert words in str(caught.value)
    assert state(repository) == before


def test_revisions_of_another_base_are_not_mixed_with_this_one(exported, repository):
    folder = repository / "policy_family" / "1"
    folder.mkdir(parents=True)
    record = revision_record("family", 1, base_digest="sha256:of another base")
    (folder / "revision.json").write_text(record.model_dump_json())
    before = state(repository)
    with pytest.raises(RepositoryError, match=r"'family'.*another base than tiny"):
        write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert state(repository) == before


def test_policies_json_of_a_living_repository_is_kept(exported, repository):
    file = repository / "policies.json"
    mine = json.dumps(json.loads(file.read_text()) | {"default_policy": "base"})
    file.write_text(mine)
    write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert file.read_text() == mine


def test_a_repository_of_version_0_1_is_refused_and_left_as_it_is(exported, tmp_path):
    old = Path(__file__).parent / "repository" / "version_0_1"
    repository = shutil.copytree(old, tmp_path / "old")
    before = state(repository)
    words = "has the format 1, .*export the base to a new folder .* and publish its policies again"
    with pytest.raises(InputError, match=words):
        write_repository(load_base(exported.base_dir), repository, selection=SIMPLE)
    assert state(repository) == before


def test_the_command_reports_each_graph_and_as_json(exported, repository, monkeypatch):
    monkeypatch.chdir(repository.rename(repository.with_name("à côté")).parent)
    arguments = ["--base", str(exported.base_dir), "--repository", "à côté"]
    arguments += ["--engine", "onnxruntime"]
    done = CliRunner().invoke(export, arguments)
    assert done.exit_code == 0, done.output
    for model in GRAPHS:
        assert f"{model} " in done.stdout
    assert "up to date" in done.stdout
    assert "parity" in done.stdout
    assert "next: unsee serve --repository 'à côté'\n" in done.stdout
    assert "default scheduler: DDIMScheduler" in done.stdout
    assert "memory: a clip at the limits (" in done.stdout
    assert "not offered: PNDMScheduler has another noise schedule" in done.stdout
    assert "not offered: LCMScheduler is for models distilled for it" in done.stdout
    done = CliRunner().invoke(export, [*arguments, "--json"])
    content = json.loads(done.stdout)
    assert content.keys() == {
        *("base", "base_digest", "repository", "graphs", "samplers", "engines", "seconds"),
        *("default_sampler", "samplers_not_offered", "warnings", "largest_clip"),
    }
    assert [graph["reused"] for graph in content["graphs"]] == [True] * 4
    assert content["largest_clip"].keys() == {"bytes", "machine_bytes", "fits"}
    assert content["samplers"]["DDIMScheduler"] == 5
    assert content["engines"]["reused"]
    assert content["engines"]["graphs"]["video_denoiser"]["reason"] == "asked for"
