"""What changes a run from outside of its script: torch as installed, and environment variables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hookloop import discovery
from hookloop.arguments import ADD, REMOVE
from hookloop.errors import HookloopError, listed

#: Variables that change what a script does, what is true of a run then, and how to be without.
VARIABLES = {
    "OMP_NUM_THREADS": "torch computes with that many threads of the CPU",
    "MKL_NUM_THREADS": "torch's linear algebra uses that many threads of the CPU",
    "CUDA_VISIBLE_DEVICES": "no other GPUs are seen",
    "CUDA_LAUNCH_BLOCKING": "every step waits for the GPU",
    "NVIDIA_TF32_OVERRIDE": "it decides about TF32 in place of the script",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "products of float32 may be less precise (TF32)",
    "PYTORCH_ENABLE_MPS_FALLBACK": "what MPS cannot do runs on the CPU, slowly",
    "TORCHDYNAMO_DISABLE": "compile=True compiles nothing",
    "TORCH_COMPILE_DISABLE": "compile=True compiles nothing",
    "PYTHONOPTIMIZE": "the assertions of a script are skipped",
    "PYTHONWARNINGS": "it decides which warnings, hookloop's too, are shown or are errors",
    "PYTHONPATH": "modules there come before those that pip installed",
    "PYTEST_ADDOPTS": "tests, also those of hookloop check, run with these options",
    "PYTEST_PLUGINS": "tests, also those of hookloop check, load these plugins of pytest",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "tests run without installed plugins of pytest",
}
_UNSAFE, _SAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_ON = ("1", "y", "yes", "true")


@dataclass(frozen=True)
class Finding:
    """One thing to know about the environment.

    Attributes:
        about: ``"requirement"``, ``"plugin"``, ``"clash"``, ``"torch"`` or ``"environment"``.
        what: What is so, in a sentence.
        fix: What to do about it.
        broken: Whether something does not work because of it; otherwise it is only to be known.
    """

    about: str
    what: str
    fix: str
    broken: bool = True


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Find what environment variables do to every run."""
    yield from _callbacks(environment)
    yield from _loading(environment)
    if _number(environment.get("WORLD_SIZE", "1")) > 1:
        what = f"WORLD_SIZE={environment['WORLD_SIZE']}: Trainer refuses to be one of several."
        yield Finding("environment", what, "unset WORLD_SIZE, or start one process")
    for name, meaning in VARIABLES.items():
        if environment.get(name):
            what = f"{name}={environment[name]}: {meaning}."
            yield Finding("environment", what, f"unset {name}, unless you want that", broken=False)


def _callbacks(environment: Mapping[str, str]) -> Iterator[Finding]:
    from hookloop.selection import parse

    for item in _items(environment, ADD):
        try:
            reference, _ = parse(item.removeprefix("+"))
            if ":" not in reference:
                owner, slash, name = reference.rpartition("/")
                discovery.find(name, owner if slash else None)
        except HookloopError as error:
            sentence = str(error).partition("\nfix:")[0]
            fix = f"unset {ADD}, or {error.fix}"
            yield Finding("environment", f"{ADD} stops every run: {sentence}", fix)
        else:
            what = f"{ADD} adds {reference} to every run."  # settings may hold a password
            yield Finding("environment", what, f"unset {ADD}", broken=False)
    removed = _items(environment, REMOVE)
    if removed:
        what = f"{REMOVE} removes {listed(removed)} from every run that has it."
        yield Finding("environment", what, f"unset {REMOVE}", broken=False)


def _items(environment: Mapping[str, str], name: str) -> list[str]:
    return [one.strip() for one in environment.get(name, "").split(";") if one.strip()]


def _loading(environment: Mapping[str, str]) -> Iterator[Finding]:
    unsafe, safe = (environment.get(name, "").lower() in _ON for name in (_UNSAFE, _SAFE))
    if unsafe and safe:
        what = f"{_UNSAFE} and {_SAFE} are both set: torch.load refuses every file."
        yield Finding("environment", what, f"unset {_UNSAFE}")
    elif unsafe:
        what = (
            f"{_UNSAFE} is set: torch.load runs the code that a file holds, unless the caller "
            "says weights_only=True, as hookloop does."
        )
        yield Finding("environment", what, f"unset {_UNSAFE}", broken=False)


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 1


# -- torch ---------------------------------------------------------------------------------


def look_at_torch() -> dict[str, Any]:
    """Import torch and use every device once.

    Returns:
        ``seen``: ``version``, ``built_for``, ``devices``; and ``findings``.
    """
    try:
        import torch
    except Exception as error:
        what = f"torch cannot be imported: {type(error).__name__}: {error}"
        fix = "install torch anew, with the line that its own page gives for this machine"
        return {"seen": {}, "findings": [asdict(Finding("torch", what, fix))]}
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    built = f"ROCm {torch.version.hip}" if getattr(torch.version, "hip", None) else built
    devices, findings = _devices(built)
    seen = {"version": str(torch.__version__), "built_for": built, "devices": devices}
    return {"seen": seen, "findings": [asdict(finding) for finding in findings]}


def _devices(built: str) -> tuple[list[str], list[Finding]]:
    import torch

    findings = []
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if built != "the CPU" and not names:
        what = f"torch is built for {built}, and sees no GPU: training runs on the CPU."
        fix = "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or install torch for the CPU"
        findings.append(Finding("torch", what, fix, broken=False))
    names += ["mps"] if torch.backends.mps.is_available() else []
    shown = []
    for name in names:
        title = torch.cuda.get_device_name(name) if name != "mps" else "Apple"
        shown.append(f"{name} ({title})")
        try:
            (torch.ones(2, 2, device=name) @ torch.ones(2, 2, device=name)).sum().item()
        except Exception as error:
            what = f"{name} ({title}) computes nothing: {type(error).__name__}: {error}"
            fix = f"update its driver, or install a torch that is not built for {built}"
            findings.append(Finding("torch", what, fix))
    return shown, findings


def main(asked: str) -> None:
    """Be the process of its own: answer on standard output, which nobody else can reach."""
    answer = os.dup(1)
    os.dup2(2, 1)
    told = look_at_torch() if asked == "torch" else {}
    os.write(answer, json.dumps(told).encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
