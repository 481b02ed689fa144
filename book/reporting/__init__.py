"""How the book shows what was measured: tables, figures and numbers, made from book/results while it is built.

A result has a name: that of its file in book/results, and words more where one file makes several tables.
"""
