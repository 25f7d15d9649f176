"""A base: a text-to-video model, and perhaps a text-to-image model with the same text encoder.

Reads `base.yaml` and keeps what it has loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unsee.core.errors import BaseFolderError, InputError, first_line
from unsee.core.validation import describe
from unsee.core.yaml_file import read_yaml
from unsee.models.components import (
    Precision,
    about_base,
    component_class,
    hollow,
    load_component,
    load_motion_adapter,
    model_index,
    source_place,
)
from unsee.models.encoders.check import check_encoder, check_single
from unsee.models.encoders.family import EncoderFamily
from unsee.models.encoders.frame import PromptFrame
from unsee.models.encoders.tokenizer import (
    check_one_mask,
    check_same_words,
    check_tokenizer,
    check_tokenizer_config,
)
from unsee.models.pipelines.classes import PIPELINES, PipelineClass, pipeline_class
from unsee.models.sampling.options import with_overrides
from unsee.models.spec import BASE_FILE, BaseSpec, Media

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKL,
        AutoencoderKLWan,
        SchedulerMixin,
        UNet3DConditionModel,
        UNetMotionModel,
        WanTransformer3DModel,
    )
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Base:
    """An opened base. Components are loaded at first use, in float32, frozen, in eval mode, and
    kept: copy a component before changing it. Where `spec.precision` asks for half precision,
    `vae` and `denoiser` have half-precision weights and still take and give float32.

    Every loading method raises `BaseFolderError` if its component is missing or unreadable.
    """

    spec: BaseSpec
    folder: Path
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The base's name, as its file gives it."""
        return self.spec.name

    @property
    def pictures_source(self) -> str:
        """The model that makes pictures: the image model or, without one, the video model."""
        return self.spec.t2i or self.spec.t2v

    def source(self, media: Media) -> str:
        """The model that makes pictures ("image") or clips."""
        return self.spec.t2v if media == "video" else self.pictures_source

    @property
    def sources(self) -> tuple[str, ...]:
        """The models of this base, each once, the one that makes pictures first."""
        return tuple(dict.fromkeys((self.pictures_source, self.spec.t2v)))

    def tokenizer(self, media: Media = "video") -> "PreTrainedTokenizerBase":
        """The tokenizer of the video model, which is served, or of the image model.

        They give the same ids, but perhaps another token as padding. `model_max_length` is the
        number of tokens that every prompt is padded to, the same for both.
        """
        image, video = self._tokenizers()
        return video if media == "video" else image

    def family(self) -> EncoderFamily:
        """The family of the text encoder; no weights are loaded.

        Raises `BaseFolderError` unless each model reads prompts through one encoder of a known
        family.
        """
        families = []
        for source in self.sources:
            place = source_place(self.folder, source)
            _, class_name = component_class(self.name, place, "text_encoder")
            families.append(check_encoder(self.name, place, class_name))
            check_single(self.name, place, model_index(self.name, place))
        return families[0]

    def pipeline(self, media: Media = "video") -> PipelineClass:
        """The pipeline class that makes stills or clips of this base; no weights are loaded.

        Raises `BaseFolderError` if it is none that is known.
        """
        source = self.source(media)
        place = source_place(self.folder, source)
        found = pipeline_class(self.name, place, model_index(self.name, place))
        if self.spec.motion_adapter is None or (media == "image" and self.spec.t2i is not None):
            return found
        return next(each for each in PIPELINES if each.name == "AnimateDiffPipeline")

    def prompt_frame(self, media: Media = "video") -> PromptFrame:
        """What frames a prompt of the image or of the video model, and who reads the padding."""
        config = self.encoder_of(self.pictures_source).config
        return self.family().frame(self.tokenizer(media), config, self.pipeline(media).prompts)

    def text_encoder(self) -> Any:
        """The shared text encoder: ids [B, L] int64 -> `last_hidden_state` [B, L, D].

        It reads prompts as the video model's pipeline lets it: with or without a mask of the
        padding, and with zeros in the place of states that the denoiser is not given.
        """
        if "text_encoder" not in self._loaded:
            encoder = self.encoder_of(self.pictures_source)
            self._loaded["text_encoder"] = self.as_read_here(encoder)
        return self._loaded["text_encoder"]

    def encoder_of(self, source: str) -> Any:
        """The text encoder in the folder or hub id `source`, as it lies there."""
        return self._component(source, "text_encoder", self.spec.encoder_precision)

    def as_read_here(self, text_encoder: Any) -> Any:
        """`text_encoder`, which reads this base's prompts from now on as the base's own does."""
        from unsee.models.encoders.reading import read_as_framed

        return read_as_framed(text_encoder, self.prompt_frame())

    def vae(self, media: Media = "image") -> Any:
        """The autoencoder of the model that makes pictures or clips (often the same files)."""
        return self._component(self.source(media), "vae", self._precision(media))

    def denoiser(self, media: Media = "image") -> Any:
        """The denoiser of the model that makes pictures or clips.

        A motion adapter is in it. Raises `BaseFolderError` also if the two do not fit, or if the
        limits allow more frames than the adapter has positions for.
        """
        adapter, source = self.spec.motion_adapter, self.source(media)
        if adapter is None or (media == "image" and self.spec.t2i is not None):
            component = self.pipeline(media).denoiser
            return self._component(source, component, self._precision(media))
        if "motion" not in self._loaded:
            self._loaded["motion"] = self._motion_unet(adapter)
        return self._loaded["motion"]

    def scheduler(self, media: Media = "image") -> Any:
        """The scheduler of that model as saved, with the options of `base.yaml`."""
        if media == "video" or self.spec.t2i is None:
            return self._scheduler(self.spec.t2v, "t2v", self.spec.schedulers.t2v)
        return self._scheduler(self.spec.t2i, "t2i", self.spec.schedulers.t2i)

    def t2v_vae(self) -> "AutoencoderKL | AutoencoderKLWan":
        """The autoencoder of a video model that can be exported. Raises as `t2v_denoiser`."""
        self.check_exportable()
        return self.vae("video")

    def t2v_denoiser(self) -> "UNet3DConditionModel | UNetMotionModel | WanTransformer3DModel":
        """The denoiser of a video model that can be exported.

        Raises `BaseFolderError` as `denoiser` and `check_exportable`.
        """
        self.check_exportable()
        return self.denoiser("video")

    def t2v_scheduler(self) -> "SchedulerMixin":
        """The text-to-video model's scheduler as saved, with the options of `base.yaml`."""
        return self.scheduler("video")

    def check_exportable(self) -> None:
        """Raise `BaseFolderError` if the video model cannot be exported and served."""
        reason = self.why_not_exportable()
        if reason:
            raise BaseFolderError(
                f"base {self.name!r}: {reason}; unlearning, evaluation and use in Python work "
                "with it"
            )

    def why_not_exportable(self) -> str:
        """Why the video model cannot be exported and served, as a clause; "" if it can."""
        kind = self.pipeline()
        if not kind.is_served:
            return f"{self.spec.t2v} is a {kind.name}, which cannot be exported and served yet"
        index = model_index(self.name, source_place(self.folder, self.spec.t2v))
        for option in kind.not_served_with:
            if index.get(option):
                return (
                    f"the model_index.json of {self.spec.t2v} has {option}: {index[option]}, with "
                    f"which a {kind.name} cannot be exported and served"
                )
        return ""

    def prompts(self) -> tuple[str, ...]:
        """What people ask of this base: the lines of its prompts file, none if it names no file.

        Raises `BaseFolderError` if the file cannot be read.
        """
        if self.spec.prompts is None:
            return ()
        file = self.folder / self.spec.prompts
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BaseFolderError(
                f"base {self.name!r}: the prompts file {file} cannot be read: {first_line(error)}"
            ) from error
        return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))

    def digest(self) -> str:
        """`"sha256:…"` over the text encoder's weights (see `tensors_digest`)."""
        if "digest" not in self._loaded:
            self._loaded["digest"] = _encoder_digest(self.text_encoder())
        digest: str = self._loaded["digest"]
        return digest

    def rounded_digests(self) -> dict[str, str]:
        """The same of the weights rounded to "float16" and to "bfloat16"."""
        import torch

        from unsee.models.digest import rounded_digest

        tensors = self.text_encoder().state_dict()
        dtypes = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        return {name: rounded_digest(tensors, dtype) for name, dtype in dtypes.items()}

    def check_shared_text_encoder(self) -> str:
        """Raise `BaseFolderError` unless both models carry the same text encoder.

        Weights that are equal after rounding to the coarser of their two types are the same.
        Returns a clause that says so, "" where they are equal bit for bit.
        """
        image = self.encoder_of(self.pictures_source)
        video = self.encoder_of(self.spec.t2v)
        if _encoder_digest(video) == self.digest():
            return ""
        from unsee.models.digest import equal_after_rounding

        dtype = equal_after_rounding(image.state_dict(), video.state_dict())
        if dtype is None:
            raise BaseFolderError(
                f"base {self.name!r}: {self.pictures_source} and {self.spec.t2v} carry different "
                "text encoders, so forgetting in one would not carry over to the other"
            )
        return f"equal to the image model's after rounding to {dtype}; the image model's is used"

    def _tokenizers(self) -> tuple[Any, Any]:
        """The image model's and the video model's, checked, and cut to one length."""
        if "tokenizers" not in self._loaded:
            with about_base(self.name):
                self._loaded["tokenizers"] = self._one_length()
        image, video = self._loaded["tokenizers"]
        return image, video

    def _one_length(self) -> tuple[Any, Any]:
        family, encoder = self.family(), self.encoder_of(self.pictures_source)
        sources = (self.pictures_source, self.spec.t2v)
        folders = [_inside(source_place(self.folder, one), "tokenizer") for one in sources]
        for folder in folders:
            if isinstance(folder, Path) and folder.is_dir():
                check_tokenizer_config(folder, family)
        image, video = (self._component(source, "tokenizer") for source in sources)
        num_embeddings = encoder.get_input_embeddings().num_embeddings
        for folder, tokenizer in zip(folders, (image, video), strict=True):
            check_tokenizer(folder, tokenizer, family, num_embeddings)
        check_same_words(folders[0], image, folders[1], video, family)
        rules = self.pipeline().prompts
        check_one_mask(family.gives_mask(encoder.config, rules), image, video)
        length = family.length([image, video], encoder.config, rules)
        image.model_max_length = video.model_max_length = length
        return image, video

    def check_motion_adapter(self) -> None:
        """Raise `BaseFolderError` unless the motion adapter fits the UNet and the limits.

        Both must be folders; their configs alone are read.
        """
        from diffusers import MotionAdapter

        if self.spec.motion_adapter is None:
            return
        place = source_place(self.folder, self.spec.motion_adapter)
        unet = hollow(self.name, source_place(self.folder, self.spec.t2v), "unet")
        self._joined(unet, hollow(self.name, place, "", MotionAdapter), self.spec.motion_adapter)

    def _motion_unet(self, source: str) -> Any:
        adapter = load_motion_adapter(
            self.name, source_place(self.folder, source), self.spec.variant
        )
        return self._joined(self._component(self.spec.t2v, "unet"), adapter, source)

    def _joined(self, unet: Any, adapter: Any, source: str) -> Any:
        from unsee.models.pipelines.motion_unet import motion_unet

        positions = adapter.config.motion_max_seq_length
        if self.spec.limits.num_frames > positions:
            raise BaseFolderError(
                f"base {self.name!r} allows {self.spec.limits.num_frames} frames, but its motion "
                f"adapter {source} has positions for {positions}; lower limits.num_frames"
            )
        try:
            return motion_unet(unet, adapter)
        except ValueError as error:
            raise BaseFolderError(
                f"base {self.name!r}: the motion adapter {source} does not fit the unet of "
                f"{self.spec.t2v}: {first_line(error)}"
            ) from error

    def _precision(self, media: Media) -> Precision:
        return self.spec.precision if media == "image" else "float32"

    def _scheduler(self, source: str, model: str, overrides: Mapping[str, Any]) -> Any:
        key = f"scheduler of {model}"
        if key not in self._loaded:
            saved = self._component(source, "scheduler")
            field = f"schedulers.{model} of base.yaml"
            self._loaded[key] = with_overrides(saved, overrides, self.name, field)
        return self._loaded[key]

    def _component(self, source: str, component: str, precision: Precision = "float32") -> Any:
        place = source_place(self.folder, source)
        folder = f"{place}:{component}"
        if isinstance(place, Path):
            folder = str((place / component).resolve())
        key = ":".join((folder, precision, *component_class(self.name, place, component)))
        if key not in self._loaded:
            self._loaded[key] = load_component(
                self.name, place, component, precision, self.spec.variant
            )
        return self._loaded[key]


def load_base(path: Path) -> Base:
    """Open the base whose `base.yaml` is `path` or lies in the folder `path`; loads no weights.

    Raises `BaseFolderError` in one sentence if there is no such file or a field of it is wrong.
    """
    file = path / BASE_FILE if path.is_dir() else path
    if not file.exists():
        raise BaseFolderError(
            f"no base at {path}: expected a folder that holds {BASE_FILE}, or such a file"
        )
    try:
        spec = BaseSpec.model_validate(read_yaml(file, "the base's file"))
    except InputError as error:
        raise BaseFolderError(str(error)) from error
    except ValidationError as error:
        raise BaseFolderError(f"{file}: {describe(error)}") from error
    return Base(spec=spec, folder=file.parent.resolve())


def _inside(place: Path | str, component: str) -> Path | str:
    return place / component if isinstance(place, Path) else f"{place}:{component}"


def _encoder_digest(text_encoder: Any) -> str:
    from unsee.models.digest import tensors_digest

    return tensors_digest(text_encoder.state_dict())
