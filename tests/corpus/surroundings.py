"""What a notebook finds in its process, and what IPython gives it."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "environment variables",
        r"""
import os
os.environ['GIVEN']
# %%
for name in (
    'PYTHONHASHSEED', 'SOURCE_DATE_EPOCH', 'MPLBACKEND', 'TERM', 'PAGER', 'GIT_PAGER',
    'CLICOLOR', 'CLICOLOR_FORCE', 'FORCE_COLOR', 'PYTEST_CURRENT_TEST', 'JPY_SESSION_NAME',
):
    print(name, os.environ.get(name))
# %%
import os
print('\n'.join(sorted(os.environ)))
""",
        shows=(
            "given ü",
            "PATH",
        ),
        environment={"GIVEN": "given ü"},
    ),
    sample(
        "working directory and local modules",
        """
import os
os.getcwd()
# %%
os.path.exists('nb.ipynb'), os.listdir()
# %%
import here, package.inner
here.x, package.inner.y, here.__file__
# %%
import importlib
importlib.reload(here) is here
""",
        shows=(
            "True",
            "(1, 2",
        ),
        files={"here.py": "x = 1\n", "package/__init__.py": "", "package/inner.py": "y = 2\n"},
    ),
    sample(
        "sys.argv",
        """
import sys
sys.argv
# %%
import argparse
argparse.ArgumentParser().prog
""",
    ),
    sample(
        "sys.path",
        """
import sys
sys.path
# %%
sys.path[0]
# %%
sys.flags
# %%
sys.executable, sys.prefix
""",
        shows=("site-packages",),
    ),
    sample(
        "names",
        """
__name__, __doc__, __package__, __spec__, type(__builtin__).__name__, type(__builtins__).__name__
# %% raises-exception
__file__
# %%
import sys
m = sys.modules['__main__']
m.__dict__ is globals(), hasattr(m, '__file__'), getattr(m, '__spec__', 0), m.__name__
# %%
import builtins
sorted(n for n in vars(builtins) if n[0].islower() or n[:2] == '__')
# %%
print(exit)
""",
        shows=(
            "__main__",
            "display",
        ),
    ),
    sample(
        "names at the start",
        """
sorted(globals())
# %%
sorted(get_ipython().user_ns_hidden)
""",
        shows=("get_ipython",),
    ),
    sample(
        "the shell",
        """
s = get_ipython()
type(s).__name__, type(s).__module__, s.execution_count, s.config
# %%
s.__class__.__mro__
# %%
s.profile, s.banner[:10], s.colors, s.autoindent
# %%
s.display_pub.__class__, s.displayhook.__class__
# %%
s.history_manager.enabled, s.history_manager.hist_file
# %%
s.has_trait('kernel'), s.parent.__class__
""",
        shows=("ZMQInteractiveShell",),
    ),
    sample(
        "the kernel",
        """
import sys
'ipykernel' in sys.modules, 'IPython' in sys.modules
# %%
k = get_ipython().kernel
type(k).__name__, k.implementation, k.shell is get_ipython(), k.execution_count
# %%
k.language_info['name'], k.banner[:6]
# %%
import IPython
IPython.get_ipython() is get_ipython(), IPython.version_info[0]
# %%
h = get_ipython().kernel.get_parent()
sorted(h), sorted(h['content']), h['header']['msg_type']
# %%
h['content']['code']
# %%
get_ipython().parent_header['msg_type']
# %%
def inside():
    try:
        from IPython import get_ipython
        return 'IPKernelApp' in get_ipython().config
    except Exception as e:
        return repr(e)
inside()
# %%
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.initialized()
# %%
import ipykernel.connect
# %% raises-exception
bool(ipykernel.connect.get_connection_file())
""",
        shows=(
            "True",
            "execute_request",
        ),
    ),
    sample(
        "signals",
        """
import signal
for s in (s for s in signal.Signals if s.name != 'SIGINT'):
    print(s.name, signal.getsignal(s))
