"""Cannot be imported."""

raise RuntimeError("the weights are not there")
