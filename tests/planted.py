"Mistakes that the project's checks must find: where each is planted, its code, and what the report must name."

IN_MODULES = {  # for `lint-imports`: a module of the package, code for its end, a text of the report
    "data imports the model": (
        "data/quality.py",
        "import brewcast.model.recipes",
        "brewcast.data is not allowed to import brewcast.model",
    ),
    "common imports data, inside a function": (
        "common/charts.py",
        "def f():\n    from ..data import clean",
        "brewcast.common is not allowed to import brewcast.data",
    ),
    "delivery imports the registry": (
        "delivery/forecast.py",
        "from ..registry.publish import publish",
        "brewcast.delivery is not allowed to import brewcast.registry",
    ),
    "the model imports serving": (
        "model/train.py",
        "from ..serving import release",
        "brewcast.model is not allowed to import brewcast.serving",
    ),
    "workflow imports the registry, on the same level": (
        "workflow/runs.py",
        "from ..registry import publish",
        "brewcast.workflow is not allowed to import brewcast.registry",
    ),
    "workflow imports a lower layer": (
        "workflow/runs.py",
        "from ..data import quality",
        "brewcast.workflow is not allowed to import brewcast.data",
    ),
    "serving imports data": (
        "serving/batch.py",
        "from ..data import quality",
        "brewcast.serving is not allowed to import brewcast.data",
    ),
    "the Bento imports pandas, inside a function": (
        "serving/traffic.py",
        "def f():\n    import pandas",
        "brewcast.serving.traffic is not allowed to import pandas",
    ),
    "the Bento imports pandas through another module": (
        "serving/app.py",
        "from ..common import core",
        "brewcast.serving.app is not allowed to import pandas",
    ),
    "a package that is in no layer": ("planning/orders.py", "x = 1", "brewcast.planning"),
}

IN_NOTEBOOKS = {  # for imports outside of the import graph: a notebook, a new cell, the name to report
    "the run of a stage imports code that changes serving": (
        "data/12_explore.ipynb",
        "#| eval: false\nfrom brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "a lesson imports a higher layer": (
        "model/13_features.ipynb",
        "from brewcast.serving.release import apply_plan",
        "brewcast.serving.release",
    ),
    "a package as a whole": ("model/bias.ipynb", "from brewcast import delivery", "brewcast.delivery"),
    "a module under another name": (
        "model/bias.ipynb",
        "import brewcast.delivery.month_page as page",
        "brewcast.delivery.month_page",
    ),
    "import_module with a whole name": (
        "data/12_explore.ipynb",
        "import importlib\nimportlib.import_module('brewcast.serving.release')",
        "brewcast.serving.release",
    ),
    "import_module with a package": (
        "data/12_explore.ipynb",
        "from importlib import import_module\nimport_module('.release', 'brewcast.serving')",
        "brewcast.serving.release",
    ),
    "import_module with the package by name": (
        "data/12_explore.ipynb",
        "from importlib import import_module\nimport_module('.serving.release', package='brewcast')",
        "brewcast.serving.release",
    ),
    "__import__": ("data/12_explore.ipynb", "__import__('brewcast.serving.release')", "brewcast.serving.release"),
    "a function's body": (
        "common/core.ipynb",
        "#| export\ndef f():\n    from brewcast.data.clean import clean\n\n    return clean",
        "brewcast.data.clean",
    ),
    "import_module under another name": (
        "data/12_explore.ipynb",
        "from importlib import import_module as load\nload('..serving.release', __package__)",
        "import_module",
    ),
    "importlib by its attribute": (
        "data/12_explore.ipynb",
        "import importlib\ngetattr(importlib, 'import_' + 'module')('json')",
        "importlib",
    ),
    "code in a string": (
        "data/12_explore.ipynb",
        "#| export\nexec('from brewcast.serving import release')",
        "exec",
    ),
    "a name that another library resolves": (
        "data/12_explore.ipynb",
        "import pkgutil\npkgutil.resolve_name('brewcast.serving.release:Release.x')",
        "pkgutil",
    ),
    "a module's name inside a longer string": (
        "data/12_explore.ipynb",
        "#| export\nASKS = 'see brewcast.serving.release:Release'",
        "brewcast.serving",
    ),
    "a name that is joined from parts": (
        "data/12_explore.ipynb",
        "from importlib import import_module\nimport_module('brewcast.' + 'serving.release')",
        "import_module",
    ),
}

