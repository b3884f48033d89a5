"""What cells write: by print, natively, by subprocesses."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "prints",
        r"""
print('out')
print(1, 2, sep='-')
# %%
import sys
print('err', file=sys.stderr)
# %%
print('a', end='')
print('b', end='')
# %%
print('c')
# %%
print(end='')
# %%
print()
# %%
import sys
sys.stdout.write('')
# %%
import sys
sys.stdout.writelines(['a', 'b\n'])
sys.stdout.write('cd')
# %%
print('now', flush=True)
print('then')
""",
        shows=(
            "1-2",
            "err",
            "then",
        ),
    ),
    sample(
        "prints to both streams",
        """
import sys
for i in range(3):
    print('out', i)
    print('err', i, file=sys.stderr)
""",
        shows=("err 2",),
    ),
    sample(
        "carriage returns and backspaces",
        r"""
for i in range(4):
    print(f'\r{i}', end='')
# %%
print('ab\x08c \x1b[31mred\x1b[0m \x07 \x0c')
""",
        shows=("3",),
    ),
    sample(
        "characters beyond ASCII",
        r"""
print('naïve 🚀 \u2028 漢字 \x00 end')
# %%
import os
os.write(1, b'\xff\xc3 end\n');
""",
        shows=(
            "漢字",
            "end",
        ),
    ),
    sample(
        "long outputs",
        """
for i in range(5000):
    print(i)
# %%
print('x' * 150_000)
""",
        shows=(
            "4999",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
    ),
    sample(
        "outputs over the cap",
        """
for i in range(30):
    print(str(i) * 5_000)
# %%
from IPython.display import HTML
print('before')
HTML('y' * 500_000)
""",
        shows=("output cut",),
    ),
    sample(
        "native writes",
        r"""
import os
os.write(1, b'one\n')
# %%
os.write(2, b'two\n');
# %%
import ctypes
libc = ctypes.CDLL(None)
libc.printf(b'from C %d\n', 7)
libc.fflush(None);
# %%
libc.puts(b'puts')
libc.fflush(None);
# %%
import sys
sys.__stdout__.buffer.write(b'bytes\n')
sys.__stdout__.flush()
""",
        shows=(
            "two",
            "from C 7",
            "bytes",
        ),
    ),
    sample(
        "streams redirected",
        r"""
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as f:
    print('in')
print('got', repr(f.getvalue()))
# %%
import os, sys
kept = os.dup(1)
null = os.open('captured', os.O_CREAT | os.O_WRONLY)
os.dup2(null, 1)
os.write(1, b'hidden')
os.dup2(kept, 1)
print(open('captured').read())
# %%
os.write(1, b'visible\n');
""",
        shows=(
            "got 'in",
            "visible",
        ),
    ),
    sample(
        "a replaced sys.stdout",
        """
import io, sys
old, sys.stdout = sys.stdout, io.StringIO()
print('kept')
# %%
got = sys.stdout.getvalue()
sys.stdout = old
print('got', got)
""",
    ),
    sample(
        "streams as objects",
        """
import sys
for s in (sys.stdout, sys.stderr):
    print(s.isatty(), s.encoding, s.errors, s.writable(), s.readable(), s.closed, s.name)
# %%
sys.stdout.fileno(), sys.stderr.fileno(), sys.__stdout__.fileno(), sys.stdin.isatty()
# %% raises-exception
import sys
sys.stdout.buffer.write(b'x')
""",
        shows=("UTF-8",),
    ),
    sample(
        "subprocesses",
        """
import os, time
code = os.system('echo out; echo err >&2')
time.sleep(1)  # a kernel's thread brings it when it comes to that
code
# %%
import subprocess
done = subprocess.run(['sh', '-c', 'echo inherited; exit 3'])
time.sleep(1)
done
# %%
import subprocess
subprocess.run(['echo', 'kept'], capture_output=True, text=True).stdout
# %%
import subprocess, sys
subprocess.run([sys.executable, '-c', 'print(__name__)'], check=True);
# %%
import subprocess
ps = [subprocess.Popen(['sh', '-c', f'exit {i}']) for i in range(4)]
[p.wait() for p in ps]
# %%
import sys
print(repr(sys.stdin.read()))
""",
        shows=(
            "err",
            "returncode=3",
            "kept",
            "__main__",
            "[0, 1, 2, 3]",
            "''",
        ),
    ),
    sample(
        "logging",
        """
import logging
logging.warning('careful')
logging.info('silent')
# %%
import logging, sys
logging.basicConfig(stream=sys.stdout, level='INFO', format='%(message)s', force=True)
logging.getLogger('a.b').info('heard')
# %%
logging.getLogger().handlers
""",
        shows=(
            "WARNING:root",
            "heard",
        ),
    ),
)
