"""The paper's three experiments, and its network with each repair: trained, sampled, diagnosed and drawn.

``python -m benchmarks.paper ROW`` does one row, ``--all`` every row; both go on where they were interrupted.
``python -m benchmarks.paper --draw`` draws the pictures of docs/paper.md, and its figures, from what is there.
"""
