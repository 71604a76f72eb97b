"""The kiosk's processes and what flows between them."""