# %%
signal.getsignal(signal.SIGINT)
# %%
signal.pthread_sigmask(signal.SIG_BLOCK, [])
# %%
import signal, time
signal.signal(signal.SIGALRM, lambda *_: print('rang'))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.3)
""",
        shows=(
            "SIGTERM",
            "rang",
        ),
    ),
    sample(
        "limits and descriptors",
        """
import os, resource
mask = os.umask(0)
os.umask(mask)
oct(mask), os.nice(0)
# %%
for n in ('RLIMIT_AS', 'RLIMIT_NOFILE', 'RLIMIT_CORE', 'RLIMIT_STACK'):
    print(n, resource.getrlimit(getattr(resource, n)))
# %%
os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()
# %%
sorted(os.sched_getaffinity(0)) == list(range(os.cpu_count()))
# %%
os.ctermid(), os.isatty(0)
# %%
import os
[fd for fd in (0, 1, 2) if not os.get_inheritable(fd)]
# %%
import os, stat
[stat.S_IFMT(os.fstat(fd).st_mode) for fd in (0, 1, 2)]
# %%
import subprocess
command = ['sh', '-c', 'ls /proc/self/fd | wc -l']
subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout
# %%
import threading
sorted(t.name for t in threading.enumerate() if not t.daemon)
""",
        shows=("MainThread",),
    ),
    sample(
        "the interpreter",
        """
import sys
sys.getrecursionlimit(), sys.getswitchinterval(), hasattr(sys, 'tracebacklimit')
# %%
import gc
gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()
# %%
import faulthandler
faulthandler.is_enabled()
# %%
import threading
t = threading.current_thread()
t is threading.main_thread(), t.name, t.ident == threading.get_ident()
# %%
sys.gettrace(), sys.getprofile(), type(sys.excepthook).__name__, hasattr(sys, 'ps1')
# %%
sys.flags.utf8_mode, sys.getfilesystemencoding(), __import__('locale').getlocale()
""",
    ),
    sample(
        "modules at the start",
        """
import sys
[m for m in ('numpy', 'pandas', 'matplotlib', 'papermill', 'nbclient', 'mlnb') if m in sys.modules]
""",
    ),
    sample(
        "what is left for the end",
        """
import atexit
atexit.register(lambda: open('left', 'w').write('at exit'))
print('registered')
# %%
f = open('log.txt', 'w')
f.write('not flushed')
# %%
class A:
    def __del__(self): open('deleted', 'w').write('x')
a = A()
print('made')
""",
        shows=(
            "registered",
            "11",
            "made",
        ),
    ),
    sample(
        "random without a seed",
        """
import random
import numpy as np
random.random(), np.random.rand(), np.random.default_rng().random()
# %%
random.seed(1)
np.random.seed(1)
random.random(), np.random.rand(), np.random.default_rng(3).random()
""",
        shows=("0.13436424411240122",),
    ),
    sample(
        "functions and their source",
        """
import inspect
def f(x):
    return x  # a comment
print(inspect.getsource(f))
# %%
class A:
    a = 1
print(inspect.getsource(f))
# %%
f.__module__, f.__code__.co_name, f.__code__.co_firstlineno
# %%
f.__code__.co_filename
# %% raises-exception
print(inspect.getsource(A))
# %%
inspect.stack()[0].function, inspect.currentframe().f_lineno
""",
        shows=("a comment",),
    ),
    sample(
        "classes of the notebook",
        """
import pickle
from dataclasses import dataclass
@dataclass
class P:
    x: int
pickle.loads(pickle.dumps(P(3)))
# %%
P.__module__, P.__qualname__
# %%
import copy
copy.deepcopy(P(4)) == P(4)
# %%
import enum, typing, collections
class C(enum.Enum):
    A = 1
C.A, collections.namedtuple('N', 'a')(1), typing.get_type_hints(C)
""",
        shows=(
            "P(x=3)",
            "N(a=1)",
        ),
    ),
    sample(
        "doctest and unittest",
        """
def f(x):
    '''
    >>> f(1)
    2
    >>> f(2)
    5
    '''
    return x + 1
import doctest
doctest.testmod(verbose=False)
# %%
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(1, 1)
unittest.main(argv=['x'], exit=False).result
""",
        shows=(
            "failed=1",
            "run=1",
        ),
    ),
    sample(
        "exec, tracing and profiling",
        r"""
