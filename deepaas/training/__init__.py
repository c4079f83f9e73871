"""For models that train: report how it goes, and where to put files that are to be kept.

    from deepaas import training

    def train(epochs):
        for epoch in range(epochs):
            loss = ...
            training.report(progress=(epoch + 1) / epochs, epoch=epoch, loss=loss)
        plot.save(training.directory() / "loss.png")  # an artefact of this training
        model.save(training.weights_directory() / "model.bin")  # what warm() loads from now on

`report` and `directory` work outside of a training, too, so that the same code runs in a script.
"""

from deepaas.training.reports import directory, report
from deepaas.training.weights import weights_directory

__all__ = ["directory", "report", "weights_directory"]
