"""A course out of the notebooks: what an exercise is worth, versions for students and for nbgrader, and grading.

``python -m bra.checks SUBMISSION`` grades notebooks that were handed in; ``python -m bra.course`` makes what is handed
out.
"""
