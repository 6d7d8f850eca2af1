"""The teaching notebooks: each a text, ``NAME.py``, and the notebook that running it makes, ``NAME.ipynb``."""
