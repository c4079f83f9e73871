"""For models that train: report how it goes, and where to put files that are to be kept.

    from deepaas import training

    def train(epochs):
        for epoch in range(epochs):
            loss = ...
            training.report(progress=(epoch + 1) / epochs, epoch=epoch, loss=loss)
        model.save(training.directory() / "model.bin")

Both work outside of a training, too, so that the same code runs in a script.
"""

from deepaas.training.reports import directory, report

__all__ = ["directory", "report"]
