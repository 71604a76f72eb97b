"""Avatar packs that ship with Visavis: folders that engines.renderer.load_pack reads."""
