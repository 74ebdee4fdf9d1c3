"""What else makes music from scratch and can be had by anyone, built from its libraries' own classes at its own sizes.

Weights are random: nothing is downloaded, and speed does not depend on them. Left out, in favour of these peers, is
what the two that paint spectrograms need beside: the inversion to sound, and Riffusion's text encoder.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor, nn

# transformers imports torchaudio, which beside a torch without CUDA must be imported this way first.
import generator.torchaudio_shim  # noqa: F401

LIBRARIES: Final = ("diffusers", "transformers")
PROMPT_TOKENS: Final = 16  #: a sentence
DENOISING_STEPS: Final = 50

#: https://huggingface.co/facebook/musicgen-small; Copet et al. 2023 (arXiv:2306.05284): four codebooks at 50 Hz, and
#: classifier-free guidance of 3.
MUSICGEN: Final[Mapping[str, Any]] = {
    "vocab_size": 2048,
    "hidden_size": 1024,
    "ffn_dim": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
MUSICGEN_GUIDANCE: Final = 3.0
CODEBOOKS: Final = 4
#: The encoder of its prompts: https://huggingface.co/google-t5/t5-base
T5_BASE: Final[Mapping[str, Any]] = {
    "vocab_size": 32_128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "num_layers": 12,
    "num_heads": 12,
}
#: https://huggingface.co/facebook/encodec_32khz
ENCODEC: Final[Mapping[str, Any]] = {
    "sampling_rate": 32_000,
    "upsampling_ratios": [8, 5, 4, 4],
    "num_filters": 64,
    "codebook_size": 2048,
    "target_bandwidths": [2.2],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
#: Stable Diffusion 1.5, of which Riffusion is a fine-tuned one: https://huggingface.co/riffusion/riffusion-model-v1
RIFFUSION: Final[Mapping[str, Any]] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
RIFFUSION_DECODER: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
RIFFUSION_GUIDANCE: Final = 7.0
RIFFUSION_SECONDS: Final = 5.12  #: 512 columns, 10 ms each
#: https://huggingface.co/teticio/audio-diffusion-ddim-256
AUDIO_DIFFUSION: Final[Mapping[str, Any]] = {
    "sample_size": 256,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 2,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
    "attention_head_dim": 8,
}
AUDIO_DIFFUSION_SECONDS: Final = 256 * 512 / 22_050  #: 256 columns, a hop of 512 at 22.05 kHz: 5.9 s


@dataclass(frozen=True)
class Part:
    """One network of a peer.

    Attributes:
        name: for what it does.
        module: what is computed; all its parameters count.
        work: what it does, once.
        times: how often it does it for one piece of music.
        trial: less of the same work, by which forms of the module are compared.
        images: whether it is a network of 2-D convolutions, which may like channels last.
    """

    name: str
    module: nn.Module
    work: Callable[[], object]
    times: int
    trial: Callable[[], object]
    images: bool


@dataclass(frozen=True)
class Peer:
    """A model that makes music.

    Attributes:
        name: its authors'.
        library: whose classes it is built from.
        steps: of its sampler for one piece, as its authors recommend.
        seconds: length of one piece.
        parts: of which one piece is made.
    """

    name: str
    library: str
    steps: int
    seconds: float
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Of all that plays."""
        return sum(p.numel() for part in self.parts for p in part.module.parameters())


def need_libraries() -> None:
    """Say so if what the peers are built from is not there."""
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise SystemExit(f'the peers are built from {" and ".join(missing)}: run pip install -e ".[peers]" first')


class _Aside(nn.Module):
    """Stands where MusicGen has its codec, which decodes apart from it and in a form of its own."""

    def decode(self, codes: Tensor, **_: object) -> SimpleNamespace:
        """The codes themselves."""
        return SimpleNamespace(audio_values=codes)


