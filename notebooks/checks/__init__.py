"""Checks for the exercises: they say which mistake was made, since "wrong" alone teaches nothing.

One module a notebook, with a check_* for each exercise: tour.py is for 00, noise.py for 01, unet.py for 02,
repaint.py for 03, guidance.py for 04, restart.py for 05, masked.py for 06, instruct.py for 07, spatial.py for
08, flow.py for 09, dit.py for 10, latents.py for 11, context.py for 12. In the folder of the notebooks,
`python -m checks FOLDER` marks notebooks that were handed in, `python -m checks.student` writes the notebooks
without solutions, `python -m checks.refresh` stores their outputs anew.
"""
