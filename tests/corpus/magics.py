"""Shell commands and magics."""

from __future__ import annotations

import json

from corpus.sample import sample
from notebooks import document

SAMPLES = (
    sample(
        "shell commands",
        r"""
!echo out; echo err >&2
# %%
!exit 3
# %%
_exit_code
# %%
x = !printf 'a\nb\n'
x
# %%
name = 'value'
!echo {name} $name
""",
        shows=(
            "out",
            "3",
            "'a', 'b'",
            "value value",
        ),
    ),
    sample(
        "%%bash, %%script and %%python",
        """
%%bash
echo out
echo err >&2
# %% raises-exception
%%bash
exit 3
# %%
%%script --out kept sh
echo kept
# %%
kept
# %%
%%python
import os
print(__name__, os.path.basename(os.getcwd()))
""",
        shows=(
            "err",
            "CalledProcessError",
            "kept",
            "__main__",
        ),
    ),
    sample(
        "%%writefile and %run",
        """
%%writefile note.txt
line
# %%
print(open('note.txt').read())
# %%
%%writefile script.py
import sys
print(__name__, __file__, sys.argv)
x = 3
# %%
%run script.py a b
# %%
x
# %%
y = 1
# %%
%run -i more.py
# %%
y
# %% raises-exception
%run bad.py
# %%
%run other.ipynb
# %%
z
""",
        shows=(
            "line",
            "'a', 'b'",
            "y 2",
            "bad.py",
            "other 5",
        ),
        files={
            "more.py": "y += 1\nprint('y', y)\n",
            "bad.py": "def f():\n    1 / 0\nf()\n",
            "other.ipynb": json.dumps(document(["z = 5", "print('other', z)"])),
        },
    ),
    sample(
        "magics that measure",
        """
%time sum(range(10))
# %%
%%time
x = 1
print(x)
# %%
%timeit -n 1 -r 1 pass
# %%
r = %timeit -n 2 -r 2 -o -q pass
# %%
r.loops, r.repeat
# %%
%prun -q -r sum([1])
""",
        shows=(
            "45",
            "Wall time",
            "per loop",
            "(2, 2)",
            "pstats",
        ),
    ),
    sample(
        "%%capture",
        """
%%capture kept
print('hidden')
display(1)
2
# %%
kept.stdout, len(kept.outputs)
# %%
kept.show()
""",
        shows=("hidden",),
    ),
    sample(
        "%who",
        """
a, b = 1, 'x'
def f(): pass
# %%
%who
# %%
%who_ls
# %%
%whos int
""",
        shows=("'a', 'b', 'f'",),
    ),
    sample(
        "%history",
        """
a = 1
# %%
b = 2
# %%
%history -n 1-2
# %%
%history
""",
        shows=("1: a = 1",),
    ),
    sample(
        "%env, %cd and %pwd",
        """
%env MINE=here
# %%
import os
os.environ['MINE']
# %%
%env MINE
# %%
!echo $MINE
# %%
import os
os.makedirs('below')
# %%
%cd below
# %%
%pwd
# %%
os.path.basename(os.getcwd())
""",
        shows=(
            "here",
            "below",
        ),
    ),
    sample(
        "%config",
        """
%config InteractiveShell.ast_node_interactivity = 'last_expr_or_assign'
# %%
x = 4
# %%
%config InteractiveShell.ast_node_interactivity = 'all'
# %%
1
2
'three'
""",
        shows=(
            "4",
            "three",
        ),
    ),
    sample(
        "%precision, %pprint and %lsmagic",
        """
%precision 2
# %%
3.14159
# %%
%pprint
# %%
list(range(60))
# %%
%lsmagic
""",
        shows=(
            "3.14",
            "timeit",
        ),
    ),
    sample(
        "%xmode and %tb",
        """
%xmode Minimal
# %% raises-exception
1 / 0
# %%
%xmode Verbose
# %% raises-exception
x = 5
x / 0
# %% raises-exception
%tb
""",
        shows=("Verbose",),
    ),
    sample(
        "%load_ext mlnb",
        """
%load_ext mlnb
# %%
import os
os.path.basename(os.getcwd())
# %% raises-exception
%stage
""",
        shows=("root", "no stage is known"),
        files={"pyproject.toml": "[tool.mlnb]\n"},
    ),
    sample(
        "%autoreload",
        r"""
%load_ext autoreload
%autoreload 2
# %%
import part
part.x
# %%
import os, pathlib
pathlib.Path('part.py').write_text('x = 2 # changed\n')
os.utime('part.py', (1e9, 1e9))
# %%
part.x
""",
        shows=("2",),
        files={"part.py": "x = 1\n"},
    ),
    sample(
        "magics unknown and made in a cell",
        """
# %% raises-exception
%no_such_magic
# %% raises-exception
%%no_such_cell_magic
x
# %%
from IPython.core.magic import register_line_cell_magic
@register_line_cell_magic
def shout(line, cell=None):
    return (line + (cell or '')).upper()
# %%
%shout hello
# %%
%%shout a
b
""",
        shows=(
            "UsageError",
            "HELLO",
        ),
    ),
    sample(
        "help, pages and payloads",
        """
len?
# %%
def f(x):
    '''What f does.'''
f?
# %%
f??
# %%
%pdoc len
# %%
%psource print
# %%
%load part.py
# %%
from IPython.core.page import page
page('paged text')
# %%
get_ipython().set_next_input('x = 1')
'end'
# %%
get_ipython().payload_manager.write_payload({'source': 'x', 'text': 'y'})
'end'
# %%
get_ipython().user_expressions({'a': '1 + 1'})
# %%
%alias hi echo hello
# %%
%hi
""",
        shows=(
            "end",
            "hello",
        ),
        files={"part.py": "x = 1\n"},
    ),
    sample(
        "magics that display",
        """
%%html
<b>x</b>
# %%
%%javascript
1 + 1
# %%
%%latex
$x$
# %%
%%markdown
# x
# %%
%%svg
<svg xmlns='http://www.w3.org/2000/svg'/>
""",
        shows=("<b>x</b>",),
    ),
)
