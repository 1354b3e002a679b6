"""Did it work, and what else changed? Pure functions of pictures, masks, samples: no network judges."""

from minidiff.measure.distribution import gaussian_wasserstein2, total_variation
from minidiff.measure.drift import Drift, drift
from minidiff.measure.intervals import Interval, bootstrap, student
from minidiff.measure.null import harmonic_fill
from minidiff.measure.preservation import Preservation, preservation, survival
from minidiff.measure.quality import psnr, ssim
from minidiff.measure.seam import seam
from minidiff.measure.truth import strict_success, strict_success_global, success, truth_psnr

__all__ = ["Drift", "Interval", "Preservation", "bootstrap", "drift", "gaussian_wasserstein2",
           "harmonic_fill", "preservation", "psnr", "seam", "ssim", "strict_success", "strict_success_global",
           "student", "success", "survival", "total_variation", "truth_psnr"]
