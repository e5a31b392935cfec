"""What samples are compared with, where it is not simply the features of all training images.

Free of torch.
"""

from pydantic import Field

from dtr.support.settings import Count, Name, Settings, Sha256


class ReferenceSettings(Settings):
    """Statistics of a dataset and some of its images: published in a file, or computed here."""

    dataset: Name
    file: str | None = Field(default=None, min_length=1)  # npz with mu, sigma; arr_0: images
    source: str | None = None  # what the file is, for whoever has to find it
    sha256: Sha256 | None = None  # of the file
    images: Count = 10_000  # that precision, recall and KID compare

    def identity(self, name: str) -> "Reference":
        """What of it belongs to a protocol: not where the file lies."""
        published = None if self.file is None else self.file.rpartition("/")[2]
        return Reference(name=name, published=published, sha256=self.sha256, images=self.images)


class Reference(Settings):
    """The reference of a protocol."""

    name: Name
    published: str | None = None  # name of the file; None: computed from the training images
    sha256: Sha256 | None = None
    images: Count

    @property
    def computed(self) -> bool:
        """Whether its statistics are the workflow's own and no published ones."""
        return self.published is None

    @property
    def words(self) -> str:
        """Where it comes from, for people."""
        where = "computed here from the training images"
        if self.published is not None:
            where = f"published as {self.published}"
        return f"{self.name}, {where}; {self.images:,} images for precision, recall and KID"
