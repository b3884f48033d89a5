"""Progress bars and widgets."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "tqdm",
        """
from tqdm import tqdm
for _ in tqdm(range(3), desc='plain'):
    pass
""",
        shows=("plain",),
    ),
    sample(
        "tqdm.auto and tqdm.notebook",
        """
from tqdm.auto import tqdm
list(tqdm(range(3), desc='auto'))
# %%
from tqdm.notebook import tqdm
for _ in tqdm(range(2)):
    print('in')
""",
        shows=("in",),
    ),
    sample(
        "widgets",
        """
import ipywidgets as w
s = w.IntSlider(3)
s
# %%
s.value = 5
s.value
# %%
display(s)
# %%
import ipywidgets as w
a, b = w.IntSlider(), w.IntText()
w.jslink((a, 'value'), (b, 'value'))
w.HBox([a, b])
# %%
w.link((a, 'value'), (b, 'value'))
a.value = 3
b.value
# %%
from ipywidgets import interact
@interact(x=(0, 4))
def f(x=2):
    print('x is', x)
    return x
# %%
import ipywidgets as w
s = w.IntSlider()
s.observe(lambda c: print('new', c['new']), 'value')
s.value = 9
""",
        shows=(
            "IntSlider",
            "HBox",
            "interactive(children",
            "new 9",
        ),
    ),
    sample(
        "output widgets",
        """
import ipywidgets as w
o = w.Output()
o
# %%
with o:
    print('inside')
    display('shown')
print('outside')
# %%
len(o.outputs)
# %%
import ipywidgets as w
o = w.Output()
@o.capture(clear_output=True)
def f():
    print('captured')
    1 / 0
f()
# %%
o.outputs
# %%
import ipywidgets as w
o = w.Output()
o.append_stdout('added')
o.outputs
""",
        shows=(
            "outside",
            "added",
        ),
    ),
    sample(
        "comms and progress bars",
        """
from comm import create_comm
c = create_comm(target_name='t', data={'a': 1})
c.send({'b': 2})
c.close()
type(c).__name__
# %%
from IPython.display import ProgressBar
for i in ProgressBar(3):
    pass
""",
        shows=(
            "Comm",
            "3",
        ),
    ),
)
