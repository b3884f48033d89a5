"""Data frames and arrays."""

from __future__ import annotations

from corpus.sample import sample

SAMPLES = (
    sample(
        "data frames",
        """
import pandas as pd
df = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})
df
# %%
print(df)
# %%
display(df.head(1), df.dtypes)
# %%
df.info()
# %%
import numpy as np, pandas as pd
pd.DataFrame(np.arange(4000).reshape(100, 40))
# %%
import pandas as pd
df = pd.DataFrame({'a': [1.5, 2]})
df.to_parquet('d.parquet')
df.to_csv('d.csv')
pd.read_parquet('d.parquet').equals(df)
# %%
import pandas as pd
pd.Series([1, 3]).plot(figsize=(1, 1))
# %%
import pandas as pd
pd.set_option('display.precision', 2, 'display.max_rows', 4)
pd.DataFrame({'a': [1 / 3] * 9})
""",
        shows=(
            "<table",
            "100 rows",
            "True",
            "image/png",
            "0.33",
        ),
    ),
    sample(
        "a styler",
        """
import pandas as pd
pd.DataFrame({'a': [1, -2]}).style.map(lambda v: 'color: red' if v < 0 else '')
""",
        shows=("color: red",),
    ),
    sample(
        "arrays",
        """
import numpy as np
np.arange(2000).reshape(40, 50)
# %%
np.set_printoptions(precision=2)
np.array([1 / 3])
# %%
np.float64(1)
""",
        shows=("0.33",),
    ),
    sample(
        "warnings of libraries",
        """
import warnings
import pandas as pd
warnings.warn('from the cell', pd.errors.PerformanceWarning)
# %%
import numpy as np
np.array([1.0]) / 0
# %%
np.seterr(all='raise')
# %% raises-exception
np.array([1.0]) / 0
""",
        shows=(
            "PerformanceWarning",
            "FloatingPointError",
        ),
    ),
)
