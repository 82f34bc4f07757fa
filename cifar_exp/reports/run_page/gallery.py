"""The images of a run's page, as data for its scripts."""

from typing import Any

import numpy as np

from cifar_exp.reports.html.page import image_uri
from cifar_exp.reports.run_page.findings_predictions import headline_layer
from cifar_exp.run_dir.kept_images import MOST_SUSPECTS, TARGETS
from cifar_exp.run_dir.read import RunDirectory

_MOST_CLASSES = 5  # probabilities shown for an image


def gallery_data(run: RunDirectory) -> dict[str, Any] | None:
    """The input of ``gallery.js``: the kept images with their predictions; None if there are none."""
    if run.images is None or run.predictions is None:
        return None
    classes = {name: position for position, name in enumerate(run.class_names)}
    explained = set(run.images.explained.tolist())
    images = []
    for pixels, index in zip(run.images.image, run.images.index.tolist(), strict=True):
        if not 0 <= index < len(run.predictions):
            continue
        row = run.predictions.iloc[index]
        label, prediction = classes.get(str(row["label"])), classes.get(str(row["prediction"]))
        if label is None or prediction is None:
            continue
        images.append(
            {
                "index": index,
                "label": label,
                "prediction": prediction,
                "confidence": float(row["confidence"]),
                "source": str(row["source"]),
                "explained": index in explained,
                "top": _top_classes(run, index),
                "image": image_uri(pixels),
            }
        )
    height, width = run.images.image.shape[1:3]
    return {"images": images, "height": height, "width": width} if images else None


def _top_classes(run: RunDirectory, index: int) -> list[tuple[int, float]] | None:
    """The most probable classes of a test image with their probabilities; None if they are unknown."""
    if run.predictions is None or run.probabilities is None:
        return None
    if run.probabilities.shape != (len(run.predictions), len(run.class_names)):
        return None
    of_image = run.probabilities[index]
    order = np.argsort(-of_image, kind="stable")[:_MOST_CLASSES]
    return [(int(k), float(of_image[k])) for k in order] if np.isfinite(of_image).all() else None


def suspects(run: RunDirectory) -> list[int] | None:
    """The images of the page whose label is most probably wrong; None if there are none."""
    if run.label_issues is None or run.images is None:
        return None
    listed = run.label_issues["index"].dropna().astype(np.int64).tolist()[:MOST_SUSPECTS]
    kept = set(run.images.index.tolist())
    return [index for index in listed if index in kept] or None


def explained_data(run: RunDirectory) -> dict[str, Any] | None:
    """The input of ``gradcam.js``: each explained image with its maps and their effect; None if there are none."""
    kept = run.images
    if kept is None or run.gradcam is None or not len(kept.explained) or not kept.layers:
        return None
    rows: dict[tuple[int, str, str], dict[Any, Any]] = {
        (int(row["index"]), row["layer"], row["target"]): row
        for row in run.gradcam.dropna(subset=["index"]).to_dict("records")
    }
    by_index = {index: row for (index, *_), row in rows.items()}
    palette = _palette()
    images = []
    for position, index in enumerate(kept.explained.tolist()):
        if index not in by_index:
            continue
        maps = {
            target: [
                _map(kept.heat[position, number, side], rows.get((index, layer, target), {}), palette)
                for number, layer in enumerate(kept.layers)
            ]
            for side, target in enumerate(TARGETS)
        }
        confidence = None
        if run.predictions is not None and 0 <= index < len(run.predictions):
            confidence = float(run.predictions["confidence"].iloc[index])
        one = {key: by_index[index][key] for key in ("label", "prediction")} | {"confidence": confidence}
        images.append({"index": index, "image": image_uri(kept.explained_image[position]), "maps": maps} | one)
    return {"images": images, "layers": list(kept.layers), "headline": headline_layer(run)} if images else None


def _map(heat: Any, row: dict[Any, Any], palette: Any) -> dict[str, Any]:
    """One map; without an image if it has no positive evidence."""
    return {
        "image": image_uri(heat, palette) if heat.any() else None,
        "height": row.get("map_height"),
        "width": row.get("map_width"),
        "attended": row.get("attended_drop"),
        "control": row.get("control_drop"),
    }


def _palette() -> Any:
    """The colours of the maps, (256, 3) uint8: inferno, as in ``figures/gradcam.png``."""
    from matplotlib import colormaps

    return np.round(255 * colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)
