"""Builds the Vosk model in this folder: some 60 words of the coffee bar, learnt from flite's voices in a few CPU minutes.

    python tests/models/vosk-tiny/build.py [--sentences 1500]

Needs flite's voices and libfst-tools (apt), torch and kaldi-native-fbank (pip). It hears flite and little else: it is there so that the
real vosk runs in the tests. flite gives sound and the times of its phones; a small network learns phones from Kaldi's filter banks; the
graph is each word's phones in a row, silence between words allowed, as an "olabel_lookahead" FST so that grammars can be set at run time.
"""

from __future__ import annotations

import argparse
import ctypes as c
import random
import subprocess
import tempfile
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import soundfile
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
VOICES = ("slt", "rms", "awb")
RATE, BINS, EVERY = 16_000, 40, 3
SILENCE = "pau"
SIZES = "small|medium|large".split("|")
DRINKS = "coffee|espresso|americano|latte|cappuccino|mocha|tea|flat white".split("|")
MILKS = "whole milk|skim milk|oat milk|almond milk|soy milk|brown sugar|cream|sugar".split("|")
LEADS = "can i have|can i get|i would like|give me|make me|i want|may i have".split("|")
OTHERS = (
    "yes please|no thank you|yes|no|where are the toilets|what time do you close|when are you open|make that a large one|"
    "small please|stop|hold on|thank you|do you have oat milk|where is the menu|i would like to order a drink"
).split("|")
EXTRA = {
    "a": ["ax"],
    "the": ["dh ax", "dh iy"],
    "to": ["t ax"],
    "are": ["aa r", "er"],
    "and": ["ae n d", "ax n d"],
    "can": ["k ae n", "k ax n"],
}
# Spoken for the tests, so that these need no flite; espeak-ng would sound a little different each time.
KEPT = (
    "can i have a large latte please|where are|the toilets|where are the toilets|what time do you close|yes please|no thank you|"
    "large please|cappuccino|give me a small coffee with brown sugar|can i have a large cappuccino"
).split("|")
KERNELS = ((-2, -1, 0, 1, 2), (-3, 0, 3), (-6, -3, 0, 3, 6))
WIDTH = 128


class Wave(c.Structure):
    """flite's cst_wave."""

    _fields_ = [("type", c.c_char_p), ("rate", c.c_int), ("n", c.c_int), ("channels", c.c_int), ("samples", c.POINTER(c.c_short))]


