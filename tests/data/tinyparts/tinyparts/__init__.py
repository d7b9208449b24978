"""Tiny parts of a stranger: together they use every function of the contracts that no built-in part needs."""

from core.api import Part, hookimpl

HERE = "tinyparts"


@hookimpl
def hooktune_methods():
    options = f"{HERE}.options:Named"
    adapter = frozenset({"adapter", "zero-start", "switch"})
    yield Part(name="halves", target=f"{HERE}.methods:Halves", options=options, summary="an optimizer of its own")
    yield Part(
        name="turns",
        target=f"{HERE}.methods:Turns",
        options=options,
        summary="a callback and a penalty",
        provides=frozenset({"partial-gradients"}),
    )
    yield Part(name="gain", target=f"{HERE}.methods:Gain", options=options, summary="an adapter", provides=adapter)
    yield Part(name="rowwise", target=f"{HERE}.methods:RowWise", options=options, summary="needs padded rows")


@hookimpl
def hooktune_quantizers():
    yield Part(
        name="rounded",
        target=f"{HERE}.quantizers:Rounded",
        options=f"{HERE}.options:Named",
        summary="prepares and converts",
        provides=frozenset({"dense-base", "trainable-base"}),
    )
    yield Part(
        name="forgotten",
        target=f"{HERE}.quantizers:Forgotten",
        options=f"{HERE}.options:Named",
        summary="whose layers the loader leaves dense",
        provides=frozenset({"dense-base", "trainable-base"}),
    )


@hookimpl
def hooktune_objectives():
    yield Part(
        name="closer",
        target=f"{HERE}.objectives:Closer",
        options=f"{HERE}.options:Named",
        summary="better than a reference",
    )
    yield Part(
        name="parity", target=f"{HERE}.objectives:Parity", options=f"{HERE}.options:Named", summary="a classifier"
    )


@hookimpl
def hooktune_loaders():
    yield Part(name="shelf", target=f"{HERE}.loaders:Shelf", options=f"{HERE}.options:Named", summary="its own way")
    yield Part(name="vault", target=f"{HERE}.loaders:Vault", options=f"{HERE}.options:Named", summary="vault://NAME")


@hookimpl
def hooktune_optimizers():
    yield Part(name="plain", target=f"{HERE}.optims:Plain", options=f"{HERE}.options:PlainOptions", summary="descent")


@hookimpl
def hooktune_data():
    yield Part(name="sums", target=f"{HERE}.sources:Sums", options=f"{HERE}.options:SumsOptions", summary="no files")


@hookimpl
def hooktune_metrics():
    options = f"{HERE}.options:LongestOptions"
    yield Part(name="longest", target=f"{HERE}.metrics:Longest", options=options, summary="the worst row")
