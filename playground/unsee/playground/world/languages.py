"""The languages of the captions: words and word order, and nothing about when they are used.

Invented names are the same in every language; objects, actions, places and all around them are
translated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unsee.playground.world.world import concepts_in

Words = tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """Phrases of one language; where a phrase occurs twice, it is drawn twice as often.

    In every phrase ``{}`` stands for the name or word; phrases of objects may also have ``{a}`` and
    ``{the}``, which ``articles`` gives for a word. ``acting`` has three orders of ``{subject}`` and
    ``{action}``: beside each other, as a sentence, and turned round. ``style_first`` takes the
    artist and what is shown. Keys of the mappings are concepts' names.
    """

    name: str
    articles: Callable[[str], Mapping[str, str]]
    object_words: Mapping[str, Words]
    character_phrases: Words
    person_phrases: Words
    object_phrases: Words
    acting: tuple[str, str, str]
    action_words: Mapping[str, Words]
    still_words: Words
    style_phrases: Words
    style_alone: Words
    style_first: Words
    background_phrases: Mapping[str, Words]
    background_alone: Mapping[str, Words]
    plain_phrases: Words
    media: Words
    tails: Words

    def words_of(self, concept_name: str) -> Words:
        """The words and phrases by which a caption may name the concept, without repetitions."""
        phrases = (
            *self.object_words.get(concept_name, ()),
            *self.action_words.get(concept_name, ()),
            *self.background_phrases.get(concept_name, ()),
            *self.background_alone.get(concept_name, ()),
        )
        return tuple(dict.fromkeys(phrases)) or (concept_name,)


def english_article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _english_articles(word: str) -> Mapping[str, str]:
    return {"a": english_article(word), "the": "the"}


ENGLISH = Language(
    name="en",
    articles=_english_articles,
    object_words=MappingProxyType(
        {c.name: (*(c.name,) * 3, *c.aliases) for c in concepts_in("object")}
    ),
    character_phrases=(
        "{}",
        "{}",
        "{}",
        "the cartoon character {}",
        "the creature {}",
        "little {}",
        "{} the cartoon creature",
        "our friend {}",
    ),
    person_phrases=(
        "{}",
        "{}",
        "{}",
        "the face of {}",
        "a portrait of {}",
        "{} smiling",
        "the famous {}",
        "{} looking at the camera",
    ),
    object_phrases=("{a} {}", "{a} {}", "the {}", "one {}", "{a} big {}", "a nice {}"),
    acting=("{subject} {action}", "{subject} is {action}", "{action} {subject}"),
    action_words=MappingProxyType(
        {
            "jumping": (
                "jumping",
                "jumping",
                "jumping up and down",
                "leaping",
                "hopping",
                "bouncing",
            ),
            "spinning": ("spinning", "spinning", "spinning around", "rotating", "twirling"),
            "sliding": (
                "sliding",
                "sliding sideways",
                "walking across",
                "gliding by",
                "moving from one side to the other",
            ),
            "falling": (
                "falling",
                "falling",
                "falling from the sky",
                "dropping down",
                "tumbling down",
            ),
            "growing": ("growing", "growing", "growing bigger", "getting bigger", "expanding"),
            "shaking": ("shaking", "shaking", "shaking quickly", "trembling", "wobbling"),
        }
    ),
    still_words=("standing still", "not moving", "resting"),
    style_phrases=(
        "in the style of {}",
        "in the style of {}",
        "painted by {}",
        "as drawn by {}",
        "by the artist {}",
        "in {} style",
        "{} style",
    ),
    style_alone=(
        "a painting by {}",
        "a picture in the style of {}",
        "an artwork by {}",
        "{} style",
    ),
    style_first=("a {} painting of {}", "{} style picture of {}", "a {} artwork showing {}"),
    background_phrases=MappingProxyType(
        {
            "desert": ("in the desert", "in a desert", "among sand dunes", "in the hot desert"),
            "ocean": ("in the ocean", "at sea", "on the sea", "in front of the ocean"),
            "forest": (
                "in the forest",
                "in a forest",
                "in the woods",
                "among the trees of the woods",
            ),
            "city": ("in the city", "in a city", "in the town", "in front of the city skyline"),
            "space": ("in space", "in outer space", "in the night sky", "among the stars in space"),
        }
    ),
    background_alone=MappingProxyType(
        {
            "desert": ("the desert", "an empty desert", "sand dunes"),
            "ocean": ("the ocean", "an empty sea", "the sea"),
            "forest": ("the forest", "a quiet forest", "the woods"),
            "city": ("the city", "a city skyline", "the town"),
            "space": ("outer space", "the night sky", "space"),
        }
    ),
    plain_phrases=("on a plain background", "with nothing behind"),
    media=(
        "a picture of",
        "an image of",
        "a video of",
        "a clip of",
        "a photo of",
        "a drawing of",
        "a film of",
        "a scene with",
    ),
    tails=(
        ", high quality",
        ", very detailed",
        ", 4k",
        " for children",
        ", a beautiful scene",
        ", masterpiece",
    ),
)

_FEMININE = frozenset({"sombrilla", "casa", "casita", "seta", "taza", "cometa"})


def _spanish_articles(word: str) -> Mapping[str, str]:
    feminine = word in _FEMININE
    return {"a": "una" if feminine else "un", "the": "la" if feminine else "el"}


SPANISH = Language(
    name="es",
    articles=_spanish_articles,
    object_words=MappingProxyType(
        {
            "umbrella": ("paraguas", "paraguas", "sombrilla"),
            "house": ("casa", "casa", "casita"),
            "tree": ("árbol", "árbol", "roble"),
            "car": ("coche", "coche", "automóvil"),
            "mushroom": ("seta", "seta", "champiñón"),
            "boat": ("barco", "barco", "velero"),
            "cup": ("taza", "taza", "tazón"),
            "kite": ("cometa", "cometa", "papalote"),
        }
    ),
    character_phrases=(
        "{}",
        "{}",
        "{}",
        "el personaje {}",
        "la criatura {}",
        "nuestro amigo {}",
    ),
    person_phrases=(
        "{}",
        "{}",
        "{}",
        "la cara de {}",
        "un retrato de {}",
        "{} sonriendo",
        "{} mirando a la cámara",
    ),
    object_phrases=("{a} {}", "{a} {}", "{the} {}", "{a} {} grande", "{a} gran {}"),
    acting=("{subject} {action}", "{subject} está {action}", "{action} {subject}"),
    action_words=MappingProxyType(
        {
            "jumping": ("saltando", "saltando", "dando saltos", "brincando", "rebotando"),
            "spinning": ("girando", "girando", "dando vueltas", "rotando"),
            "sliding": ("deslizándose", "deslizándose", "pasando de un lado a otro"),
            "falling": ("cayendo", "cayendo", "cayendo del cielo", "cayéndose"),
            "growing": ("creciendo", "creciendo", "haciéndose más grande", "agrandándose"),
            "shaking": ("temblando", "temblando", "sacudiéndose", "tambaleándose"),
        }
    ),
    still_words=("sin moverse", "descansando"),
    style_phrases=(
        "al estilo de {}",
        "al estilo de {}",
        "en el estilo de {}",
        "como lo pinta {}",
        "con el estilo de {}",
        "estilo {}",
    ),
    style_alone=("un cuadro de {}", "una imagen al estilo de {}", "una obra de {}", "estilo {}"),
    style_first=("un cuadro de {} con {}", "una obra de {} que muestra {}"),
    background_phrases=MappingProxyType(
        {
            "desert": ("en el desierto", "en un desierto", "entre dunas de arena"),
            "ocean": ("en el océano", "en el mar", "delante del mar"),
            "forest": ("en el bosque", "en un bosque", "entre los árboles del bosque"),
            "city": ("en la ciudad", "en una ciudad", "delante de los edificios de la ciudad"),
            "space": ("en el espacio", "en el cielo nocturno", "entre las estrellas"),
        }
    ),
    background_alone=MappingProxyType(
        {
            "desert": ("el desierto", "un desierto vacío", "dunas de arena"),
            "ocean": ("el océano", "el mar", "un mar vacío"),
            "forest": ("el bosque", "un bosque tranquilo"),
            "city": ("la ciudad", "los edificios de la ciudad"),
            "space": ("el espacio", "el cielo nocturno"),
        }
    ),
    plain_phrases=("sobre un fondo liso", "sin nada detrás"),
    media=(
        "una imagen con",
        "un vídeo con",
        "un clip con",
        "una foto con",
        "un dibujo con",
        "una escena con",
    ),
    tails=(", alta calidad", ", muy detallado", ", 4k", " para niños", ", una escena bonita"),
)
LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {language.name: language for language in (ENGLISH, SPANISH)}
)
