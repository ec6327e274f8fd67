"One build of a source at a time, and nothing left of one that died."

from building import begin
from filelock import FileLock
from toy import ENV, begin_build, release, started
from waits import until


def test_a_second_build_waits_says_for_whom_and_has_nothing_left_to_do(toy):
    first = begin(toy)
    second = begin_build(toy, toy / "second.log")
    until(lambda: "waiting for it" in (toy / "second.log").read_text(), "said to wait", first, second)
    release(toy)
    assert (first.wait(120), second.wait(120)) == (0, 0)
    told = (toy / "second.log").read_text()
    assert f"(process {first.pid}, since" in told
    assert started(told) == [] and "nothing to do" in told
    assert (toy / "products/near/judge/out.txt").read_text() == "whole"


def test_who_waits_says_so_even_if_nobody_has_said_yet_who_holds_the_lock(toy):
    # given somebody who has just taken it, and something to do
    (toy / "env.yaml").write_text(ENV.replace("12]", "6]"))
    with FileLock(toy / "state/near/.lock"):
        second = begin_build(toy, toy / "second.log")
        told = "near: another process holds state/near/.lock; waiting for it"
        until(lambda: told in (toy / "second.log").read_text(), "said to wait", second)
    assert second.wait(120) == 0
