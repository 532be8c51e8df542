"Packaging only: everything it knows comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

settings = ConfigParser(delimiters=["="])
settings.read("settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]
readme = Path("README.md")
PACKED = ["py.typed", *(f"**/*.{kind}" for kind in "toml html csv md json safetensors npy npz jpg".split())]

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    keywords=cfg["keywords"].split(),
    classifiers=["Programming Language :: Python :: 3", "Intended Audience :: Science/Research"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    packages=find_packages(include=["taco", "taco.*"]), package_data={"taco": PACKED},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={"dev": cfg["dev_requirements"].split(), "clip": cfg.get("clip_requirements", "").split(),
                    "bench": cfg.get("bench_requirements", "").split(),
                    "imagenet": cfg.get("imagenet_requirements", "").split(),
                    "slurm": cfg.get("slurm_requirements", "").split(),
                    "kubernetes": cfg.get("kubernetes_requirements", "").split()},
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
)
