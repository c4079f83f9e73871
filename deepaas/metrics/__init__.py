"""Metrics in the formats of Prometheus. It listens to events, and knows no model.

`counts.py` counts events, `state.py` says what is looked at when the metrics are read, and
`families.py` and `page.py` turn both into text with prometheus-client. Only these two import that
package, which is optional.
"""
