"""Make an avatar: render or record, train, quantize, pack, evaluate. Development tools; nothing here runs in a kiosk."""
