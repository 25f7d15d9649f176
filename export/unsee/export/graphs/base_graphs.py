"""The graphs of a base, from its models; knows which component each wraps, nothing of exporting."""

from unsee.export.graphs.decoder_graphs import DecoderGraphs, decoder_graphs
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.prompt_graphs import EditGraph, TextEncoderGraph
from unsee.models.base import Base


def vae_decoder_graphs(base: Base) -> DecoderGraphs:
    """The graphs of the video model's autoencoder, in their order. Raises `NotExportable`."""
    return decoder_graphs(base.t2v_vae())


def video_denoiser_graph(base: Base) -> VideoDenoiserGraph:
    """The graph of the video model's denoiser. Raises `NotExportable`."""
    decoder = vae_decoder_graphs(base)[0]
    return VideoDenoiserGraph.of(
        base.t2v_denoiser(),
        sequence_length=base.tokenizer().model_max_length,
        num_train_timesteps=base.t2v_scheduler().config.num_train_timesteps,
        vae_scale=decoder.scale,
        frames_per_latent=decoder.frames_per_latent,
    )


def text_encoder_graph(base: Base) -> TextEncoderGraph:
    """The graph of the text encoder, without its final normalisation, for all policies."""
    frame = base.prompt_frame()
    return TextEncoderGraph.of(base.text_encoder(), frame.length, any_length=frame.cuts_padding)


def edit_graph(base: Base) -> EditGraph:
    """The graph of the final normalisation, with or without an edit."""
    graph = text_encoder_graph(base)
    return EditGraph(graph.sequence_length, graph.hidden_size, any_length=graph.any_length)


def sampling_graphs(base: Base) -> tuple[TextEncoderGraph, VideoDenoiserGraph, DecoderGraphs]:
    """The graphs of all three models that make a clip. Raises `NotExportable`."""
    return text_encoder_graph(base), video_denoiser_graph(base), vae_decoder_graphs(base)
