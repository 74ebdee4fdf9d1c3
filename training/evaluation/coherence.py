"""Whether sound hangs together as music: beat, tempo, key, repetition, notes. Numbers that need no model to judge.

Each figure is 0 for silence and for what is too short, near 0 for noise, and says nothing without the same figure of
real music beside it: real music may be ambient, too. The five are made so that a fault in one leaves the others alone.
Compare excerpts of one length; 40 s is best.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.config import BARD
from training.evaluation.excerpts import Excerpt, Sound
from training.evaluation.spectra import BANDS, FRAMES_PER_SECOND, amplitude_mel, amplitude_spectra, moving_mean
from training.manifest import SAMPLE_RATE

Values = NDArray[np.float64]

LEAST_SECONDS: Final = 10.0  #: for tempo and repetition; beat, key and notes need half a window of theirs

_RANGE_DB: Final = 60.0  #: what is quieter than the loudest by more than this plays no part
_MEL_FLOOR: Final = 1e-4

# Onsets
_ONSET_SPAN: Final = 2  #: frames over which a rise counts
_ONSET_DB: Final = 0.6  #: rise, averaged over all bands, above what is usual around it; white noise has none
_ONSET_APART: Final = 5  #: frames: 50 ms, as close as two notes are told apart
_USUAL: Final = 81  #: frames over which what is usual is averaged

# Tempogram
_PULSE_WINDOW: Final = 4 * FRAMES_PER_SECOND
_PULSE_LAGS: Final = (FRAMES_PER_SECOND // 4, 6 * FRAMES_PER_SECOND // 5)  #: 240 to 50 beats a minute
_TEMPO_WINDOW: Final = 6 * FRAMES_PER_SECOND
_TEMPO_LAGS: Final = (FRAMES_PER_SECOND, 3 * FRAMES_PER_SECOND)  #: some beats ahead, where a wandering tempo shows
_TEMPOGRAM_STEP: Final = FRAMES_PER_SECOND
_LEAST_FLUX_DB: Final = 0.05  #: deviation of an onset curve that is worth an autocorrelation: a drone's is a tenth
_LEAST_PULSE: Final = 0.1  #: autocorrelation by chance, about that of noise

# Chroma
_COLUMN: Final = BARD.mel.hop * 8  #: samples: 80 ms
_COLUMNS_PER_SECOND: Final = SAMPLE_RATE / _COLUMN
_CHROMA_FFT: Final = 8_192
_CHROMA_HZ: Final = (80, 2_500)
_PARTIAL_DB: Final = 40.0  #: below the loudest of its column; what is quieter is no partial
_KEY_COLUMNS: Final = 62  #: 5 s
_LEAST_CHROMA: Final = 0.05  #: unevenness of a mean chroma, as a distance; noise has 0.06, music 0.1 to 0.3

#: How often each degree is heard in major and in minor: Temperley, "Music and Probability", MIT Press 2007, chapter 6
#: (of the Kostka-Payne corpus).
_PROFILES: Final = np.array(
    [
        [0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400],
        [0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330],
    ]
)

# Repetition
_SHORTEST_LAG: Final = 4.0  #: seconds
_LONGEST_LAG: Final = 30.0
_SMOOTH: Final = 3  #: columns, a quarter of a second, so that tempo need not be exact
_DRIFT: Final = 125  #: columns, 10 s: slower changes are swells and no repetition
_BAR: Final = 25  #: columns, 2 s: what is shuffled to learn how alike its parts are by chance
_SHUFFLES: Final = 4
_TIMBRES: Final = 12  #: cosine coefficients of the log-Mel, without the first, which is loudness
_LEAST_TIMBRE_CHANGE: Final = 1.0  #: dB by which a coefficient deviates, or it does not change to speak of
_LEAST_TIMBRE_VARIANCE: Final = 1.0  #: of all twelve, each then relative to its own deviation
_LEAST_CHROMA_VARIANCE: Final = 0.02  #: music has 0.07 to 0.4


@dataclass(frozen=True, slots=True)
class Coherence:
    """How one excerpt hangs together.

    Attributes:
        beat: 0 to 1, how clear a pulse is: the highest autocorrelation of the onset curve between 240 and 50 beats a
            minute, in windows of 4 s (pulse clarity: Lartillot et al., ISMIR 2008); 0.15 for noise.
        steadiness: 0 to 0.91, how much of the pulse remains if one tempo must serve the whole excerpt; 0.2 for noise.
        key: 0 to about 0.7, how well the best of 24 keys fits, on average over stretches of 5 s, each for itself:
            correlation with Temperley's profiles, less where the chroma is even; 0.16 for noise. A drone has a key.
        repetition: 0 to 1, how alike chroma and timbre are to what they were 4 to 30 s before, at the lag where they
            are most alike, above what they are when the excerpt's own bars are shuffled; 0 for noise and drones.
        density: onsets a second.
    """

    beat: float
    steadiness: float
    key: float
    repetition: float
    density: float


def measure(excerpt: Excerpt) -> Coherence:
    """All five, of an excerpt of 10 s or more; of a shorter one, what can be had."""
    sound = excerpt.heard
    decibels = _mel_decibels(sound)
    flux = _flux(decibels)
    chroma = _chroma(sound)
    whole = excerpt.seconds >= LEAST_SECONDS
    return Coherence(
        beat=_beat(flux),
        steadiness=_steadiness(flux) if whole else 0.0,
        key=_key(chroma),
        repetition=_repetition(chroma, decibels) if whole else 0.0,
        density=_onsets(flux) / excerpt.seconds if len(sound) else 0.0,
    )


def _mel_decibels(sound: Sound) -> Values:
    """[bands, frames], nothing below ``_RANGE_DB`` under its loudest."""
    mel = amplitude_mel(sound).astype(np.float64)
    loudest = max(float(np.percentile(mel.max(axis=0), 95)), _MEL_FLOOR)
    decibels: Values = 20 * np.log10(np.maximum(mel, loudest * 10 ** (-_RANGE_DB / 20)))
    return decibels


def _flux(decibels: Values) -> Values:
    """The onset curve: mean rise of the bands over 20 ms, dB by frame.

    A band is held against the loudest of itself and its neighbours, so that a vibrato is no onset (SuperFlux: Böck and
    Widmer, DAFx 2013, section 3).
    """
    before = decibels[:, :-_ONSET_SPAN]
    held = np.pad(before, ((1, 1), (0, 0)), "edge")
    loudest = np.maximum(before, np.maximum(held[:-2], held[2:]))
    rise = np.maximum(decibels[:, _ONSET_SPAN:] - loudest, 0).mean(axis=0)
    return np.pad(rise, (_ONSET_SPAN, 0))


def _onsets(flux: Values) -> int:
    """How many notes, or notes together, begin."""
    smooth = np.convolve(flux, (0.25, 0.5, 0.25), "same")
    around = np.lib.stride_tricks.sliding_window_view(np.pad(smooth, _ONSET_APART), 2 * _ONSET_APART + 1).max(axis=1)
    return int(((smooth == around) & (smooth > moving_mean(smooth, _USUAL) + _ONSET_DB)).sum())


def _tempogram(flux: Values, window: int, longest: int) -> Values:
    """Autocorrelation of the onset curve in windows 1 s apart, [windows, lags]; no row if there is no whole window."""
    if len(flux) < window:
        return np.zeros((0, longest + 1))
    hann = np.hanning(9)[1:-1]
    curve = np.convolve(flux - moving_mean(flux, FRAMES_PER_SECOND), hann / hann.sum(), "same")
    parts = np.lib.stride_tricks.sliding_window_view(curve, window)[::_TEMPOGRAM_STEP]
    parts = parts - parts.mean(axis=1, keepdims=True)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(parts, 2 * window)) ** 2)[:, : longest + 1]
    unbiased = correlation * window / (window - np.arange(longest + 1))
    return unbiased / (correlation[:, :1] + _LEAST_FLUX_DB**2 * window)


def _beat(flux: Values) -> float:
    shortest, longest = _PULSE_LAGS
    tempogram = _tempogram(flux, _PULSE_WINDOW, longest + 1)
    if not len(tempogram):
        return 0.0
    inner = tempogram[:, shortest : longest + 1]
    crest = (inner >= tempogram[:, shortest - 1 : longest]) & (inner >= tempogram[:, shortest + 1 :])
    return float(np.median(np.where(crest, np.maximum(inner, 0), 0).max(axis=1)))


def _steadiness(flux: Values) -> float:
    shortest, longest = _TEMPO_LAGS
    inner = _tempogram(flux, _TEMPO_WINDOW, longest)[:, shortest:]
    return max(0.0, float(inner.mean(axis=0).max() / (max(0.0, inner.max(axis=1).mean()) + _LEAST_PULSE)))


def _chroma(sound: Sound) -> Values:
    """Pitch classes of the partials, [columns, 12], at the sound's own tuning; louder columns count more.

    Peaks of the spectrum are placed between the bins (a parabola through the logarithms) and told to pitch classes as
    in Gómez, "Tonal description of polyphonic audio", 2006: within ± half a semitone, by cos².
    """
    low, high = (round(hertz * _CHROMA_FFT / SAMPLE_RATE) for hertz in _CHROMA_HZ)
    spectra = amplitude_spectra(sound, _CHROMA_FFT, _COLUMN)[:, low - 1 : high + 1].astype(np.float64)
    left, middle, right = spectra[:, :-2], spectra[:, 1:-1], spectra[:, 2:]
    loudest = middle.max(axis=1, keepdims=True)
    least = np.maximum(loudest * 10 ** (-_PARTIAL_DB / 20), max(float(loudest.max()) * 10 ** (-_RANGE_DB / 20), 1e-6))
    partial = (middle > left) & (middle >= right) & (middle > least)
    column, place = np.nonzero(partial)
    before, at, after = (np.log(np.maximum(side[partial], 1e-12)) for side in (left, middle, right))
    offset = 0.5 * (before - after) / np.minimum(before - 2 * at + after, -1e-9)
    semitones = 12 * np.log2((low + place + np.clip(offset, -0.5, 0.5)) * SAMPLE_RATE / _CHROMA_FFT / 440.0) + 9
    weight = np.sqrt(middle[partial])
    tuned = semitones - np.angle(np.sum(weight * np.exp(2j * np.pi * semitones))) / (2 * np.pi)
    nearest = np.round(tuned)
    weight *= np.cos(np.pi * (tuned - nearest)) ** 2
    cells = column * 12 + nearest.astype(int) % 12
    chroma: Values = np.bincount(cells, weight, len(spectra) * 12).reshape(-1, 12).astype(np.float64)
    return chroma


def _key(chroma: Values) -> float:
    profiles = _PROFILES - _PROFILES.mean(axis=1, keepdims=True)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    keys = np.concatenate([[np.roll(profile, tonic) for tonic in range(12)] for profile in profiles])
    starts = np.arange(max(1, len(chroma) // _KEY_COLUMNS)) * _KEY_COLUMNS
    stretches = np.add.reduceat(chroma, starts, axis=0)
    shares = stretches / np.maximum(stretches.sum(axis=1, keepdims=True), 1e-9)
    uneven = shares - shares.mean(axis=1, keepdims=True)
    fits = (uneven / (np.linalg.norm(uneven, axis=1, keepdims=True) + _LEAST_CHROMA)) @ keys.T
    return max(0.0, float(fits.mean(axis=0).max()))


def _repetition(chroma: Values, decibels: Values) -> float:
    lengths = np.linalg.norm(chroma, axis=1, keepdims=True)
    pitches = chroma / (lengths + 0.05 * lengths.max() + 1e-9)
    frames_per_column = _COLUMN // BARD.mel.hop
    columns = min(len(pitches), decibels.shape[1] // frames_per_column)
    levels = decibels[:, : columns * frames_per_column].reshape(BANDS, columns, frames_per_column).mean(axis=2)
    orders, places = np.arange(1, _TIMBRES + 1)[:, None], np.arange(BANDS) + 0.5
    cosines = np.sqrt(2) / BANDS * np.cos(np.pi / BANDS * orders * places)
    pitches, timbre = _centred(pitches[:columns]), _centred((cosines @ levels).T)
    timbre /= timbre.std(axis=0) + _LEAST_TIMBRE_CHANGE  # or the first would be all that counts

    def likeness(order: NDArray[np.int64]) -> float:
        of_pitches = _likeness(pitches[order], _LEAST_CHROMA_VARIANCE)
        return float((of_pitches + _likeness(timbre[order], _LEAST_TIMBRE_VARIANCE)).max()) / 2

    in_order = np.arange(columns)
    bars = np.array_split(in_order, max(1, columns // _BAR))
    random = np.random.default_rng(0)  # always the same shuffles: the figure is a function of the sound
    by_chance = [
        likeness(np.concatenate([bars[number] for number in random.permutation(len(bars))])) for _ in range(_SHUFFLES)
    ]
    return float(np.clip(likeness(in_order) - np.mean(by_chance), 0.0, 1.0))


def _centred(features: Values) -> Values:
    """[columns, any], smoothed over a quarter of a second, less their mean over 10 s: of a drone nothing is left."""
    smooth = moving_mean(features, _SMOOTH)
    return smooth - moving_mean(smooth, _DRIFT)


def _likeness(features: Values, least: float) -> Values:
    """How features, [columns, any], correlate with themselves at each lag from 4 to 30 s, over 4 s at the least."""
    count = len(features)
    shortest, longest = (round(lag * _COLUMNS_PER_SECOND) for lag in (_SHORTEST_LAG, _LONGEST_LAG))
    lags = np.arange(shortest, min(longest, count - shortest) + 1)
    products = np.fft.irfft((np.abs(np.fft.rfft(features, 2 * count, axis=0)) ** 2).sum(axis=1))[lags]
    power = np.concatenate(([0.0], np.cumsum(np.square(features).sum(axis=1))))
    earlier, later = power[count - lags], power[count] - power[lags]
    likeness: Values = products / (np.sqrt(earlier * later) + least * (count - lags))
    return likeness
