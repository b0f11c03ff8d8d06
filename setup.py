"""Reads all metadata from settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read("settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {name: cfg[f"{name}_requirements"].split() for name in ("interactive", "images", "parquet", "cluster", "book", "dev")}
extras["book"] += extras["interactive"] + extras["images"]
extras["dev"] += extras["book"] + extras["parquet"] + extras["cluster"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    keywords=cfg["keywords"].split(),
    url=cfg["git_url"],
    project_urls={"Book": cfg["doc_host"] + cfg["doc_baseurl"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["helmholtz_mim", "helmholtz_mim.*"]),
    package_data={"helmholtz_mim": ["py.typed", "interactive/js/*", "data/*.csv"]},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": ["helmholtz-mim = helmholtz_mim.__main__:main"],
        "nbdev": ["helmholtz_mim = helmholtz_mim._modidx:d"],
    },
)
