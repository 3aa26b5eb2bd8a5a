"""Sounds: files and windows, resampling, spectrograms, WAVs, sheets, and the scores that hear them."""

from __future__ import annotations

import io
import math
import pickle
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from support import compose, ready, small, train
from torch import Tensor

import gan_experiments as gx
from gan_experiments import kinds, provenance, sound
from gan_experiments.assembly import build, scoring, subjects
from gan_experiments.callbacks.health import share_of_twins
from gan_experiments.callbacks.memorisation import Memorisation
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.comparison import page
from gan_experiments.contracts import ConfigError
from gan_experiments.data import stored
from gan_experiments.data.recordings import Recordings
from gan_experiments.data.waves import Drums, Waves
from gan_experiments.kinds import WAVE, Wave
from gan_experiments.metrics import names, sounds, train_sounds
from gan_experiments.metrics.request import Request
from gan_experiments.models.wgan_gp import WGANGP
from gan_experiments.provenance import Mark
from gan_experiments.runs import configs
from gan_experiments.verbs import export

RATE = 8000


def sine(hertz: float, seconds: float, rate: int = RATE, amplitude: float = 0.5) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: NDArray[Any], rate: int = RATE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def waves(root: Path, **options: Any) -> Waves:
    return Waves(root=str(root), **{"length": 256, "rate": RATE, "batch_size": 4, **options})


def level(samples: Tensor, hertz: float, rate: int = RATE) -> float:
    """The amplitude of a frequency in a wave [L]."""
    turns = torch.exp(-2j * math.pi * hertz * torch.arange(len(samples)) / rate)
    return (samples.double() * turns).mean().abs().item() * 2


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("wav", 2e-3), ("flac", 2e-3), ("aiff", 2e-3), ("ogg", 5e-2), ("mp3", 5e-2)]
)
def test_formats_are_read_and_resampled(suffix: str, tolerance: float, tmp_path: Path) -> None:
    write(tmp_path / f"a.{suffix}", sine(440, 0.5, 16_000), 16_000)
    write(tmp_path / f"b.{suffix}", sine(440, 0.5, 44_100), 44_100)
    for found in waves(tmp_path, length=2048).training().images(0, 2):
        assert (found.dtype, found.shape) == (torch.int16, (1, 2048))
        assert level(sound.to_float(found)[0, 600:], 440) == pytest.approx(0.5, abs=tolerance)


def test_what_is_no_sound_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "good.wav", sine(100, 0.1))
    write(tmp_path / "short.wav", sine(100, 0.01))
    write(tmp_path / "silent.wav", sine(100, 0.1, amplitude=1e-4))
    write(tmp_path / "nan.wav", np.full(800, np.nan), subtype="FLOAT")
    write(tmp_path / "three.wav", np.stack([sine(100, 0.1)] * 3, axis=1))
    (tmp_path / "broken.flac").write_bytes((write(tmp_path / "x" / "whole.flac", sine(100, 0.1))).read_bytes()[:60])
    (tmp_path / "x" / "whole.flac").unlink()
    (tmp_path / "notes.txt").write_text("no sound")
    data = waves(tmp_path, channels=2)
    told = "\n".join([data.describe(), *data.understood()])
    assert "1 sounds of 256 samples at 8,000 Hz (0.03 s), stereo, 6 files left out" in told
    assert "left out  6 files: broken.flac (no sound: " in told
    left = data.training().about.left_out
    assert {name: why.partition(":")[0] for name, why in left.items()} == {
        "broken.flac": "no sound",
        "nan.wav": "holds samples that are not finite",
        "notes.txt": "no sound",
        "short.wav": "too short, 0.010 s",
        "silent.wav": "silent",
    }
    assert "left out 6 of the 7 files" in caplog.text
    only = write(tmp_path / "other" / "silent.wav", np.zeros(800)).parent
    with pytest.raises(ConfigError, match=r"none of the 1 files of data\.root=\S+ is a sound \(silent\.wav: silent\)"):
        waves(only).training()


def test_channels_are_averaged_or_doubled(tmp_path: Path) -> None:
    left, right = sine(200, 0.1), sine(700, 0.1)
    write(tmp_path / "both" / "a.wav", np.stack([left, right], axis=1))
    write(tmp_path / "one" / "a.wav", left)
    mono = sound.to_float(waves(tmp_path / "both").training().images(0, 1))[0]
    assert torch.allclose(mono[0], torch.tensor((left + right)[:256] / 2, dtype=torch.float32), atol=1e-4)
    stereo = waves(tmp_path / "both", channels=2).training().images(0, 1)[0]
    assert not torch.equal(stereo[0], stereo[1])
    doubled = waves(tmp_path / "one", channels=2).training().images(0, 1)[0]
    assert torch.equal(doubled[0], doubled[1])
    loud = waves(tmp_path / "one", normalise=True).training().images(0, 1)
    assert loud.abs().max() >= 32767


