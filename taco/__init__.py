"""How do medical vision tasks relate to each other? The door: `taco.<tab>` shows what most people need.

Each name is imported from its module when it is first asked for, so that `import taco` takes no time and no memory.
"""
import warnings as _warnings

__version__ = "0.1.0"
# Without widgets the progress bars of libraries are text: no reason for a warning.
_warnings.filterwarnings("ignore", "IProgress not found")

# module → its names that stand in the door
DOOR = {
    "taco.data.card": "load_card list_cards",
    "taco.data.find": "read",
    "taco.data.record": "Record",
    "taco.data.pack": "pack",
    "taco.data.store": "Store",
    "taco.tasks.catalogue": "ALL_TASKS",
    "taco.tasks.task": "Task task Uniform Choice get_task show_pairs",
    "taco.learning.encoder": "EncoderConfig PairEncoder",
    "taco.learning.recipe": "TrainConfig",
    "taco.learning.training": "train",
    "taco.learning.pairs": "make_pairs",
    "taco.atlas.embedding": "plan_pairs embed Embeddings",
    "taco.atlas.rivals.baselines": "baseline",
    "taco.atlas.neighbours": "weighted_knn",
    "taco.atlas.relations": "relations",
    "taco.atlas.figures": "draw_map",
    "taco.atlas.use.place": "place",
    "taco.atlas.use.own": "embed_pair",
    "taco.atlas.use.compare": "compare",
    "taco.transfer.affinity.recommend": "recommend",
    "taco.transfer.affinity.grouping": "together",
    "taco.workflow.page": "write_atlas",
    "taco.base": "TacoError",
}
_WHERE = {name: module for module, names in DOOR.items() for name in names.split()}
__all__ = sorted(_WHERE)


def __getattr__(name: str):
    "A name of the door, imported when first asked for."
    from importlib import import_module
    if name in _WHERE:
        # `get_task` and the like look tasks up by name, so whoever asks for one gets all thirty, and their `on`.
        if _WHERE[name] == "taco.tasks.task": import_module("taco.atlas.use.own")
        value = getattr(import_module(_WHERE[name]), name)
        globals()[name] = value  # the next time, without this function
        return value
    from taco.base import suggest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {suggest(name, __all__)}", name=name)


def __dir__() -> list[str]:
    "What `taco.<tab>` shows: the door, and nothing that happens to be imported."
    return __all__
