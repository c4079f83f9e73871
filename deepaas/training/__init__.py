"""Functions for models that train: report progress, and get the directories for files to keep.

An example::

    from deepaas import training

    def train(epochs):
        for epoch in range(epochs):
            loss = ...
            training.report(progress=(epoch + 1) / epochs, epoch=epoch, loss=loss)
        plot.save(training.directory() / "loss.png")  # an artefact of this training
        model.save(training.weights_directory() / "model.bin")  # warm() loads it from now on

`report` and `directory` also work outside of a training, so that the same code runs in a script.
"""

from deepaas.training.reports import directory, report
from deepaas.training.weights import weights_directory

__all__ = ["directory", "report", "weights_directory"]