IN_OTHER_FILES = {  # neither notebook nor checked by lint-imports: a file, code for its end, the name to report
    "Feast's definitions import the registry": (
        "feature_repo/definitions.py",
        "from brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "a package imports on demand": (
        "brewcast/data/__init__.py",
        "import importlib\n\n\ndef __getattr__(name):\n    return importlib.import_module('brewcast.registry.' + name)",
        "brewcast/data/__init__.py",
    ),
    "the module for old pickles imports more": (
        "brewcast/models.py",
        "from brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "the Bento imports a library that it does not contain": (
        "brewcast/serving/traffic.py",
        "def f():\n    import pandera",
        "pandera",
    ),
}

STAGES_NAMED = {  # workflow must not name a stage: a notebook of workflow, a new cell, the stage
    "a product by its path": ("workflow/report.ipynb", "#| export\nHOME = 'forecast/month.html'", "forecast"),
    "a dictionary key": ("workflow/staleness.ipynb", "#| export\nREADS = {'features': ['feature_repo']}", "features"),
    "in an f-string": (
        "workflow/runs.ipynb",
        "#| export\ndef place(source):\n    return f'products/{source}/package/release'",
        "package",
    ),
}

SECOND_NAMES = {  # module-level names that another module has, too: a module of the package, code for its end, the name
    "a function": ("data/clean.py", "def publish():\n    pass", "publish"),
    "a private function": ("model/bias.py", "def _plain_json(value):\n    return value", "_plain_json"),
    "a class": ("serving/batch.py", "class Release:\n    pass", "Release"),
    "a constant with a type": ("delivery/forecast.py", "BASELINES: list[str] = []", "BASELINES"),
    "one of two that are assigned at once": ("data/quality.py", "LEDGER_FILE, other_file = 'a', 'b'", "LEDGER_FILE"),
}

USES_OF_MLFLOW = {  # a module, code for its end, what is found
    "an import in a function": ("registry/publish.py", "def f():\n    import mlflow.sklearn", "mlflow.sklearn"),
    "its client": (
        "operations/lineage.py",
        "from brewcast.common.mlflow import mlflow_client\nmlflow_client",
        "client",
    ),
    "a query": ("operations/backup.py", "QUERY = 'SELECT 1 FROM runs r JOIN\\ntags t'", "JOIN\ntags"),
    "its file": ("workflow/runs.py", "PATH = 'state/mlflow.db'", "mlflow.db"),
    "its artifacts": ("workflow/runs.py", "PATH = 'state/mlartifacts/models'", "mlartifacts"),
}

BY_PROCESSOR = [  # code whose result depends on the processor, in its last digit or in the order of equal keys
    "mean = weights @ errors",
    "mean = np.dot(weights, errors)",
    "slope = np.cov(x, y)[0, 1]",
    "slope = np.polyfit(x, y, 1)[0]",
    "solution = np.linalg.solve(a, b)",
    "first = table.sort_values('published').groupby('store_id').last()",
    "best = scores.sort_values(ascending=False)",
    "worst = np.argsort(errors)[-1]",
]

MLFLOW_CONTENTS = {  # a change of MLflow's database after a build, and what the check must say of it
    "a metric for each month": (
        "UPDATE latest_metrics SET key = 'wape_2024-05' WHERE key = 'wape'",
        "the metric wape_2024-05 has a month in its name",
    ),
    "a month that was logged twice": (
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics WHERE key = 'bias'",
        "bias has two points at step",
    ),
    "a curve without a month": (
        "DELETE FROM metrics WHERE key = 'wape' AND step = (SELECT max(step) FROM metrics WHERE key = 'wape')",
        "wape has not a point for each judged cutoff",
    ),
    "a challenger without errors": (
        "DELETE FROM metrics WHERE run_uuid = (SELECT run_id FROM model_versions v JOIN registered_model_aliases a"
        " ON a.version = v.version WHERE a.alias = 'challenger')",
        "wape has not a point for each judged cutoff",
    ),
    "data that nobody knows the use of": ("DELETE FROM input_tags", "rows.parquet has no context"),
    "a run without its data": ("DELETE FROM inputs WHERE destination_type = 'RUN'", "no data set"),
    "a run without its model": ("DELETE FROM inputs WHERE destination_type = 'MODEL_OUTPUT'", "no model as output"),
    "a version that says nothing": ("UPDATE model_versions SET description = NULL", "its description does not say"),
    "a table that is not there": (
        "UPDATE tags SET value = replace(value, 'models.json', 'model.json') WHERE key = 'mlflow.loggedArtifacts'",
        "model.json is listed, but not there",
    ),
}

