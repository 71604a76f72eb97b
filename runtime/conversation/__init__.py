"""Rules of talk: floor, prompt, knowledge, guardrails, memory, tools."""