def musicgen(
    device: torch.device,
    seconds: float,
    sizes: Mapping[str, Any] = MUSICGEN,
    text_sizes: Mapping[str, Any] = T5_BASE,
    codec_sizes: Mapping[str, Any] = ENCODEC,
) -> Peer:
    """MusicGen-small with EnCodec's decoder: as many seconds as are asked for, by its own ``generate``.

    A token costs the more the more stand before it, so all are sampled and none reckoned.
    """
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    start = sizes["vocab_size"]  # the one token beyond the codes stands for the beginning and for padding
    config = MusicgenConfig(
        text_encoder=T5Config(**text_sizes),
        audio_encoder=EncodecConfig(**codec_sizes),
        decoder=MusicgenDecoderConfig(**sizes, pad_token_id=start, bos_token_id=start),
    )
    model = MusicgenForConditionalGeneration(config).to(device).eval()
    codec, model.audio_encoder = model.audio_encoder, _Aside()
    del codec.encoder  # only decodes here
    rate = codec.config.frame_rate
    frames = round(seconds * rate)
    prompt = torch.randint(text_sizes["vocab_size"], (1, PROMPT_TOKENS), device=device)
    codes = torch.randint(codec_sizes["codebook_size"], (1, 1, CODEBOOKS, frames), device=device)

    def sample(frames: int) -> object:
        return model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            decoder_start_token_id=start,
            do_sample=True,
            guidance_scale=MUSICGEN_GUIDANCE,
            # Each codebook lags one step behind the last (the paper's delay pattern), so the last ends later.
            max_new_tokens=frames + CODEBOOKS - 1,
        )

    def decode(codes: Tensor) -> object:
        return codec.decode(codes, [None])

    return Peer(
        "MusicGen-small",
        "transformers",
        frames + CODEBOOKS - 1,
        frames / rate,
        (
            Part("tokens", model, lambda: sample(frames), 1, lambda: sample(min(frames, rate)), images=False),
            Part("EnCodec", codec, lambda: decode(codes), 1, lambda: decode(codes[..., :rate]), images=False),
        ),
    )


def riffusion(
    device: torch.device,
    sizes: Mapping[str, Any] = RIFFUSION,
    decoder_sizes: Mapping[str, Any] = RIFFUSION_DECODER,
) -> Peer:
    """Riffusion: Stable Diffusion 1.5 over spectrograms of 512 × 512, from noise.

    50 steps and a guidance of 7 are the defaults of its server (``riffusion/datatypes.py`` in its authors' repository).
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.utils import logging

    logging.set_verbosity_error()
    unet = UNet2DConditionModel(**sizes).to(device).eval()
    levels = len(decoder_sizes["block_out_channels"])
    vae = AutoencoderKL(
        **decoder_sizes,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    del vae.encoder, vae.quant_conv  # only decodes here
    vae = vae.to(device).eval()
    side = sizes["sample_size"]
    latents = torch.randn(1, decoder_sizes["latent_channels"], side, side, device=device)
    prompts = torch.randn(2, 77, sizes["cross_attention_dim"], device=device)  # CLIP's 77 places; one is empty

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        both = _like(unet, x.repeat(2, 1, 1, 1))
        empty, prompted = unet(both, t, encoder_hidden_states=_like(unet, prompts)).sample.chunk(2)
        return Tensor(empty + RIFFUSION_GUIDANCE * (prompted - empty))

    def decode() -> object:
        return vae.decode(_like(vae, latents)).sample

    step = _stepper(denoise, latents)
    return Peer(
        "Riffusion",
        "diffusers",
        DENOISING_STEPS,
        RIFFUSION_SECONDS,
        (
            Part("UNet", unet, step, DENOISING_STEPS, step, images=True),
            Part("VAE", vae, decode, 1, decode, images=True),
        ),
    )


def audio_diffusion(device: torch.device, sizes: Mapping[str, Any] = AUDIO_DIFFUSION) -> Peer:
    """Teticio's audio-diffusion: DDIM over Mel spectrograms of 256 × 256, without a text.

    50 steps are what its pipeline calls recommended for DDIM (``get_default_steps``).
    """
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    logging.set_verbosity_error()
    unet = UNet2DModel(**sizes).to(device).eval()
    image = torch.randn(1, sizes["in_channels"], sizes["sample_size"], sizes["sample_size"], device=device)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return Tensor(unet(_like(unet, x), t).sample)

    step = _stepper(denoise, image)
    return Peer(
        "audio-diffusion",
        "diffusers",
        DENOISING_STEPS,
        AUDIO_DIFFUSION_SECONDS,
        (Part("UNet", unet, step, DENOISING_STEPS, step, images=True),),
    )


def _stepper(denoise: Callable[[Tensor, Tensor], Tensor], noisy: Tensor) -> Callable[[], object]:
    """One step of DDIM at a call. Each begins at the same noise: what random weights make of it would run away."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler()
    scheduler.set_timesteps(DENOISING_STEPS)
    times = itertools.cycle(scheduler.timesteps)

    def step() -> object:
        t = next(times)
        return scheduler.step(denoise(noisy, t), t, noisy).prev_sample

    return step


def _like(module: nn.Module, tensor: Tensor) -> Tensor:
    """The tensor in the precision of the module's weights."""
    return tensor.to(next(module.parameters()).dtype)