CELLS = {  # an exported cell, added to a notebook, and what the report must say of it
    "a function of 40 lines": ("def f():\n" + "    pass\n" * 39, "has 41 lines"),
    "a table of 40 lines": ("TABLE = [\n" + "    1,\n" * 38 + "]\n", "has 41 lines"),
    "blank lines and comments that make a cell long": (
        "def f():\n" + "    # why\n\n" * 20 + "    pass\n",
        "has 43 lines",
    ),
    "two functions": ("def f():\n    pass\n\n\ndef g():\n    pass\n", "defines f and g"),
    "a class and a function": ("class A:\n    pass\n\n\nasync def g():\n    pass\n", "defines A and g"),
    "a method that is patched into a class": ("@patch\ndef f(self: Release):\n    pass\n", "patches"),
    "a method that is patched into a class by name": ("@patch_to(Release)\ndef f(self):\n    pass\n", "patches"),
    "a method that is set on a class": ("def f(self):\n    pass\n\n\nRelease.f = f\n", "patches"),
}

RUN_CELLS = {  # a cell below `## Run`, and what the report must say of it
    "16 lines": ("x = 1\n" * 16, "has 16 lines"),
    "a choice": ("if champion:\n    model = champion\n", "if"),
    "a choice in one line": ("model = champion if champion else candidate\n", "if"),
    "a default by `or`": ("model = champion or candidate\n", "or"),
    "a comparison": ("same = candidate == champion\n", "comparison"),
    "a filter": ("rows = [row for row in rows if row.open]\n", "if"),
    "what to do on an error": ("try:\n    f()\nexcept OSError:\n    pass\n", "try"),
    "a loop until it fits": ("while f():\n    g()\n", "while"),
    "a function": ("def f():\n    pass\n", "function"),
    "a function without a name": ("f = lambda x: x\n", "function"),
}

HELP = {  # code at the end of a module, and what the report must say of it
    "the columns needed": ('def f(sales: pd.DataFrame) -> int:\n    "Count lines."\n', "Needs"),
    "which columns are needed": ('def f(sales: pd.DataFrame) -> int:\n    "Needs columns."\n', "Needs"),
    "the columns returned": ('def f() -> tuple[pa.Table, dict]:\n    "Make `a` of nothing."\n', "Returns"),
    "an error": ('def f(n: int):\n    "Check n."\n    if n:\n        raise ValueError("n")\n', "ValueError"),
    "an error of a library": (
        'def f(n: int):\n    "Check n. Raises ValueError."\n    raise errors.NotBuilt("n")\n',
        "NotBuilt",
    ),
    "what a method needs": (
        'class A:\n    "A."\n\n    def f(self, sales: ibis.Table | None = None):\n        "Count lines."\n',
        "A.f",
    ),
    "anything": ("def f(n: int):\n    return n\n", "docstring"),
}

OWN_FRAMES = {  # a public function that fails deep inside on another table, and what the report must say of it
    "a column that is read without a check": (
        "def f(sales: pd.DataFrame) -> float:\n    return sales['quantity_sold'].sum()",
        "f: KeyError",
    ),
    "a column that is read as an attribute": (
        "def f(n: int, sales: pd.DataFrame | None = None) -> float:\n    return sales.quantity_sold.sum() * n",
        "f: AttributeError",
    ),
    "an Ibis table": ("def f(sales: ibis.Table):\n    return sales.select('store_id')", "f: IbisTypeError"),
    "a table in a dictionary": (
        "def f(tables: dict[str, pd.DataFrame]) -> float:\n    return tables['store']['units'].sum()",
        "f: KeyError",
    ),
    "a table in a list": ("def f(parts: list[pd.DataFrame]):\n    return parts[0]['store_id']", "f: KeyError"),
    "another ValueError": (
        "def f(sales: pa.Table):\n    raise ValueError('sales: empty')",
        "f: ValueError: sales: empty",
    ),
    "no error": ("def f(sales: pd.DataFrame) -> int:\n    return len(sales)", "f: no error"),
}

