"""Where Brewcast is sent: the files under deploy/, compiled from the DAG, the Bento, env.yaml and the lock, images, and their checks.
It may import workflow, registry and all below them.
Never here: what a build or the service needs, or anything that works only with one cloud.
"""
