"Reads settings.ini, nbdev's one place for metadata and dependencies."

from configparser import ConfigParser

from setuptools import find_packages, setup

cfg = ConfigParser(delimiters=["="])
cfg.read("settings.ini", encoding="utf-8")
cfg = cfg["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    author=cfg["author"],
    license="Apache-2.0",
    packages=find_packages(include=[cfg["lib_name"], f"{cfg['lib_name']}.*"]),
    package_data={"": ["templates/**/*"]},
    python_requires=f">={cfg['min_python']},<3.14",  # newer ones were not tried
    install_requires=cfg["requirements"].split(),
    extras_require={"serve": cfg["serve_requirements"].split(), "dev": cfg["dev_requirements"].split()},
    entry_points={
        "console_scripts": [f"{cfg['lib_name']}={cfg['lib_name']}.cli:main"],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