PAGES = {  # mistakes of a page for readers: HTML for its end, and a text that the complaint must have
    "labels that overlap": (
        '<p style="height:20px;margin:0">Coffee sells best</p><p style="margin-top:-12px">Tea sells second</p>',
        "overlap: 'Coffee sells best' and 'Tea sells second'",
    ),
    "labels of a drawing that overlap": (
        '<svg role="img" aria-label="Sales" width="300" height="80"><text x="9" y="30">Coffee</text>'
        '<text x="20" y="36">Bakery</text></svg>',
        "overlap: 'Coffee' and 'Bakery'",
    ),
    "a label beyond its drawing": (
        '<svg role="img" aria-label="Sales" width="100" height="40"><text x="60" y="20">Merchandise</text></svg>',
        "cut by its drawing: 'Merchandise'",
    ),
    "text cut by a box": (
        '<div style="width:90px;overflow:hidden;white-space:nowrap">The error is smaller than before</div>',
        "cut: 'The error is smaller than before'",
    ),
    "text below the edge of a box": (
        '<div style="height:20px;overflow:hidden;width:90px">The error is smaller than before</div>',
        "cut: 'The error is smaller than before'",
    ),
    "a table that is wider than the page": (
        "<table><tr><td style='min-width:2000px'>Stores</td><td>61</td></tr></table>",
        "beyond the page: '61'",
    ),
    "a table in a box that scrolls": (
        "<div style='overflow-x:auto'><table class='report-table'><tr><td style='min-width:2000px'>Stores</td></tr></table></div>",
        "scrolls sideways: 'Stores'",
    ),
    "a dict": ("<p>{'rule': 'no_model'}</p>", "code: \"{'rule'\""),
    "the name of a type": ("<p>class dict of the stage</p>", "code: 'dict'"),
    "a missing number": ("<td>NaN</td>", "code: 'NaN'"),
    "a missing text": ("<p>City: None</p>", "code: 'None'"),
    "an object": ("<p>Figure(640x480)</p>", "code: 'Figure('"),
    "a picture of another machine": ('<img alt="Sales" src="https://cdn.example.com/sales.png">', "cdn.example.com"),
    "a script of another machine": ('<script src="https://cdn.example.com/chart.js"></script>', "cdn.example.com"),
    "an error in a script": ("<script>draw(7)</script>", "draw is not defined"),
    "an error on the console": ("<script>console.error('no data')</script>", "no data"),
    "a picture without an alternative text": (
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
        "no alt text: 'img'",
    ),
    "a drawing without a name": ('<svg width="9" height="9"><circle r="4"/></svg>', "no alt text: 'svg'"),
    "pale text": ('<p style="color:#aaa">61 stores</p>', "contrast"),
    "text that is pale in dark mode only": ('<p style="color:#7a3c09">61 stores</p>', "contrast"),
    "pale text in a drawing": (
        '<svg role="img" aria-label="Sales" width="90" height="30"><rect width="90" height="30" fill="#8f4a12"/>'
        '<text x="5" y="20" style="fill:#5f5a54">Coffee</text></svg>',
        "contrast",
    ),
    "faded text": ('<p style="opacity:.4">61 stores</p>', "contrast"),
    "one id twice": ('<i id="a"></i><i id="a"></i>', "one id twice: a"),
    "two titles": ("<h1>Sales</h1>", "2 titles"),
    "a heading that is left out": ("<h4>Stores</h4>", "h4 after h1"),
    "no language": ("<script>document.documentElement.lang = ''</script>", "no language"),
}

PICTURES = {  # code that draws on a picture that can be read, and what the report must say of it
    "a name over another one": ("axis.text(1, 1, 'Latte')\naxis.text(1, 1.01, 'Mug')", "'Latte' overlaps 'Mug'"),
    "a name over the title": ("figure.text(0.05, 0.93, 'Latte')", "'Sales rise' overlaps 'Latte'"),
    "a name that is cut": ("axis.text(2.2, 1, 'A very long name of a product')", "is outside"),
    "a colour of its own": ("axis.axhline(1, color='#ff0000')", "#ff0000 is not in the palette"),
    "white, which is black on a dark page": ("axis.axhline(1, color='#fefefe')", "#fefefe is not in the palette"),
    "a transparent mark": ("axis.plot([1, 2], [1, 1], color='#8f4a12', alpha=0.4)", "a mark is transparent"),
    "a transparent dot": ("axis.scatter([1, 2], [1, 1], color='#8f4a12', alpha=0.4)", "a mark is transparent"),
    "a mark that is hard to see": ("axis.axhline(1, color='#f6ece2')", "tint has a contrast of 1."),
    "a bitmap": ("axis.imshow([[1, 2]])", "a bitmap has no dark mode"),
    "an axis without a unit": ("axis.set_title('', loc='left')", "no unit above"),
    "a horizontal axis without a unit": ("axis.set_xticks([1, 2])", "no unit below"),
}
