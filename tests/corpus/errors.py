"""Errors, warnings, interrupts and ends."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "tracebacks",
        r"""
# %% raises-exception
1 / 0
# %%
print('after')
# %% raises-exception
1 / 1
# %% raises-exception
def f(x):
    y = x
    return g(y)

def g(x):
    return {}[x]

f('key')
# %% raises-exception
f(2)
# %% raises-exception
try:
    1 / 0
except ZeroDivisionError as e:
    raise ValueError('second') from e
# %% raises-exception
try:
    {}['a']
except KeyError:
    int('b')
# %% raises-exception
import json
json.loads('{')
# %% raises-exception
raise ValueError('one\ntwo\nthree')
# %% raises-exception
raise KeyError('k')
# %% raises-exception
raise Exception
""",
        shows=(
            "after",
            "1.0",
            "KeyError",
            "direct cause",
            "JSONDecodeError",
            "three",
        ),
    ),
    sample(
        "tracebacks of local modules",
        """
# %% raises-exception
import broken
broken.f()
# %% raises-exception
import torn
""",
        shows=(
            "broken.py",
            "torn.py",
        ),
        files={
            "broken.py": "def f():\n    raise RuntimeError('in the module')\n",
            "torn.py": "x = 1\ny = = 2\n",
        },
    ),
    sample(
        "syntax errors",
        """
# %% raises-exception
x = = 1
# %% raises-exception
def f(:
    pass
# %% raises-exception
print('a'
# %% raises-exception
if True:
x = 1
# %% raises-exception
  x = 1
 y = 2
# %% raises-exception
return 5
# %% raises-exception
break
""",
        shows=(
            "SyntaxError",
            "IndentationError",
        ),
    ),
    sample(
        "exceptions that show themselves",
        """
# %% raises-exception
raise ExceptionGroup('two', [ValueError('a'), ExceptionGroup('in', [TypeError('b')])])
# %% raises-exception
e = ValueError('x')
e.add_note('a note')
raise e
# %% raises-exception
class E(Exception):
    def _render_traceback_(self):
        return ['line one', 'line two']
raise E('x')
""",
        shows=(
            "ExceptionGroup",
            "a note",
            "line two",
        ),
    ),
    sample(
        "exceptions that cannot be shown",
        """
def f(): return f()
try:
    f()
except RecursionError as e:
    print(e)
# %% raises-exception
class E(Exception):
    def __str__(self): raise ValueError('no')
raise E
# %%
1
""",
        shows=("maximum recursion",),
    ),
    sample(
        "a custom exception handler",
        """
def handler(shell, kind, value, tb, tb_offset=None):
    print('handled', kind.__name__)
get_ipython().set_custom_exc((ValueError,), handler)
# %% raises-exception
raise ValueError('x')
# %%
print('on')
""",
        shows=("handled ValueError",),
    ),
    sample(
        "exits and interrupts that are allowed",
        """
# %% raises-exception
import sys
sys.exit('bye')
# %% raises-exception
sys.exit(0)
# %%
print('after')
# %% raises-exception
raise KeyboardInterrupt
# %%
print('after')
""",
        shows=(
            "SystemExit",
            "KeyboardInterrupt",
        ),
    ),
    sample(
        "Ctrl-C",
        """
# %% raises-exception
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
for _ in range(100):
    time.sleep(0.1)
# %%
print('after')
""",
        shows=("KeyboardInterrupt",),
    ),
    sample(
        "input and getpass",
        """
# %% raises-exception
input('name? ')
# %% raises-exception
import getpass
getpass.getpass()
""",
        shows=("StdinNotImplementedError",),
    ),
    sample(
        "breakpoint",
        """
# %% raises-exception
x = 1
breakpoint()
print('passed')
# %%
print('on')
""",
        shows=("on",),
    ),
    sample(
        "%debug and %pdb",
        """
# %% raises-exception
1 / 0
# %% raises-exception
%debug
# %%
print('on')
# %% raises-exception
%pdb on
# %% raises-exception
1 / 0
# %%
print('on')
""",
        shows=("on",),
    ),
    sample(
        "warnings",
        r"""
import warnings
warnings.warn('careful')
warnings.warn('old', DeprecationWarning)
# %%
import part
part.f()
part.f()
# %%
x = 1
x is 1
# %%
'\d'
# %%
warnings.simplefilter('ignore')
warnings.warn('silent')
""",
        shows=(
            "from a module",
            "SyntaxWarning",
        ),
        files={
            "part.py": """
import warnings
def f():
    warnings.warn('from a module', stacklevel=1)
    warnings.warn('caller', stacklevel=2)
    warnings.warn('quiet', DeprecationWarning)
"""
        },
    ),
    sample(
        "errors that nobody catches",
        """
import threading
t = threading.Thread(target=lambda: 1 / 0, name='worker')
t.start()
t.join()
# %%
print('on')
# %%
class A:
    def __del__(self): 1 / 0
a = A()
del a
# %% raises-exception
def f(): 1 / 0
get_ipython().events.register('post_execute', f)
# %% raises-exception
1
# %%
get_ipython().events.unregister('post_execute', f)
# %%
2
# %%
import asyncio
async def f(): 1 / 0
t = asyncio.ensure_future(f())
await asyncio.wait([t])
print(repr(t.exception()))
""",
        shows=(
            "ZeroDivisionError",
            "ignored",
            "post_execute",
        ),
    ),
    sample(
        "an error that ends the run",
        """
print('before')
1 / 0
# %%
print('after')
""",
        shows=("ZeroDivisionError",),
        cause="ZeroDivisionError: division by zero",
    ),
    sample(
        "a syntax error that ends the run",
        """
x = (
# %%
1
""",
        cause="SyntaxError",
    ),
    sample(
        "sys.exit",
        """
import sys
sys.exit(0)
# %%
print('after')
""",
        cause="sys.exit(0)",
    ),
    sample(
        "input that ends the run",
        """
input()
""",
        cause="StdinNotImplementedError",
    ),
    sample(
        "a lone surrogate",
        r"""
print('\ud800')
""",
        cause="UnicodeEncodeError",
    ),
    sample(
        "a process that ends itself",
        """
print('before')
# %%
import os, time
print('last words', flush=True)
time.sleep(0.5)
os._exit(3)
# %%
1
""",
        shows=("before",),
        cause="exit code 3",
    ),
    sample(
        "a process that is killed",
        """
print('before')
# %%
import os, time
print('last words', flush=True)
time.sleep(0.5)
os.kill(os.getpid(), 9)
# %%
1
""",
        shows=("before",),
        cause="SIGKILL",
    ),
    sample(
        "a process that crashes",
        """
print('before')
# %%
import ctypes, time
print('last words', flush=True)
time.sleep(0.5)
ctypes.string_at(0)
# %%
1
""",
        shows=("before",),
        cause="SIGSEGV",
    ),
    sample(
        "exit() before another cell",
        """
exit()
# %%
print('after')
""",
    ),
    sample(
        "quit() at the end",
        """
print('before')
# %%
quit()
""",
        shows=("before",),
    ),
)
