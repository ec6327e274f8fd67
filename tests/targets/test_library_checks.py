"Which libraries the stages import is read from their code, and all are among those that the stage image gets."

from importlib.metadata import packages_distributions

import pytest
from conftest import ROOT

from brewcast.targets.image_checks import locked_packages, package_name
from brewcast.targets.images import stage_requirements
from brewcast.targets.library_checks import imported_libraries, libraries_by_step


@pytest.mark.parametrize(
    ("code", "libraries"),
    [
        ("import json, pandas.testing", {"pandas"}),
        ("from feast.infra import x as y", {"feast"}),
        ("from . import text\nfrom ..common import paths\nimport brewcast.data", set()),
        ("def f():\n    if True:\n        import evidently", {"evidently"}),
        ("try:\n    import uvloop\nexcept ImportError:\n    uvloop = None", set()),
        ("try:\n    import uvloop\nexcept ValueError:\n    import redis", {"uvloop", "redis"}),
        (
            "try:\n    import a\nexcept ModuleNotFoundError:\n    pass\nelse:\n    import b\nfinally:\n    import c",
            {"b", "c"},
        ),
        ("text = 'import pandas'", set()),
    ],
)
def test_the_libraries_that_code_imports(code, libraries):
    assert imported_libraries(code) == libraries


def test_the_stage_image_gets_every_library_that_a_step_imports():
    # given the packages that go into the image, and what this environment says of their modules
    packages = {name for name, _ in locked_packages(stage_requirements(ROOT)[0])}
    offered = {
        module
        for module, names in packages_distributions().items()
        if packages & {package_name(name) for name in names}
    }
    # then no step imports anything else
    steps = libraries_by_step(ROOT)
    assert {step: set(libraries) - offered for step, libraries in steps.items() if set(libraries) - offered} == {}
    # and what is well known of the stages is among it
    assert {"resolve", "publish", "ingest", "package"} <= steps.keys()
    assert "feast" in steps["features"] and "sklearn" in steps["train"] and "evidently" in steps["monitor"]
    assert (ROOT / steps["features"]["feast"]).is_file()
