"""The sample world: facts, the articles, questions and claims composed from them, and small models."""
