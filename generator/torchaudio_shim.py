"""torchaudio, importable beside a CPU-only torch.

The Linux wheel of torchaudio 2.11 links CUDA's runtime, so its native extension dies at import where torch has no
CUDA. Nothing that Bardcast uses of torchaudio is native, so the extension is declared absent before the first
import. Everything else imports torchaudio from here.
"""

import sys
from types import ModuleType

import torch

if torch.version.cuda is None and "torchaudio" not in sys.modules:
    _absent = ModuleType("torchaudio._extension")
    _absent._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    _absent._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    _absent.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = _absent

import torchaudio  # only now can it be imported

__all__ = ["torchaudio"]
