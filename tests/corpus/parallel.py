"""Threads, processes, OpenMP."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "threads",
        """
import threading
ts = [threading.Thread(target=print, args=('thread', i)) for i in range(3)]
for t in ts:
    t.start()
    t.join()
# %%
import threading
t = threading.Thread(target=lambda: display('shown'))
t.start()
t.join()
# %%
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as p:
    print(list(p.map(lambda x: x * x, range(5))))
""",
        shows=(
            "thread 2",
            "shown",
            "16",
        ),
    ),
    sample(
        "a thread of an earlier cell",
        """
import threading
go = threading.Event()
def f():
    go.wait()
    print('from the thread')
t = threading.Thread(target=f)
t.start()
print('started')
# %%
go.set()
t.join()
print('joined')
""",
        shows=("joined",),
    ),
    sample(
        "processes by fork",
        """
from concurrent.futures import ProcessPoolExecutor
def f(x): return x * x
with ProcessPoolExecutor(2) as p:
    print(list(p.map(f, range(5))))
# %%
import multiprocessing as mp
def f(x): return x + 1
with mp.get_context('fork').Pool(2) as p:
    print(p.map(f, [1, 2]))
# %%
mp.get_start_method(), mp.current_process().name
# %%
import multiprocessing as mp
q = mp.Queue()
def f(): q.put('by queue')
p = mp.Process(target=f)
p.start()
print(q.get())
p.join()
p.exitcode
# %%
from multiprocessing import shared_memory
s = shared_memory.SharedMemory(create=True, size=8)
s.buf[0] = 7
print(s.buf[0])
s.close()
s.unlink()
""",
        shows=(
            "16",
            "[2, 3]",
            "by queue",
            "7",
        ),
    ),
    sample(
        "processes by spawn",
        """
import multiprocessing as mp, part
with mp.get_context('spawn').Pool(1) as p:
    print(p.map(part.f, [1, 2]))
# %% raises-exception
import multiprocessing as mp
def f(): print('ran')
p = mp.get_context('spawn').Process(target=f)
p.start()
p.join()
p.exitcode
""",
        shows=(
            "[2, 3]",
            "1",
        ),
        files={"part.py": "def f(x):\n    return x + 1\n"},
    ),
    sample(
        "os.fork",
        r"""
import os, sys
pid = os.fork()
if pid == 0:
    os.write(1, b'child\n')
    os._exit(5)
_, status = os.waitpid(pid, 0)
# %%
os.waitstatus_to_exitcode(status)
""",
        shows=("child",),
    ),
    sample(
        "joblib and scikit-learn with two jobs",
        """
from joblib import Parallel, delayed
def f(x): return x ** 2
Parallel(n_jobs=2)(delayed(f)(i) for i in range(4))
# %%
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
X, y = make_classification(200, random_state=0)
print(cross_val_score(LogisticRegression(), X, y, cv=3, n_jobs=2).round(3))
# %%
LogisticRegression(C=2)
""",
        shows=(
            "9",
            "LogisticRegression",
        ),
    ),
    sample(
        "XGBoost, OpenMP and BLAS with two threads",
        """
import numpy as np
from xgboost import XGBClassifier
r = np.random.default_rng(0)
X = r.normal(size=(300, 4))
m = XGBClassifier(n_estimators=5, n_jobs=2).fit(X, X[:, 0] > 0)
m.predict_proba(X[:2])
# %%
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier as H
r = np.random.default_rng(0)
X = r.normal(size=(300, 4))
H(max_iter=5).fit(X, X[:, 0] > 0).score(X, X[:, 0] > 0)
# %%
import numpy as np
a = np.ones((400, 400))
float((a @ a).sum())
""",
        shows=(
            "array",
            "0.",
            "64000000.0",
        ),
    ),
)
