"""minidiff: every editor is the same reverse process; they differ only in what says what must not change."""

# ruff: noqa: I001, in reading order
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.sample import State, clamped, heun, sample
from minidiff.process.guidance import cfg, drop_conditions, dual_cfg, guided, rescaled_cfg
from minidiff.denoisers.exact import FiniteSet, Gaussian
from minidiff.control.repaint import repaint, repaint_path, repaint_step
from minidiff.control.outpaint import outpaint_canvas, windowed
from minidiff.control.inpaint import inpaint, inpaint_step, pin_x0
from minidiff.control.instruct import instruct, instruct_step
from minidiff.control.restart import ddim_invert, sdedit
from minidiff.control.attention import prompt_to_prompt
from minidiff.editor import Editor

__all__ = [
    "DDPM", "Flow", "State", "sample", "clamped", "heun",
    "cfg", "dual_cfg", "rescaled_cfg", "guided", "drop_conditions",
    "FiniteSet", "Gaussian",
    "repaint", "repaint_path", "repaint_step", "outpaint_canvas", "windowed",
    "inpaint", "inpaint_step", "pin_x0", "instruct", "instruct_step", "sdedit", "ddim_invert",
    "prompt_to_prompt",
    "Editor",
]
