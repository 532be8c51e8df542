"Packaging only: everything it knows comes from settings.ini."
from configparser import ConfigParser
from setuptools import find_packages, setup

settings = ConfigParser(delimiters=["="])
settings.read("settings.ini", encoding="utf-8")
cfg = settings["DEFAULT"]

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    packages=find_packages(include=["taco", "taco.*"]), package_data={"taco": ["**/*.toml", "**/*.html"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={"dev": cfg["dev_requirements"].split(), "clip": cfg.get("clip_requirements", "").split()},
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
)
