"""Figures at the edges: no mistakes, a hundred classes, odd names, long runs; no text on top of other text."""

import itertools

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cifar_exp.explain.faithfulness import Effect, Explanation, Faithfulness
from cifar_exp.explain.gradcam import CamMap, LayerMap
from cifar_exp.reports.figures import curves as curves_module
from cifar_exp.reports.figures import style
from cifar_exp.reports.figures.confusion import draw_confusion
from cifar_exp.reports.figures.curves import draw_curves, draw_learning_rate
from cifar_exp.reports.figures.images import ClassifiedImage, draw_augmented, draw_gradcam, draw_misclassified
from cifar_exp.training.schedule import measure_use


@pytest.fixture
def drawn(monkeypatch):
    """Collects the figures that are saved, to look at their texts."""
    figures: list[Figure] = []
    real = style.save

    def save(figure, path):
        figures.append(figure)
        real(figure, path)

    monkeypatch.setattr(style, "save", save)
    return figures


def overlapping_texts(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of visible texts whose boxes overlap by more than a pixel each way."""
    # Only what is really drawn: matplotlib also holds ticks outside the axes' limits.
    texts: list[Text] = []
    real = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, renderer: (texts.append(text), real(text, renderer))[1])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    # The box around a slanted text does not show where its letters are.
    upright = {text for text in texts if text.get_text().strip() and text.get_rotation() % 90 == 0}
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in upright]
    return [
        (a, b)
        for (a, one), (b, other) in itertools.combinations(boxes, 2)
        if min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
    ]


def classified_images(count: int, name: str = "automobile") -> list[ClassifiedImage]:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return [ClassifiedImage(i, image, name, "a_class_with_a_very_long_name", 0.987) for i in range(count)]


def metrics_of(epochs: int) -> pd.DataFrame:
    values = np.linspace(0.5, 0.9, epochs)
    table = pd.DataFrame({"epoch": np.arange(1, epochs + 1)})
    for split in ("train", "val", "test"):
        table[f"{split}_loss"], table[f"{split}_accuracy"] = 1 - values, values
    table.loc[: epochs - 2, ["test_loss", "test_accuracy"]] = np.nan
    return table


@pytest.mark.parametrize("classes", [2, 10, 20, 100])
def test_confusion_from_two_to_a_hundred_classes(tmp_path, drawn, classes):
    counts = np.eye(classes, dtype=np.int64) * 95 + 5
    names = [f"class number {i}" for i in range(classes)]
    draw_confusion(counts, names, "title", tmp_path / "c.png")
    assert overlapping_texts(drawn[0]) == []


@pytest.mark.parametrize("epochs", [1, 2, 20, 2_000])
def test_curves_of_short_and_long_runs(tmp_path, drawn, epochs):
    draw_curves(metrics_of(epochs), "a run", tmp_path / "c.png")
    assert overlapping_texts(drawn[0]) == []
    assert "gap train - test" in drawn[0].axes[1].get_title()


def test_the_gap_is_the_published_runs(tmp_path, drawn):
    metrics = metrics_of(20)
    metrics.loc[19, ["train_accuracy", "test_accuracy"]] = [0.9453, 0.8571]
    draw_curves(metrics, "published", tmp_path / "c.png")
    assert "+8.82 points" in drawn[0].axes[1].get_title()


def test_ten_million_steps_are_drawn_downsampled(tmp_path, drawn):
    planned = np.linspace(0.1, 0, 1_000_000)
    steps = pd.DataFrame({"step": np.arange(1, 1_000_001), "learning_rate": planned})
    draw_learning_rate(planned, steps, measure_use("step", planned, planned, 10), tmp_path / "l.png")
    assert all(len(line.get_xdata()) <= 2 * curves_module._MOST_POINTS for line in drawn[0].axes[0].lines)


def test_an_unused_plan_is_in_the_title(tmp_path, drawn):
    planned = np.linspace(0.1, 0, 7_820)
    used = np.full(7_820, 0.005)
    steps = pd.DataFrame({"step": np.arange(1, 7_821), "learning_rate": used})
    draw_learning_rate(planned, steps, measure_use("epoch", planned, used, 20), tmp_path / "l.png")
    assert "20 of 7,820 planned steps" in drawn[0].axes[0].get_title()


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_gallery_has_room_for_long_names(tmp_path, drawn, count):
    draw_misclassified(classified_images(count), 1_429, 10_000, tmp_path / "m.png")
    assert overlapping_texts(drawn[0]) == []


def test_captions_cut_neither_index_nor_answer_nor_confidence(tmp_path, drawn):
    draw_misclassified(classified_images(3), 1_429, 10_000, tmp_path / "m.png")
    one = classified_images(3)[1]
    caption = "".join(drawn[0].axes[1].get_title().split())
    expected = f"index {one.index} predicted {one.prediction} ({one.confidence:.0%}) label {one.label}"
    assert caption == "".join(expected.split())


def test_a_gallery_without_mistakes_has_a_message(tmp_path, drawn):
    draw_misclassified([], 0, 100, tmp_path / "m.png")
    assert "0 of 100 test images misclassified." in drawn[0].texts[0].get_text()


def test_an_unwanted_gallery_has_the_number_of_mistakes(tmp_path, drawn):
    draw_misclassified([], 90, 100, tmp_path / "m.png")
    assert "90 of 100 test images misclassified" in drawn[0].texts[0].get_text()


def test_names_are_not_parsed_as_formulas(tmp_path):
    draw_misclassified(classified_images(2, name="$x^$ _{"), 2, 10, tmp_path / "m.png")
    draw_confusion(np.eye(2, dtype=np.int64), ["$", "a$b$"], "100% of $", tmp_path / "c.png")


def test_augmentations_of_gray_and_colour(tmp_path):
    for channels in (1, 3):
        images = np.zeros((4, 16, 16, channels), np.uint8)
        draw_augmented(images, [images, images], ["a"] * 4, "none", tmp_path / "a.png")


@pytest.mark.parametrize(
    ("heat", "count", "low", "title"),
    [
        (0.0, 10, -0.1, "No evidence that Grad-CAM marks what the prediction depends on (layer1)"),
        (1.0, 1, 0.05, "Grad-CAM marks what the prediction depends on (layer1)"),
        (1.0, 10, 0.05, "Grad-CAM marks what the prediction depends on (layer1)"),
    ],
)
def test_gradcam_with_and_without_heat(tmp_path, drawn, heat, count, low, title):
    images = classified_images(count)
    layers = [LayerMap("layer1", 32, 32), LayerMap("layer2", 16, 16), LayerMap("layer3", 8, 8)]
    maps = [
        CamMap(i, target, layer, np.zeros((8, 8), np.float32), np.full((32, 32), heat, np.float32), -0.5, 0.6, 0.5, 0.6)
        for i in range(count)
        for layer in layers
        for target in ("predicted", "true")
    ]
    tests = [Faithfulness(layer, "predicted", 200, "blur", Effect(0.3, 0.2, low, 0.2)) for layer in layers]
    draw_gradcam(images, Explanation(np.arange(count), maps, tests), tmp_path / "g.png")
    assert drawn[0].texts[0].get_text() == title
    assert overlapping_texts(drawn[0]) == []


@pytest.mark.parametrize(
    ("images", "message"), [([], "No test image was misclassified"), (classified_images(1), "warning in run.log")]
)
def test_gradcam_without_maps_gives_the_reason(tmp_path, drawn, images, message):
    draw_gradcam(images, Explanation(np.arange(1), [], []), tmp_path / "g.png")
    assert message in drawn[0].texts[0].get_text()


def square_font(path, letter):
    """A font that shows one letter as a black square, and has no other."""
    pen = TTGlyphPen(None)
    for number, point in enumerate(((0, 0), (0, 800), (800, 800), (800, 0))):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "square": (900, 50)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Square Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def test_a_font_is_chosen_that_has_the_letters_or_the_log_names_its_package(tmp_path, monkeypatch, caplog):
    """The font was installed after Matplotlib listed the fonts of the system."""
    own = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    for installed in ([], [square_font(tmp_path / "square.ttf", "猫")]):
        style._families.cache_clear()
        monkeypatch.setattr(font_manager.fontManager, "ttflist", list(own))
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda installed=installed: installed)
        caplog.clear()
        with style.new_figure(tmp_path / "figure.png", 2, 1) as figure:
            text = figure.text(0.5, 0.5, "猫é☃", fontsize=40)
        if installed:
            assert text.get_fontfamily() == ["DejaVu Sans", "Square Sans"]
            dark = (np.asarray(Image.open(tmp_path / "figure.png").convert("L")) < 40).sum()
            assert dark > (0.8 * 40 * 150 / 72) ** 2, "the square of 0.8 em"
            assert caplog.text == ""
        else:
            assert "No installed font has 猫: figures show boxes instead" in caplog.text
            assert "apt-get install fonts-noto-cjk" in caplog.text
    style._families.cache_clear()
