"Before kfp compiles: an image without a digest, a file that Kubeflow does not take, and a missing environment are refused."

import pytest

from brewcast.targets.kubeflow import KUBEFLOW_FILE, compile_kubeflow, find_kfp

DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_without_kfp_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make \.venv-kubeflow/ready"):
        compile_kubeflow(tmp_path)
    with pytest.raises(FileNotFoundError, match="kfp is missing"):
        find_kfp(tmp_path)
    assert not (tmp_path / KUBEFLOW_FILE).exists()


@pytest.mark.parametrize(
    "image", ["brewcast-stage", "brewcast-stage:latest", f"brewcast-stage@{DIGEST[:-1]}", f"stage@{DIGEST.upper()}"]
)
def test_an_image_without_its_digest_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match="name the image by its digest"):
        compile_kubeflow(tmp_path, image)


def test_another_ending_than_yaml_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends with \.yaml"):
        compile_kubeflow(tmp_path, f"stage@{DIGEST}", tmp_path / "pipeline.json")