def test_subfolders_are_classes_and_archives_are_read(tmp_path: Path) -> None:
    for name, hertz in (("high", 900), ("low", 90)):
        for index in range(3):
            write(tmp_path / "set" / name / f"{index}.wav", sine(hertz, 0.1))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        for path in sorted((tmp_path / "set").rglob("*.wav")):
            packed.write(path, path.relative_to(tmp_path / "set"))
    for root in ("set", "set.zip"):
        data = waves(tmp_path / root, classes=2)
        assert (data.class_names, data.class_counts) == (["high", "low"], [3, 3])
        fixed = data.fixed(4)
        assert fixed["label"].tolist() == [0, 1, 0, 1]
        loud = [[level(one[0], hertz) > 0.3 for hertz in (900, 90)] for one in fixed["real"]]
        assert loud == [[True, False], [False, True]] * 2
    with pytest.raises(
        ConfigError, match=r"data\.classes=3, but Waves has 2 classes \(high, low\): type data\.classes=2"
    ):
        waves(tmp_path / "set", classes=3).training()
    held = waves(tmp_path / "set", test_fraction=0.4, split_seed=1)
    assert len(held.reference("test")) + len(held.training()) == 6
    with pytest.raises(ConfigError, match=r"has no split 'test': type data\.test_fraction"):
        waves(tmp_path / "set").reference("test")


def test_without_soundfile_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", sine(100, 0.1))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"pip install 'gan-experiments\[audio\]', or type data=drums"):
        waves(tmp_path).training()
    assert len(Drums(speeds=1).training()) == 105


def test_a_damaged_cache_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "set" / "a.wav", sine(100, 0.1))
    options = {"cache": str(tmp_path / "cache")}
    before = waves(tmp_path / "set", **options).training().images(0, 1).clone()
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    raw = bytearray((folder / "samples.npy").read_bytes())
    raw[-5] ^= 1
    (folder / "samples.npy").write_bytes(raw)
    after = waves(tmp_path / "set", **options).training()
    assert "is damaged (its content is not what was written) and is built again" in caplog.text
    assert torch.equal(before, after.images(0, 1))
    copy = pickle.loads(pickle.dumps(after))
    assert torch.equal(copy.images(0, 1), after.images(0, 1))
    assert copy.fingerprint == after.fingerprint


# ------------------------------------------------------------------------------------------------ windows


def counting(window: str) -> Recordings:
    """Recordings 1..10 and 101..103 in windows of 4."""
    samples = torch.tensor([*range(1, 11), 101, 102, 103], dtype=torch.int16)[:, None]
    return Recordings(samples, torch.tensor([0, 10, 13]), torch.tensor([0, 1]), 4, window)


def test_windows_of_recordings() -> None:
    def rows(found: Tensor) -> list[list[int]]:
        return found[:, 0].tolist()

    assert rows(counting("first").images(0, 2)) == [[1, 2, 3, 4], [101, 102, 103, 0]]
    everything = counting("all")
    assert rows(everything.images(0, 9)) == [[1, 2, 3, 4], [5, 6, 7, 8], [101, 102, 103, 0]]
    assert everything.labels.tolist() == [0, 0, 1]
    drawn = counting("random")
    assert rows(drawn.images(0, 2)) == [[4, 5, 6, 7], [101, 102, 103, 0]], "the middle, for scores"
    shares = torch.linspace(0, 0.999, 700)
    begins = drawn.read(torch.zeros(700, dtype=torch.int64), shares)[:, 0, 0]
    assert begins.unique(return_counts=True)[1].tolist() == [100] * 7, "every place is as likely"
    assert len({counting(window).fingerprint for window in ("first", "all", "random")}) == 3


