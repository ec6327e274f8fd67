"The image of the small project's service, really built, once for all tests that run it."

import subprocess

import pytest

SERVICE = "deploy-test-service"  # no other image is replaced


def remove_image(image: str):
    subprocess.run(["buildah", "rmi", f"localhost/{image}"], capture_output=True)


@pytest.fixture(scope="session")
def service_image(published):
    "A `BuiltImage`; its archive is in scratch/images/ of the small project."
    from brewcast.targets.images import build_service_image

    built = build_service_image(published.root, "simulated", name=SERVICE)
    yield built
    remove_image(built.name)
