__version__ = "0.1.0"


def __getattr__(name: str):
    "`taco.place`, imported when first asked for, so that `import taco` stays light."
    if name == "place":
        from .atlas.place import place
        return place
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