def test_random_windows_are_a_function_of_seed_and_batch_on_any_ranks(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.wav", sine(100 * (index + 1), 0.2))
    data = waves(tmp_path, window="random")
    whole = data.stream().batch(3)["real"]
    parts = [data.stream(rank, 2).batch(3)["real"] for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole, waves(tmp_path, window="random").stream().batch(3)["real"])
    assert not torch.equal(whole, waves(tmp_path, window="random", seed=1).stream().batch(3)["real"])


def test_batches_are_floats_within_bounds() -> None:
    batch = ready(Drums(speeds=1, batch_size=8))
    assert (batch["real"].dtype, batch["real"].shape) == (torch.float32, (8, 1, 4096))
    assert 0.5 < batch["real"].abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": 3}, "data.channels=3: sounds are mono or stereo"),
        ({"length": 4}, "type data.length=4096"),
        ({"rate": 10}, "samples per second from 100 to 192000"),
        ({"semitones": 30.0}, "type data.semitones=4"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Drums(**options)


def test_drums_are_played_at_several_speeds() -> None:
    plain, fast = Drums(speeds=1).training(), Drums(speeds=3, semitones=12.0).training()
    assert (len(plain), len(fast)) == (105, 315)
    assert plain.class_names == ["kick", "snare", "hat", "tom", "cymbal", "tabla"]
    assert torch.equal(fast.images(1, 2), plain.images(0, 1)), "in the middle the hit itself"
    sizes = fast.starts.diff().view(-1, 3)[:, [0, 1, 2]]
    whole = sizes[:, 0] < 4096  # not cut off
    assert whole.sum() > 20
    assert (sizes[whole, 0] / sizes[whole, 1]).float().mean() == pytest.approx(2, abs=0.05), (
        "an octave lower, twice as long"
    )
    assert Drums(speeds=1, rate=4000, channels=2).training().images(0, 1).shape == (1, 2, 4096)


# ------------------------------------------------------------------------------------------------ signals


def test_resampling_keeps_tones_and_removes_those_beyond() -> None:
    time = torch.arange(44_100) / 44_100
    for hertz in (100, 1000, 3000):
        heard = sound.resampled(torch.sin(2 * math.pi * hertz * time)[None], sound.speed_of(44_100, 8000))[0]
        wanted = torch.sin(2 * math.pi * hertz * torch.arange(8000) / 8000)
        assert heard.shape == wanted.shape
        assert (heard - wanted)[400:-400].abs().max() < 0.003
    beyond = sound.resampled(torch.sin(2 * math.pi * 6000 * time)[None], sound.speed_of(44_100, 8000))[0]
    assert beyond[400:-400].abs().max() < 0.003
    same = torch.randn(1, 50)
    assert sound.resampled(same, sound.speed_of(8000, 8000)) is same


def test_a_tone_stands_in_its_band() -> None:
    tone = torch.tensor(sine(1000, 0.5, amplitude=1.0), dtype=torch.float32)[None]
    bands = sound.mel_bands(tone, RATE, 64, 256, 40)[0, :, 20:40].mean(dim=1)
    centres = 700 * (torch.expm1(torch.linspace(sound.mel(20.0), sound.mel(4000.0), 42) / 1127))[1:-1]
    assert abs(centres[bands.argmax()] - 1000) < 60
    assert bands.sum() == pytest.approx(1, abs=0.01)
    assert sound.decibels(torch.tensor([1.0, 0.1, 0.0])).tolist() == pytest.approx([0, -20, -100])


def official_examples(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """VGGish's input as TensorFlow's research/audioset/vggish computes it, from its description."""
    frames = 1 + (len(samples) - 400) // 160
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    windowed = np.stack([samples[160 * t : 160 * t + 400] * hann for t in range(frames)])
    spectrum = np.abs(np.fft.rfft(windowed, 512))

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    bins, edges = mel(np.linspace(0.0, 8000.0, 257)), np.linspace(mel(125.0), mel(7500.0), 66)
    weights = np.zeros((257, 64))
    for band in range(64):
        low, centre, high = edges[band : band + 3]
        weights[:, band] = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    weights[0] = 0
    heard = np.log(spectrum @ weights + 0.01)
    number = frames // 96
    return heard[: 96 * number].reshape(number, 96, 64)


def test_vggish_hears_what_the_official_code_does() -> None:
    rng = np.random.default_rng(0)
    samples = sine(440, 2.1, 16_000) + 0.1 * rng.standard_normal(round(2.1 * 16_000))
    ours = sounds.vggish_examples(torch.tensor(samples, dtype=torch.float32)[None])[0]
    theirs = official_examples(samples)
    assert ours.shape == theirs.shape == (2, 96, 64)
    assert np.abs(ours.numpy() - theirs).max() < 2e-4
    assert sounds.vggish_examples(torch.zeros(3, 4096)).shape == (3, 1, 96, 64)


# ------------------------------------------------------------------------------------------------ sheets and WAVs


def test_a_wav_of_samples_has_the_mark(tmp_path: Path) -> None:
    mark = Mark("WaveGAN", "run", images_seen=640, seed=3)
    samples = torch.tensor([[0.0, 0.5, -0.5, 2.0], [0.1, 0.1, 0.1, -3.0]])
    Wave(rate=8000.0).save(samples, tmp_path / "a.wav", mark)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 8000, 4)
    read, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000
    assert read.T.tolist() == [[0, 16384, -16384, 32767], [3277, 3277, 3277, -32768]]
    raw = (tmp_path / "a.wav").read_bytes()
    assert sound.comment_of(raw) == mark.text()
    assert int.from_bytes(raw[4:8], "little") == len(raw) - 8
    assert "WaveGAN" in soundfile.SoundFile(io.BytesIO(raw)).comment
    Wave(rate=8000.0).save(samples, tmp_path / "b.wav", None)
    assert sound.comment_of((tmp_path / "b.wav").read_bytes()) == ""


def test_a_picture_shows_time_pitch_and_level() -> None:
    time = torch.arange(4096) / RATE
    low, high = (0.9 * torch.sin(2 * math.pi * hertz * time) for hertz in (100, 3000))
    late = high * (time > 0.256)
    pictures = WAVE.pictures(torch.stack([low, high, late])[:, None]).float()
    assert pictures.shape == (3, 3, 66, 128)
    spectrograms = sound.drawn(torch.stack([low, high, late])[:, None], RATE).float()[:, :, 26:].sum(1)
    rows = spectrograms.mean(dim=2).argmax(dim=1)
    assert rows[0] > 30
    assert rows[1] < 10, "low ones below"
    columns = spectrograms[2].amax(dim=0)
    assert columns[:60].max() < columns[70:].min()
    assert WAVE.pictures(torch.full((1, 1, 64), torch.nan)).shape == (1, 3, 66, 128)


def test_sheets_come_with_a_wav(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "wavegan_conditional", "images=8", "data.length=256", "data.speeds=1")
    model: Any = train(cfg, extra=[SampleSheets(cfg.output, 8, n=12)])
    samples = tmp_path / "run" / "samples"
    assert {path.name for path in samples.glob("0*")} == {f"0000000{n}.{s}" for n in (0, 8) for s in ("png", "wav")}
    heard, rate = soundfile.read(samples / "00000008.wav", dtype="int16")
    assert (rate, len(heard)) == (8000, 12 * (256 + 800))
    assert "WGANGP" in sound.comment_of((samples / "00000008.wav").read_bytes())
    assert provenance.read(samples / "00000008.png") is not None
    assert model.kind == Wave(rate=8000.0)
    assert kinds.restored(WAVE, kinds.state(model.kind)) == model.kind


def test_twins_are_alike_for_the_ear() -> None:
    hits = sound.to_float(Drums(speeds=1).training().images(0, 105))
    kind = Wave(rate=8000.0)
    vectors = kind.vectors(hits)
    assert vectors.shape == (105, 64)
    assert share_of_twins(vectors, vectors) < 0.3
    softer = torch.cat([hits[:50], 0.98 * hits[:50] + 1e-3 * torch.randn_like(hits[:50])])
    assert share_of_twins(kind.vectors(softer), vectors) > 0.5
    later = hits.roll(7, dims=2)
    other = kind.vectors(hits.roll(1, dims=0))
    assert ((kind.vectors(later) - vectors).norm(dim=1) < (other - vectors).norm(dim=1)).float().mean() > 0.95


# ------------------------------------------------------------------------------------------------ scores


def test_the_packed_classifier_knows_the_drums() -> None:
    extractor = sounds.DrumsExtractor()
    drums = Drums(speeds=1).training()
    hits = drums.images(0, 105)
    extractor.see(Wave(rate=8000.0))
    features, logits = extractor.extract(hits)
    assert (features.shape, logits.shape) == ((105, 64), (105, 6))
    assert (logits.argmax(1) == drums.labels).float().mean() > 0.9
    assert features.square().mean() == pytest.approx(1, abs=0.2)
    extractor.see(Wave(rate=16_000.0))
    double = Drums(speeds=1, rate=16_000, length=8192).training().images(0, 105)
    again = extractor.extract(double)[0]
    assert ((features - again).norm(dim=1) / features.norm(dim=1)).median() < 0.15, "the rate is heard"
    assert sounds.DRUMS_WEIGHTS.stat().st_size < 200_000


def test_scores_of_sounds_are_called_fad_and_order_the_damage() -> None:
    cfg = compose(Path("r"), "model=wavegan", "data.speeds=1", "metrics.num_fake=105", "metrics.scores=[fid,kid]")
    evaluator, data = build.make(cfg.metrics), build.make(cfg.data)
    real = evaluator.real(data)
    found = []
    for noise in (0.0, 0.01, 0.1):
        hits = sound.to_float(data.training().images(0, 105))
        worse = hits + noise * torch.randn(hits.shape, generator=torch.Generator().manual_seed(0))
        chunk = lambda index, n, of=worse: of[index * 500 : index * 500 + n]  # noqa: E731
        found.append(evaluator.evaluate(chunk, real, "cpu", ema=True))
    assert list(found[0]) == ["fad_drums", "kid_drums"]
    values = [float(scores["fad_drums"]) for scores in found]
    assert abs(values[0]) < 1e-4 < values[1] < values[2]
    passport = found[0]["fad_drums"].passport
    assert (passport["extractor"], passport["quantisation"]) == ("drums", "int16, to the nearest step")
    assert not names.higher_is_better("fad_drums")
    assert names.class_of("intra_fad_drums") is names.class_of("fid")


def test_auto_takes_what_hears_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cfg = compose(tmp_path / "r", "model=wavegan", "data=waves", f"data.root={tmp_path}", "metrics=auto")
    assert scoring.settled(cfg)[0].metrics.extractor._target_.endswith("DrumsExtractor")
    weights = sounds._cached()
    weights.parent.mkdir(parents=True)
    torch.save({"features.0.weight": torch.zeros(1)}, weights)
    assert scoring.settled(cfg)[0].metrics.extractor._target_.endswith("VGGishExtractor")
    with pytest.raises(ConfigError, match="does not hold torchvggish's VGGish: fetch https://"):
        sounds.VGGishExtractor()
    with pytest.raises(ConfigError, match=r"metrics\.extractor\.weights=gone is not a file: fetch https://"):
        sounds.VGGishExtractor("gone")


def test_vggish_takes_the_file_of_torchvggish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds.VGGish, "hidden", 8)
    torch.manual_seed(0)
    net = sounds.VGGish()
    assert [name for name in net.state_dict() if name.endswith("weight")] == [
        *(f"features.{index}.weight" for index in (0, 3, 6, 8, 11, 13)),
        *(f"embeddings.{index}.weight" for index in (0, 2, 4)),
    ]
    torch.save(net.state_dict(), tmp_path / "w.pth")
    extractor = sounds.VGGishExtractor(str(tmp_path / "w.pth"))
    extractor.see(Wave(rate=16_000.0))
    features, logits = extractor.extract(sound.to_int16(torch.randn(2, 1, 32_000) / 5))
    assert (features.shape, logits.shape) == ((2, 128), (2, 0))
    assert not torch.allclose(features[0], features[1])


# ------------------------------------------------------------------------------------------------ in other programs


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_an_exported_generator_gives_the_sounds_of_the_run(suffix: str, tmp_path: Path) -> None:
    cfg = small(
        tmp_path / "run", "wavegan_conditional", "images=4", "data.length=64", "data.channels=2", "data.speeds=1"
    )
    model: Any = train(cfg, every=4)
    Path(cfg.output, "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        form = {"onnx": "onnx", "pt2": "torch"}[suffix]
        words = [f"run={cfg.output}", f"format={form}", f"out={tmp_path / f'g.{suffix}'}"]
        export.export(hydra.compose("export", words))
    opened = gx.load(tmp_path / f"g.{suffix}", trust="torch.export")
    made = torch.as_tensor(opened.sample(3, seed=5, label=[0, 1, 2], form="tensor"))
    assert made.shape == (3, 2, 64)
    wanted = model.sample(model.fixed_noise(3, 5), True, torch.arange(3))
    assert (made - wanted).abs().max() < 1e-5
    assert opened.kind == Wave(rate=8000.0)


def test_a_classifier_of_ones_own_sounds_scores_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, hertz in (("high", 2000), ("low", 200)):
        for index in range(15):
            write(tmp_path / "set" / name / f"{index}.wav", sine(hertz * rng.uniform(0.7, 1.4), 0.1))
    words = ["--out", str(tmp_path / "own.pt"), "--rate", str(RATE), "--length", "800", "--epochs", "40"]
    assert train_sounds.main([str(tmp_path / "set"), *words]) == 0
    assert "held out: " in capsys.readouterr().out
    asked = compose(
        tmp_path, "model=wavegan_conditional", "metrics=sounds", f"metrics.extractor.weights={tmp_path}/own.pt"
    )
    judge = build.make(asked.metrics, num_fake=30, batch_size=10)
    data = waves(tmp_path / "set", classes=2, length=800)
    judge.see_as(data.kind)
    assert (judge.extractor.class_names, judge.extractor.heard_at) == (("high", "low"), RATE)
    found = stored.stored(str(tmp_path / "set"), "fake", data.kind)
    scores = judge.measure(subjects._Stored(found, 10), judge.real(data), Request("cpu", ema=None)).scores
    tag = judge.extractor.weights_hash[:8]
    assert scores[f"accuracy_sounds_{tag}"].value > 0.9
    assert scores[f"fad_sounds_{tag}"].value < 0.5
    assert train_sounds.main([str(tmp_path / "set" / "high"), *words]) == 2
    assert "give each a subfolder" in capsys.readouterr().err
    for given, said in (("null", "needs a classifier of your sounds"), (f"{tmp_path}/no.pt", "is not a file")):
        with pytest.raises(ConfigError, match=f"{said}.*train_sounds FOLDER` makes one"):
            sounds.OwnSoundsExtractor(None if given == "null" else given)
    torch.save({"rate": 8000}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="holds no classifier of sounds"):
        sounds.OwnSoundsExtractor(str(tmp_path / "other.pt"))


def test_folders_of_sounds_are_scored_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a" / "x" / "1.wav", sine(300, 0.2, 16_000), 16_000)
    write(tmp_path / "a" / "y" / "2.wav", sine(300, 0.3))
    write(tmp_path / "a" / "y" / "3.wav", np.zeros(1600))
    (tmp_path / "a" / "y" / "notes.txt").write_text("no sound")
    found = stored.stored(str(tmp_path / "a"), "fake", Wave)
    assert isinstance(found, stored.StoredWaves)
    assert (len(found), found.rate, found.class_names) == (3, 16_000, ["x", "y"])
    assert [one.shape for one in found.images(0, 3)] == [(1, 3200), (1, 4800), (1, 3200)]
    assert level(sound.to_float(found.images(1, 2))[0, 0, 800:4000], 300, 16_000) == pytest.approx(0.5, abs=0.01)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 1]
    assert "notes.txt" in caplog.text
    assert stored.stored(str(tmp_path / "a"), "real", Wave(rate=8000.0)).images(0, 1).shape == (1, 1, 1600)
    with pytest.raises(ConfigError, match="points of the plane are scored by run= alone"):
        stored.stored(str(tmp_path), "fake", kinds.Points)


@pytest.mark.parametrize(("window", "looks"), [("first", True), ("random", False)])
def test_copies_of_sounds_are_found(window: str, looks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        write(tmp_path / "set" / f"{index}.wav", sine(150 * (index + 1), 0.2))
    words = [
        "data=waves",
        f"data.root={tmp_path}/set",
        f"data.rate={RATE}",
        "data.length=1024",
        f"data.window={window}",
    ]
    cfg = small(tmp_path / "run", "wavegan", "images=4", *words)
    real = build.open_data(cfg.data).fixed(5)["real"]
    quiet = 0.5 * real
    monkeypatch.setattr(WGANGP, "sampler", lambda *_: lambda index, n: quiet[(64 * index + torch.arange(n)) % 5])
    looking = Memorisation(str(tmp_path / "run"), n=20)
    train(cfg, extra=[looking])
    assert looking.path.exists() == looks
    if looks:
        assert looking.found is not None
        assert looking.found.copies == 1


def test_a_page_plays_what_lies_beside_a_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "run" / "samples" / "00000064.png"
    write(sheet.with_suffix(".wav"), sine(300, 0.1))
    sheet.with_suffix(".gif").write_bytes(b"GIF89a")
    found = page.players(sheet, tmp_path)
    assert [one["tag"] for one in found] == ["img", "audio"]
    played = page._environment().get_template("parts.html").module.players(found)  # type: ignore[attr-defined]
    assert '<audio controls preload="none" src="run/samples/00000064.wav"></audio>' in played
    assert 'src="run/samples/00000064.gif"' in played
    assert page.players(tmp_path / "other.png", tmp_path) == []
