# Code of notebooks/compare.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python

# %%
%load_ext mlnb
import mlnb

# %%
runs = mlnb.compare()
runs
