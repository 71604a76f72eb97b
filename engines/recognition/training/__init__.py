"""How the ears learn: recordings → inner layers of the turn model → a phone head (PyTorch; `visavis ears`, never in the kiosk)."""
