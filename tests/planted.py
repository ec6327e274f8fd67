"Mistakes that the checks of the house have to find: where each is planted, what is written there, and what must be said."

IN_MODULES = {  # for `lint-imports`: a module of the package, code at its end, what the report names
    "data asks the model": (
        "data/quality.py",
        "import brewcast.model.recipes",
        "brewcast.data is not allowed to import brewcast.model",
    ),
    "common asks data, inside a function": (
        "common/charts.py",
        "def f():\n    from ..data import clean",
        "brewcast.common is not allowed to import brewcast.data",
    ),
    "delivery asks the registry": (
        "delivery/forecast.py",
        "from ..registry.publish import publish",
        "brewcast.delivery is not allowed to import brewcast.registry",
    ),
    "the model asks what serves": (
        "model/train.py",
        "from ..serving import release",
        "brewcast.model is not allowed to import brewcast.serving",
    ),
    "workflow asks the registry, its neighbour": (
        "workflow/runs.py",
        "from ..registry import publish",
        "brewcast.workflow is not allowed to import brewcast.registry",
    ),
    "workflow asks what lies below it": (
        "workflow/runs.py",
        "from ..data import quality",
        "brewcast.workflow is not allowed to import brewcast.data",
    ),
    "serving asks data": (
        "serving/batch.py",
        "from ..data import quality",
        "brewcast.serving is not allowed to import brewcast.data",
    ),
    "the Bento takes pandas, inside a function": (
        "serving/traffic.py",
        "def f():\n    import pandas",
        "brewcast.serving.traffic is not allowed to import pandas",
    ),
    "the Bento takes pandas through another module": (
        "serving/app.py",
        "from ..common import core",
        "brewcast.serving.app is not allowed to import pandas",
    ),
    "a package that no layer names": ("planning/orders.py", "x = 1", "brewcast.planning"),
}

IN_NOTEBOOKS = {  # for what no import graph sees: a notebook, a cell, where its text goes, what must be named
    "a stage's run asks what changes what serves": (
        "data/12_explore.ipynb",
        "#| eval: false\nfrom brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "a lesson asks a layer above": (
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
    "a module's name within a longer text": (
        "data/12_explore.ipynb",
        "#| export\nASKS = 'see brewcast.serving.release:Release'",
        "brewcast.serving",
    ),
    "a name that is put together": (
        "data/12_explore.ipynb",
        "from importlib import import_module\nimport_module('brewcast.' + 'serving.release')",
        "import_module",
    ),
}

BESIDE = {  # in what neither lint-imports nor a notebook holds: a file, code at its end, what must be named
    "Feast's definitions ask the registry": (
        "feature_repo/definitions.py",
        "from brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "a package loads on demand": (
        "brewcast/data/__init__.py",
        "import importlib\n\n\ndef __getattr__(name):\n    return importlib.import_module('brewcast.registry.' + name)",
        "brewcast/data/__init__.py",
    ),
    "old pickles ask for more": (
        "brewcast/models.py",
        "from brewcast.registry.publish import publish",
        "brewcast.registry.publish",
    ),
    "the Bento takes a library that it does not hold": (
        "brewcast/serving/traffic.py",
        "def f():\n    import pandera",
        "pandera",
    ),
}

STAGES_NAMED = {  # for `workflow knows no stage`: a notebook of workflow, a cell, the stage
    "a product by its place": ("workflow/report.ipynb", "#| export\nHOME = 'forecast/month.html'", "forecast"),
    "a key": ("workflow/staleness.ipynb", "#| export\nREADS = {'features': ['feature_repo']}", "features"),
    "in an f-string": (
        "workflow/runs.ipynb",
        "#| export\ndef place(source):\n    return f'products/{source}/package/release'",
        "package",
    ),
}
