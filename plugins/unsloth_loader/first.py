"""Imports Unsloth before the libraries that it patches, without its habit of installing system packages."""

import io
import os
import warnings
from contextlib import redirect_stdout

os.environ["UNSLOTH_AUTO_INSTALL"] = "0"  # its GGUF export, which is not used here, would call apt

with redirect_stdout(io.StringIO()), warnings.catch_warnings():  # a banner, and where it would rather be imported
    warnings.simplefilter("ignore")
    import unsloth as unsloth