class Flite:
    """Text to sound and phones: (int16 samples, [(phone, end in seconds)])."""

    def __init__(self) -> None:
        for name in ("flite", "flite_usenglish", "flite_cmulex"):
            c.CDLL(f"lib{name}.so.1", c.RTLD_GLOBAL)
        self._f = f = c.CDLL("libflite.so.1", c.RTLD_GLOBAL)
        f.flite_init()
        for name, result, arguments in (
            ("flite_synth_text", c.c_void_p, [c.c_char_p, c.c_void_p]),
            ("utt_wave", c.POINTER(Wave), [c.c_void_p]),
            ("utt_relation", c.c_void_p, [c.c_void_p, c.c_char_p]),
            ("relation_head", c.c_void_p, [c.c_void_p]),
            ("item_next", c.c_void_p, [c.c_void_p]),
            ("item_feat_string", c.c_char_p, [c.c_void_p, c.c_char_p]),
            ("item_feat_float", c.c_float, [c.c_void_p, c.c_char_p]),
            ("delete_utterance", None, [c.c_void_p]),
        ):
            function = getattr(f, name)
            function.restype, function.argtypes = result, arguments
        self._voices = {}
        for name in VOICES:
            register = getattr(c.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
            register.restype, register.argtypes = c.c_void_p, [c.c_void_p]
            self._voices[name] = register(None)

    def say(self, text: str, voice: str) -> tuple[np.ndarray, list[tuple[str, float]]]:
        f = self._f
        utterance = f.flite_synth_text(text.encode(), self._voices[voice])
        wave = f.utt_wave(utterance).contents
        sound = np.ctypeslib.as_array(wave.samples, (wave.n,)).copy()
        item, phones = f.relation_head(f.utt_relation(utterance, b"Segment")), []
        while item:
            phones.append((f.item_feat_string(item, b"name").decode(), f.item_feat_float(item, b"end")))
            item = f.item_next(item)
        f.delete_utterance(utterance)
        return sound, phones


def sentence(rng: random.Random) -> str:
    """Something a visitor of the test's coffee bar says."""
    if rng.random() < 0.25:
        return rng.choice(OTHERS)
    words = [rng.choice([*LEADS, ""]), "a", rng.choice(["", *SIZES]), rng.choice(DRINKS)]
    if rng.random() < 0.5:
        words += ["with", rng.choice(MILKS)]
        if rng.random() < 0.3:
            words += ["and", rng.choice(MILKS)]
    return " ".join(" ".join([*words, rng.choice(["", "please"])]).split())


def vocabulary() -> list[str]:
    return sorted({word for text in (*SIZES, *DRINKS, *MILKS, *LEADS, *OTHERS, "a with and please one") for word in text.split()})


def features(sound: np.ndarray) -> np.ndarray:
    """Kaldi's filter banks, (frames, 40), as conf/fbank.conf says."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = BINS
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, sound.astype(np.float32).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


def dataset(n: int, flite: Flite) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Features and frame labels of `n` sentences, clean or with noise, at several levels; and the phones."""
    rng, noise = random.Random(1), np.random.default_rng(1)
    heard = []
    for i in range(n):
        sound, phones = flite.say(sentence(rng), VOICES[i % len(VOICES)])
        # Silence at both ends, so that the network knows a quiet room.
        sound = np.concatenate((np.zeros(RATE // 4), sound, np.zeros(RATE // 3))) * rng.uniform(0.2, 1.0)
        sound = np.clip(sound + noise.normal(0, rng.choice((2, 5, 20, 80)), len(sound)), -32768, 32767)
        heard.append((features(sound), [(name, end + 0.25) for name, end in phones]))
    names = [SILENCE, *sorted({name for _, phones in heard for name, _ in phones} - {SILENCE})]
    labels = []
    for x, phones in heard:
        middles = np.arange(len(x)) * 0.01 + 0.0125
        ends = np.array([end for _, end in phones])
        at = np.searchsorted(ends, middles)
        labels.append(np.array([names.index(phones[i][0]) if i < len(phones) else 0 for i in at]))
    return [x for x, _ in heard], labels, names


class Net(nn.Module):
    """Three spliced layers; `KERNELS` are the frames each of them sees."""

    def __init__(self, phones: int) -> None:
        super().__init__()
        sizes = [BINS, WIDTH, WIDTH, WIDTH]
        self.layers = nn.ModuleList(nn.Linear(len(k) * a, b) for k, a, b in zip(KERNELS, sizes, sizes[1:], strict=False))
        self.out = nn.Linear(WIDTH, phones)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(frames, bins) → (frames, phones), edges repeated."""
        for kernel, layer in zip(KERNELS, self.layers, strict=True):
            index = torch.arange(len(x))[:, None] + torch.tensor(kernel)
            x = torch.relu(layer(x[index.clamp(0, len(x) - 1)].flatten(1)))
        return self.out(x)


def train(xs: list[np.ndarray], ys: list[np.ndarray], phones: int, epochs: int) -> tuple[Net, np.ndarray]:
    """The network, input normalisation folded into its first layer; and the phones' log priors."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    frames = np.concatenate(xs)
    mean, spread = frames.mean(0), frames.std(0)
    inputs = [torch.tensor((x - mean) / spread, dtype=torch.float32) for x in xs]
    labels = [torch.tensor(y) for y in ys]
    net, order = Net(phones), list(range(len(xs)))
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    steps = epochs * ((len(xs) + 7) // 8)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        random.Random(epoch).shuffle(order)
        right = total = 0
        for at in range(0, len(order), 8):
            batch = order[at : at + 8]
            # The utterances in a row: the few frames that see their neighbour do no harm.
            scores, wanted = net(torch.cat([inputs[i] for i in batch])), torch.cat([labels[i] for i in batch])
            loss = nn.functional.cross_entropy(scores, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            right, total = right + int((scores.argmax(1) == wanted).sum()), total + len(wanted)
        print(f"epoch {epoch}: {right / total:.3f} of the frames", flush=True)
    with torch.no_grad():
        first = net.layers[0]
        scale = torch.tensor(np.tile(1 / spread, len(KERNELS[0])), dtype=torch.float32)
        first.bias -= first.weight @ (scale * torch.tensor(np.tile(mean, len(KERNELS[0])), dtype=torch.float32))
        first.weight *= scale
    priors = np.log(np.bincount(np.concatenate(ys), minlength=phones) / sum(map(len, ys)) + 1e-6)
    return net, priors


def matrix(values: np.ndarray) -> str:
    rows = "\n".join(" ".join(f"{value:.4g}" for value in row) for row in np.atleast_2d(values))
    return f" [\n{rows} ]\n" if values.ndim == 2 else f" [ {rows} ]\n"


def write_model(path: Path, net: Net, priors: np.ndarray) -> None:
    """Transition model and network, as Kaldi's text."""
    phones = len(priors)
    ids = range(1, phones + 1)
    out = ["<TransitionModel> \n<Topology> \n<TopologyEntry> \n<ForPhones> \n" + " ".join(map(str, ids)) + " \n</ForPhones> \n"]
    out.append(
        "<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State> \n<State> 1 </State> \n</TopologyEntry> \n</Topology> \n"
    )
    out.append(f"<Triples> {phones} \n" + "".join(f"{i} 0 {i - 1} \n" for i in ids) + "</Triples> \n")
    out.append("<LogProbs> \n [ 0 " + "-0.6931472 " * (2 * phones) + "]\n</LogProbs> \n</TransitionModel> \n")
    lines, source, components = [f"input-node name=input dim={BINS}"], "input", []
    for n, (kernel, layer) in enumerate(zip(KERNELS, net.layers, strict=True)):
        spliced = ", ".join(f"Offset({source}, {at})" if at else source for at in kernel)
        lines += [f"component-node name=a{n} component=a{n} input=Append({spliced})", f"component-node name=r{n} component=r{n} input=a{n}"]
        components += [(f"a{n}", layer), (f"r{n}", None)]
        source = f"r{n}"
    lines += [f"component-node name=out component=out input={source}", "output-node name=output input=out objective=linear"]
    components.append(("out", net.out))
    out.append("<Nnet3> \n" + "\n".join(lines) + f"\n\n<NumComponents> {len(components)} \n")
    for name, layer in components:
        if layer is None:
            out.append(f"<ComponentName> {name} <RectifiedLinearComponent> <Dim> {WIDTH} <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n<Count> 0 ")
            out.append("</RectifiedLinearComponent> \n")
            continue
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        bias = bias - priors if name == "out" else bias
        out.append(f"<ComponentName> {name} <FixedAffineComponent> <LinearParams> {matrix(weight)}<BiasParams> {matrix(bias)}")
        out.append("</FixedAffineComponent> \n")
    left, right = (sum(edge(kernel) for kernel in KERNELS) for edge in (lambda k: -min(k), max))
    out.append(f"</Nnet3> \n<LeftContext> {left} <RightContext> {right} <Priors>  [ ]\n")
    path.write_text("".join(out), encoding="utf-8")


def pronunciations(flite: Flite, names: list[str]) -> dict[str, list[list[str]]]:
    """Each word as flite says it alone, and the ways it says it in a sentence."""
    found = {}
    for word in vocabulary():
        said = [phone for phone, _ in flite.say(word, VOICES[0])[1] if phone != SILENCE]
        variants = [said, *(extra.split() for extra in EXTRA.get(word, ()))]
        found[word] = [list(v) for v in dict.fromkeys(map(tuple, variants)) if all(phone in names for phone in v)]
    return found


def write_graph(folder: Path, words: dict[str, list[list[str]]], names: list[str]) -> None:
    """HCLr.fst (phones of words, lookahead on the words), Gr.fst (any word after any), words.txt."""
    symbols = {word: n for n, word in enumerate(["<eps>", "[unk]", *sorted(words)])}
    arcs, state = [], 1
    forward = {name: 2 * n + 2 for n, name in enumerate(names)}  # a transition model with two transitions per phone
    silence = forward[SILENCE]
    arcs += [(0, 1, silence, 0), (1, 1, silence - 1, 0), (1, 0, 0, 0)]
    for word, variants in [*words.items(), ("[unk]", [[SILENCE] * 3])]:
        for phones in variants:
            at = 0
            for n, phone in enumerate(phones):
                state += 1
                arcs += [(at, state, forward[phone], 0 if n else symbols[word]), (state, state, forward[phone] - 1, 0)]
                at = state
            arcs.append((at, 0, 0, 0))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        plugin = Path(subprocess.check_output(["sh", "-c", "ls /usr/lib/*/libfstlookahead.so.*[0-9] | head -1"], text=True).strip())
        (work / "olabel_lookahead-fst.so").symlink_to(plugin)
        env = {"LD_LIBRARY_PATH": str(work), "PATH": "/usr/bin:/bin"}

        def run(line: str) -> None:
            subprocess.run(["sh", "-ec", line], cwd=work, env=env, check=True)

        (work / "hcl.txt").write_text("\n".join(" ".join(map(str, arc)) for arc in arcs) + "\n0 0\n")
        cost = np.log(len(words) + 1)
        (work / "g.txt").write_text("\n".join(f"0 0 {n} {n} {cost:.3f}" for word, n in symbols.items() if n) + "\n0 0\n")
        run("fstcompile hcl.txt | fstarcsort --sort_type=olabel > hcl.fst")
        run("fstconvert --fst_type=olabel_lookahead --save_relabel_opairs=pairs hcl.fst HCLr.fst")
        run("fstcompile g.txt | fstrelabel --relabel_ipairs=pairs --relabel_opairs=pairs | fstarcsort --sort_type=ilabel > Gr.fst")
        pairs = dict(tuple(map(int, line.split())) for line in (work / "pairs").read_text().splitlines())
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("HCLr.fst", "Gr.fst"):
            (folder / name).write_bytes((work / name).read_bytes())
    (folder / "words.txt").write_text("".join(f"{word} {pairs.get(n, n)}\n" for word, n in symbols.items()))
    (folder / "disambig_tid.int").write_text("")


def keep_sentences(flite: Flite) -> None:
    """KEPT as recordings beside the model."""
    (HERE / "spoken").mkdir(exist_ok=True)
    for text in KEPT:
        quiet = np.zeros(RATE // 4, np.int16)
        sound = np.concatenate((quiet, flite.say(text, VOICES[0])[0], quiet))
        soundfile.write(HERE / "spoken" / f"{text.replace(' ', '_')}.flac", sound, RATE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sentences", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    flite = Flite()
    keep_sentences(flite)
    xs, ys, names = dataset(options.sentences, flite)
    print(f"{sum(map(len, xs)) / 100 / 60:.1f} minutes of speech, {len(names)} phones", flush=True)
    net, priors = train(xs, ys, len(names), options.epochs)
    for folder in ("am", "conf", "graph"):
        (HERE / folder).mkdir(exist_ok=True)
    write_model(HERE / "am" / "final.mdl", net, priors)
    write_graph(HERE / "graph", pronunciations(flite, names), names)
    (HERE / "conf" / "fbank.conf").write_text(f"--num-mel-bins={BINS}\n--sample-frequency={RATE}\n--dither=0\n")
    (HERE / "conf" / "model.conf").write_text(
        "--min-active=200\n--max-active=3000\n--beam=13.0\n--lattice-beam=6.0\n--acoustic-scale=0.5\n"
        f"--frame-subsampling-factor={EVERY}\n--frames-per-chunk=21\n--endpoint.silence-phones=1\n"
        "--endpoint.rule2.min-trailing-silence=0.5\n--endpoint.rule3.min-trailing-silence=1.0\n--endpoint.rule4.min-trailing-silence=2.0\n"
    )


if __name__ == "__main__":
    main()
