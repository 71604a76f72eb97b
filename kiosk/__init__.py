"""What the visitor sees: the stage, the page, captions, touch, packs."""
