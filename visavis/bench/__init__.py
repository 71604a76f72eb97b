"""Benchmarks: one module each with `run(...) -> dict`; `visavis.bench.suite` runs them, `visavis.bench.report` shows them."""
