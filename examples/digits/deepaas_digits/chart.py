"""Draws the probabilities of the ten digits as a chart."""

from io import BytesIO

from matplotlib.figure import Figure

from .picture import Array


def bar_chart(probabilities: Array) -> BytesIO:
    """Return a PNG of 480x320 pixels with a bar for each of the ten probabilities, shape (10,).

    Without pyplot, the figure does not stay in memory, and no display is needed.
    """
    figure = Figure(figsize=(4.8, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.bar(range(10), probabilities)
    axes.set(xlabel="digit", ylabel="probability", ylim=(0, 1), xticks=range(10))
    png = BytesIO()
    figure.savefig(png, format="png")
    png.seek(0)
    return png
