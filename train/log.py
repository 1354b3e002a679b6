"""The log of a training: one JSON line every so many steps, with the loss at each noise level."""

import json
from math import isfinite
from pathlib import Path

import torch

BINS = 10                                                       # level 0..1 in tenths


class TrainingError(ValueError):
    """The training cannot go on; the last good checkpoint is kept."""


class Log:
    """Sums of losses since the last line, on the training device, so that no step waits for a number."""

    def __init__(self, folder, state, place):
        self.path, self.place = Path(folder) / "log.jsonl", place
        self.start(state)
        if place.first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
            self.path.write_text("".join(line for line in lines if is_before(line, state.step)))

    def start(self, state):
        """Begin a new line's sums."""
        device = self.place.device
        self.loss, self.count = torch.zeros(BINS, device=device), torch.zeros(BINS, device=device)
        self.norm, self.waited = torch.zeros((), device=device), 0.0
        self.step, self.seconds = state.step, state.seconds

    def add(self, losses, levels, norm, waited):
        """Take in one step: losses, levels (B,), gradient norm (), seconds that its batches took to make."""
        tenth = (levels.to(self.loss.device) * BINS).long().clamp(0, BINS - 1)
        self.loss.index_add_(0, tenth, losses.float())
        self.count.index_add_(0, tenth, torch.ones_like(losses, dtype=torch.float32))
        self.norm += norm
        self.waited += waited

    def check(self, state):
        """Raise TrainingError if a loss or gradient since the last line was not finite."""
        loss, norm = float(self.loss.sum()), float(self.norm)
        if not isfinite(loss + norm):
            where = f"in steps {self.step + 1} to {state.step}"
            advice = "in another --folder, try a lower --learning-rate"
            hint = f"the last good checkpoint is kept in {self.path.parent}; {advice}"
            raise TrainingError(f"loss {loss}, gradient {norm} {where}: finite numbers expected\n{hint}")

    def write(self, state, rate):
        """Append a line, begin the next, and return its chief numbers for the progress bar."""
        self.check(state)
        pictures = float(self.count.sum()) * self.place.world
        seconds = max(state.seconds - self.seconds, 1e-9)
        line = {
            "step": state.step, "seconds": round(state.seconds, 1),
            "loss": float(self.loss.sum() / self.count.sum()),
            "loss_by_level": [round(value, 6) for value in (self.loss / self.count).nan_to_num(-1).tolist()],
            "gradient": float(self.norm) / (state.step - self.step), "learning_rate": rate,
            "pictures_per_second": round(pictures / seconds, 1),
            "share_making_batches": round(self.waited / seconds, 3)}
        if self.place.first:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        self.start(state)
        return {"loss": f"{line['loss']:.4f}", "pictures/s": line["pictures_per_second"]}


def is_before(line, step):
    """Was this line of a log written at or before `step`? A line cut short by a kill was not."""
    try:
        return json.loads(line)["step"] <= step
    except ValueError:
        return False
