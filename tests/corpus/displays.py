"""Results, displays, their updates and representations."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "results",
        """
1 + 1
# %%
print('a')
display('b')
print('c')
'd'
# %%
1 + 1;
# %%
x = 5; x
# %%
None
# %%
print(None)
# %%
[None]
""",
        shows=(
            "2",
            "'d'",
            "5",
            "[None]",
        ),
    ),
    sample(
        "_, __, Out, In and _i",
        """
10
# %%
20
# %%
(_, __, Out[1], In[1], _i1, _2, len(In), sorted(_oh))
# %%
_i, _ii
""",
        shows=("(20, 10, 10, '10', '10', 20, 4, [1, 2])",),
    ),
    sample(
        "display classes",
        """
from IPython.display import HTML, Latex, Markdown, Math
display(HTML('<i>h</i>'), Markdown('*m*'), Latex('$l$'))
Math('x^2')
# %%
from IPython.display import JSON, Code, Javascript, Pretty
display(JSON({'a': [1, None]}), Javascript('1'), Pretty('p'))
Code('x = 1', language='python')
# %%
import base64
from IPython.display import SVG, Image
png = base64.b64decode(
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk'
    'YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=='
)
display(Image(png, width=10))
SVG('<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>')
# %%
from IPython.display import Audio, FileLink, IFrame, YouTubeVideo
display(Audio([0.0, 0.5, -0.5] * 10, rate=8000), IFrame('x.html', 10, 10), YouTubeVideo('abc'))
FileLink('nb.ipynb')
""",
        shows=(
            "<i>h</i>",
            '"a"',
            "image/png",
            "audio",
        ),
    ),
    sample(
        "display with raw data and metadata",
        """
display({'text/plain': 'p', 'text/html': '<u>r</u>', 'application/x+json': {'a': 1}}, raw=True)
# %%
from IPython.display import publish_display_data
publish_display_data({'text/plain': 'q'}, {'m': 1})
# %%
class A:
    def _repr_html_(self): return '<a/>'
    def _repr_markdown_(self): return 'md'
    def __repr__(self): return 'A()'
display(A(), include=['text/html'])
display(A(), exclude=['text/html'], metadata={'text/plain': {'k': 1}})
A()
""",
        shows=(
            "<u>r</u>",
            "<a/>",
        ),
    ),
    sample(
        "a display updated in its cell",
        """
h = display('first', display_id=True)
h.update('second')
# %%
from IPython.display import DisplayHandle
h = DisplayHandle('fixed')
h.display('x')
h
# %%
from IPython.display import update_display
update_display('x', display_id='none')
print('on')
""",
        shows=(
            "second",
            "DisplayHandle",
            "on",
        ),
    ),
    sample(
        "a display updated in a later cell",
        """
display('first', display_id='one')
# %%
from IPython.display import update_display
update_display('second', display_id='one')
# %%
print('end')
# %%
h = display('a', display_id='x')
display('b', display_id='x')
# %%
h.update('c')
""",
        shows=(
            "second",
            "'c'",
        ),
    ),
    sample(
        "clear_output",
        """
from IPython.display import clear_output
print('gone')
display('gone')
clear_output()
print('stays')
# %%
from IPython.display import clear_output
for i in range(3):
    clear_output(wait=True)
    print('at', i)
    display(i)
# %%
print('kept')
clear_output(wait=True)
""",
        shows=(
            "stays",
            "at 2",
        ),
    ),
    sample(
        "representations",
        r"""
class A:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/plain': 'bundle', 'text/html': '<p/>'}, {'text/html': {'m': 1}}
A()
# %%
class A:
    def _ipython_display_(self):
        print('shown by itself')
        display('inner')
A()
# %%
display(A())
# %%
class A:
    def _repr_png_(self): return b'\x89PNG\r\n\x1a\n'
A()
# %%
f = get_ipython().display_formatter.formatters['text/html']
f.for_type(complex, lambda c: f'<c>{c.real}</c>')
1 + 2j
# %%
from IPython.lib.pretty import pretty
pretty([1])
# %%
class A:
    def __repr__(self):
        print('printing')
        return 'A'
A()
""",
        shows=(
            "bundle",
            "shown by itself",
            "image/png",
            "<c>1.0</c>",
            "printing",
        ),
    ),
    sample(
        "representations that raise",
        """
# %% raises-exception
class A:
    def __repr__(self): raise ValueError('no repr')
A()
# %% raises-exception
display(A())
# %%
print('on')
# %% raises-exception
class A:
    def _repr_html_(self): raise ValueError('no html')
    def __repr__(self): return 'plain'
A()
""",
        shows=(
            "no repr",
            "no html",
        ),
    ),
    sample(
        "large and odd values",
        """
{'a': list(range(50)), 'b': {'c': ('d',) * 30}, 'e': {3, 1, 2}, 'f': b'x' * 100}
# %%
2**300
# %%
1e300 * 1e10, -0.0, float('nan')
# %%
3 + 4j
# %%
True
# %% raises-exception
print(10**5000)
# %%
(10**4000) % 7
""",
        shows=(
            "'c'",
            "inf",
            "ValueError",
        ),
    ),
    sample(
        "sets and hashes",
        """
{'a', 'b', 'c', 'd', 'e', 'f'}
# %%
print(set('hello world'))
# %%
hash('a')
# %%
import subprocess, sys
subprocess.run([sys.executable, '-c', 'print(hash("a"))']);
""",
    ),
    sample(
        "addresses",
        """
object()
# %%
print(object())
# %%
def f(): pass
f
# %%
[lambda: 0]
# %%
import sys
print(object(), file=sys.stderr)
""",
        shows=("at 0x…",),
    ),
    sample(
        "display hooks and rich",
        """
import sys
print(type(sys.displayhook).__name__)
sys.displayhook(5)
# %%
from rich import print as rprint
from rich.table import Table
t = Table('a', 'b')
t.add_row('1', '2')
rprint(t)
""",
        shows=(
            "5",
            "1",
        ),
    ),
)
