"""Top-level await and the event loop."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "top-level await",
        """
import asyncio
await asyncio.sleep(0, 'awaited')
# %%
async def g():
    for i in range(3):
        yield i
[i async for i in g()]
# %%
async for i in g():
    print(i)
# %%
import contextlib
@contextlib.asynccontextmanager
async def c():
    print('in')
    yield 1
    print('out')
async with c() as x:
    print(x)
# %% raises-exception
import asyncio
async def f(): raise ValueError('late')
await f()
# %%
async def f(): pass
c = f()
c.close()
type(c)
# %%
import asyncio
p = await asyncio.create_subprocess_shell('echo child', stdout=asyncio.subprocess.PIPE)
(await p.communicate())[0]
# %%
import asyncio
await asyncio.to_thread(lambda: 7)
# %%
%autoawait off
# %% raises-exception
import asyncio
await asyncio.sleep(0)
""",
        shows=(
            "awaited",
            "[0, 1, 2]",
            "out",
            "late",
            "coroutine",
            "child",
            "7",
            "SyntaxError",
        ),
    ),
    sample(
        "the event loop",
        """
import asyncio
asyncio.get_running_loop().is_running()
# %%
asyncio.get_event_loop() is asyncio.get_running_loop()
# %%
import asyncio
a = asyncio.get_running_loop()
# %%
await asyncio.sleep(0)
a is asyncio.get_running_loop()
# %% raises-exception
import asyncio
async def f(): return 1
asyncio.run(f())
# %%
import asyncio, threading
async def f(): print('in a thread')
t = threading.Thread(target=lambda: asyncio.run(f()))
t.start()
t.join()
""",
        shows=(
            "True",
            "RuntimeError",
            "in a thread",
        ),
    ),
    sample(
        "asyncio tasks",
        """
import asyncio
async def f():
    await asyncio.sleep(0.01)
    return 5
t = asyncio.create_task(f())
# %%
await t
# %%
import asyncio
async def f(i):
    for j in range(2):
        print(i, j)
        await asyncio.sleep(0)
await asyncio.gather(f(0), f(1))
""",
        shows=(
            "5",
            "1 1",
        ),
    ),
)
