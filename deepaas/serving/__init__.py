"""Worker processes and pools of them, which answer the calls of a model. Independent of HTTP."""
