"""Measures SofaDB and, beside it, what people would otherwise use."""
