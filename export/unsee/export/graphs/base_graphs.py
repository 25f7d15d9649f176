"""The graphs of a base, from its models; knows which component each wraps, nothing of exporting."""

from unsee.export.graphs.graphs import VAEDecoderGraph, VideoUNetGraph
from unsee.export.graphs.prompt_graphs import EditGraph, TextEncoderGraph
from unsee.models.base import Base


def vae_decoder_graph(base: Base) -> VAEDecoderGraph:
    """The graph of the video model's autoencoder. Raises `NotExportable`."""
    return VAEDecoderGraph.of(base.t2v_vae())


def video_denoiser_graph(base: Base) -> VideoUNetGraph:
    """The graph of the video model's denoiser. Raises `NotExportable`."""
    return VideoUNetGraph.of(
        base.t2v_unet(),
        sequence_length=base.tokenizer().model_max_length,
        num_train_timesteps=base.t2v_scheduler().config.num_train_timesteps,
        vae_scale=vae_decoder_graph(base).scale,
    )


def text_encoder_graph(base: Base) -> TextEncoderGraph:
    """The graph of the text encoder, without its final normalisation, for all policies."""
    frame = base.prompt_frame()
    return TextEncoderGraph.of(base.text_encoder(), frame.length, any_length=frame.cuts_padding)


def edit_graph(base: Base) -> EditGraph:
    """The graph of the final normalisation, with or without an edit."""
    graph = text_encoder_graph(base)
    return EditGraph(graph.sequence_length, graph.hidden_size, any_length=graph.any_length)


def sampling_graphs(base: Base) -> tuple[TextEncoderGraph, VideoUNetGraph, VAEDecoderGraph]:
    """The graphs of all three models that make a clip. Raises `NotExportable`."""
    return text_encoder_graph(base), video_denoiser_graph(base), vae_decoder_graph(base)
