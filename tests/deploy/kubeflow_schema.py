"""Validate compiled pipelines by kfp's own messages, which refuse unknown fields, and by its loader.

Runs in .venv-kubeflow. Reads {name: [document, ...]} as JSON, writes {name: [problem, ...]}. The first document is the
pipeline, as Vertex AI takes it; a second one holds what Kubernetes alone knows.
"""

import json
import sys

import yaml
from google.protobuf.json_format import ParseDict, ParseError
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2


def problems_of(documents: list[dict]) -> list[str]:
    "What is wrong with a compiled pipeline."
    try:
        pipeline, *platforms = documents
        ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
        for executor in pipeline["deploymentSpec"]["executors"].values():  # kfp keeps them as a free structure
            ParseDict(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec())
        for platform in platforms:
            ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
            for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        components.load_component_from_text(yaml.safe_dump_all(documents))
    except (ParseError, KeyError, ValueError, TypeError) as error:
        return [f"{type(error).__name__}: {error}"]
    return []


if __name__ == "__main__":
    json.dump({name: problems_of(documents) for name, documents in json.load(sys.stdin).items()}, sys.stdout)
