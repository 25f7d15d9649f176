"""What `text_to_video` reads beside its code is what the base's folder says."""

from __future__ import annotations

import json

import pytest

from fakes import write_tiny_base
from text_to_video.base import read_base
from text_to_video.sampler import SamplerTables
from unsee.export.graphs.base_graphs import vae_decoder_graphs, video_denoiser_graph
from unsee.export.text_to_video.assets import write_text_to_video
from unsee.export.text_to_video.sampler_tables import sampler_tables
from unsee.models.base import load_base
from unsee.models.schedulers import offered_schedulers

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PNDM = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1, **BETAS}
LCM = {"_class_name": "LCMScheduler", **BETAS}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


@pytest.mark.parametrize(
    ("config", "evaluations"), [(PNDM, 5), (LCM, 4), (FLOW, 4)], ids=lambda value: str(value)[:30]
)
def test_the_folder_s_own_scheduler_is_what_a_request_gets(tmp_path, config, evaluations):
    folder = write_tiny_base(tmp_path / "base")
    name = config["_class_name"]
    index = folder / "t2v" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", name]}))
    (folder / "t2v" / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    base = load_base(folder)
    offer = offered_schedulers(base)
    tables = sampler_tables(offer.offered, 4)
    unet, vae = video_denoiser_graph(base), vae_decoder_graphs(base)[0]
    write_text_to_video(base, unet, vae, tables, {}, 5_000_000, tmp_path / "repository")
    assets = tmp_path / "repository" / "text_to_video" / "assets"
    served = read_base(assets / "base.json")
    assert served.defaults.scheduler == served.schedulers[0] == name
    assert set(served.schedulers) == set(offer.offered)
    table = SamplerTables(assets / "samplers.safetensors").table(name, 4)
    assert table.num_evaluations == evaluations
