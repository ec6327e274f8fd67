"What is patched in Ploomber and papermill: `ploomber build` builds as brewcast does, and lessons are left out."

from building import stale
from toy import started


def test_ploomber_itself_builds_the_same_way(toy, run):
    told = run("ploomber build --env--gate--wins 9").err
    assert started(told) == ["look"]
    assert stale(toy) == ["look"]  # env.yaml says something else
    run("ploomber task look")
    assert stale(toy) == []
