"""A course out of the notebooks: what an exercise is worth, what is handed out, and grading.

``python -m bra.course`` makes versions for students, for instructors and for nbgrader; ``python -m bra.checks
SUBMISSION`` grades notebooks that were handed in, and files `my_bra.py`.
"""