exec('v = 1\nprint(v)')
eval('v + 1')
# %% raises-exception
exec('1 / 0')
# %% raises-exception
exec(compile('1 / 0', 'made.py', 'exec'))
# %%
import cProfile, pstats
p = cProfile.Profile()
p.runcall(sum, [1])
pstats.Stats(p).total_calls
# %%
import tracemalloc
tracemalloc.start()
tracemalloc.is_tracing()
# %%
import sys
seen = []
def t(frame, event, arg):
    seen.append(event)
def f(): return 1
sys.settrace(t)
f()
sys.settrace(None)
seen.count('return')
# %%
import gc, weakref
class A: pass
a = A()
r = weakref.ref(a)
del a
gc.collect() >= 0, r()
""",
        shows=(
            "made.py",
            "True",
            "None",
        ),
    ),
    sample(
        "events of the shell",
        """
def pre(info): print('pre', info.raw_cell[:3], info.store_history, info.silent)
def post(result): print('post', result.execution_count, result.success, result.result)
get_ipython().events.register('pre_run_cell', pre)
get_ipython().events.register('post_run_cell', post)
# %%
'one'
# %% raises-exception
1 / 0
""",
        shows=("post 2 True one",),
    ),
    sample(
        "transformers of the shell",
        """
def reveal(lines): return [line.replace('SECRET', '42') for line in lines]
get_ipython().input_transformers_post.append(reveal)
# %%
SECRET
# %%
import ast
class T(ast.NodeTransformer):
    def visit_Constant(self, node):
        node.value *= 2
        return node
get_ipython().ast_transformers.append(T())
# %%
21
""",
        shows=("42",),
    ),
    sample(
        "run_cell",
        r"""
r = get_ipython().run_cell('print("nested")\n5')
r.success, r.result
# %% raises-exception
get_ipython().run_cell('1 / 0', store_history=False).success
# %%
get_ipython().ex('q = 3')
get_ipython().ev('q + 1')
# %%
get_ipython().execution_count
""",
        shows=("nested",),
    ),
    sample(
        "%reset",
        """
x = 1
# %%
%reset -f
# %% raises-exception
x
# %%
In[-1] if len(In) else None
""",
        shows=("NameError",),
    ),
    sample(
        "replaced names",
        """
print = lambda *a: None
print('hidden')
# %%
del print
print('visible')
# %%
display = None
# %%
1
""",
        shows=("visible",),
    ),
    sample(
        "time zones, temporary files and SQLite",
        """
import os, time, datetime
os.environ['TZ'] = 'Asia/Tokyo'
time.tzset()
datetime.datetime.fromtimestamp(0).hour
# %%
import multiprocessing, sys
me = multiprocessing.current_process()
me.name, me.daemon, multiprocessing.parent_process()
# %%
import tempfile, mmap
with tempfile.TemporaryFile() as f:
    f.write(b'abc')
    f.flush()
    print(mmap.mmap(f.fileno(), 0)[:])
tempfile.gettempdir() == tempfile.gettempdir()
# %%
import sqlite3
c = sqlite3.connect('d.db')
c.execute('create table t(x)')
c.execute('insert into t values (5)')
c.commit()
c.execute('select x from t').fetchall()
# %%
c.close()
""",
        shows=(
            "9",
            "MainProcess",
            "b'abc'",
            "(5,)",
        ),
    ),
    sample(
        "MLflow",
        """
import logging, mlflow
for name in ('alembic', 'mlflow'):
    logging.getLogger(name).setLevel('ERROR')
mlflow.set_tracking_uri('sqlite:///m.db')
mlflow.set_experiment('e');
# %%
with mlflow.start_run(run_name='r') as run:
    mlflow.log_params({'a': 1})
    mlflow.log_metric('m', 0.5)
r = mlflow.get_run(run.info.run_id)
r.data.params, r.data.metrics, r.info.status
# %%
import os, pathlib
[os.remove(p) for p in pathlib.Path('.').glob('m.db*')];
""",
        shows=("FINISHED",),
        environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
)
