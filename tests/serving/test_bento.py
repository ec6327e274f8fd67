"The service as BentoML starts it."


def test_the_server_listens_on_the_loopback_unless_told_otherwise():
    # given the service's own configuration, which BENTOML_HOST and --host override
    from brewcast.serving.bento import Brewcast

    assert Brewcast.config["http"]["host"] == "127.0.0.1"
