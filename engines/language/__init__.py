"""From what a visitor said to what to say or do: a grounded engine without a model, and any OpenAI-compatible server."""
