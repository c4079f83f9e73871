"""How calls reach a model: workers, and pools of them. Knows nothing of HTTP."""
