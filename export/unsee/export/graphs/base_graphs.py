"""The graphs of a base, from its models; knows which component each wraps, nothing of exporting."""

from unsee.export.graphs.graphs import TextEncoderGraph, VAEDecoderGraph, VideoUNetGraph
from unsee.models.base import Base


def vae_decoder_graph(base: Base) -> VAEDecoderGraph:
    """The graph of the video model's autoencoder. Raises `NotExportable`."""
    return VAEDecoderGraph.of(base.t2v_vae())


def video_unet_graph(base: Base) -> VideoUNetGraph:
    """The graph of the video model's denoiser. Raises `NotExportable`."""
    return VideoUNetGraph.of(
        base.t2v_unet(),
        sequence_length=base.tokenizer().model_max_length,
        num_train_timesteps=base.t2v_scheduler().config.num_train_timesteps,
        vae_scale=vae_decoder_graph(base).scale,
    )


def sampling_graphs(base: Base) -> tuple[TextEncoderGraph, VideoUNetGraph, VAEDecoderGraph]:
    """The graphs of all three models that make a clip. Raises `NotExportable`."""
    text_encoder = TextEncoderGraph.of(base.text_encoder(), base.tokenizer().model_max_length)
    return text_encoder, video_unet_graph(base), vae_decoder_graph(base)
