"""Figures of matplotlib."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "figures at the end of a cell",
        """
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.title('t');
# %%
print('on')
# %%
import matplotlib.pyplot as plt
plt.hist([1, 2, 2], bins=2)
# %%
import matplotlib.pyplot as plt
for i in range(3):
    plt.figure(figsize=(1, 1))
    plt.plot([i])
""",
        shows=("image/png",),
    ),
    sample(
        "plt.show and display",
        """
import matplotlib.pyplot as plt
print('a')
plt.plot([1])
plt.show()
print('b')
# %%
import matplotlib.pyplot as plt
f, ax = plt.subplots(figsize=(1, 1))
ax.bar([1], [2])
display(f)
print('then')
# %%
import matplotlib.pyplot as plt
f, ax = plt.subplots()
plt.close(f)
# %%
f
# %%
plt.get_fignums()
# %%
from matplotlib.figure import Figure
f = Figure(figsize=(1, 1))
f.subplots().plot([1])
f
""",
        shows=(
            "image/png",
            "Figure",
        ),
    ),
    sample(
        "figures saved",
        """
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.plot([1])
plt.rcParams['svg.hashsalt'] = 'fixed'
plt.savefig('f.png')
plt.savefig('f.svg')
plt.savefig('f.pdf')
plt.close()
# %%
import os
sorted(os.listdir())
""",
        shows=("f.svg",),
    ),
    sample(
        "matplotlib backends",
        """
import matplotlib
matplotlib.get_backend()
# %%
import matplotlib.pyplot as plt
plt.isinteractive(), plt.rcParams['figure.dpi']
# %%
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([1])
plt.show()
# %%
import matplotlib
matplotlib.get_backend()
# %%
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt
plt.plot([1])
plt.show()
# %%
plt.get_fignums()
# %%
%matplotlib agg
import matplotlib.pyplot as plt
plt.plot([1]);
# %%
plt.gcf().axes
""",
        shows=("inline",),
    ),
    sample(
        "figure formats",
        """
%config InlineBackend.figure_formats = ['svg']
import matplotlib.pyplot as plt
plt.rcParams['svg.hashsalt'] = 'fixed'
plt.figure(figsize=(1, 1))
plt.plot([1]);
# %%
%config InlineBackend.figure_format = 'retina'
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.plot([1]);
# %%
%config InlineBackend.print_figure_kwargs = {'bbox_inches': None}
from matplotlib_inline.backend_inline import set_matplotlib_formats
set_matplotlib_formats('jpeg')
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.plot([1]);
""",
        shows=(
            "image/svg",
            "width",
            "image/jpeg",
        ),
    ),
    sample(
        "figures kept open and drawn again",
        """
# %% raises-exception
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.plot([1])
1 / 0
# %%
plt.get_fignums()
# %%
import matplotlib.pyplot as plt
%config InlineBackend.close_figures = False
plt.figure(figsize=(1, 1))
plt.plot([1]);
# %%
plt.title('x');
# %%
import matplotlib.pyplot as plt
from IPython.display import clear_output
f, ax = plt.subplots(figsize=(1, 1))
plt.close()
h = display(f, display_id=True)
for i in range(2):
    ax.plot([i, i])
    h.update(f)
""",
        shows=(
            "ZeroDivisionError",
            "image/png",
        ),
    ),
)
