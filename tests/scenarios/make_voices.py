"""Speaks the visitors' texts of all scenarios into tests/scenarios/voices (Ogg Opus), so that they run where flite is not installed.

.venv/bin/python tests/scenarios/make_voices.py

The voices are those of flite and espeak-ng, never the avatar's. Texts that are there already are left alone; those that no scenario
says any more are removed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile
import soxr

from visavis.rehearse import scenario, voices

HERE = Path(__file__).resolve().parent
RATE = 24_000


def texts() -> set[tuple[str, str]]:
    """(voice, text) of everything that is spoken in any scenario here."""
    found = set()
    for path in sorted(HERE.glob("*.toml")):
        plan = scenario.load(path)
        for step in plan.step:
            text = step.say or step.interrupt or step.backchannel
            if text and "/" not in text and text not in voices.MADE:
                found.add((step.voice or plan.voice, text))
        for draw in plan.draw:
            found |= {(plan.voice, prompt) for prompt in draw.prompts}
    return found


def main() -> int:
    """Make what is missing."""
    wanted = {voices.voice_path(HERE, voice, text): (voice, text) for voice, text in texts()}
    for path, (voice, text) in sorted(wanted.items()):
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            samples, rate = voices.speak(text, voice)
            soundfile.write(path, soxr.resample(samples, rate, RATE), RATE, format="OGG", subtype="OPUS")
    for path in (HERE / "voices").glob("*.ogg"):
        if path not in wanted:
            path.unlink()
    print(f"{len(wanted)} texts in {HERE / 'voices'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
