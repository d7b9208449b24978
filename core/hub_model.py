"""A model that is asked of the hub: one quick question first, for libraries ask for each file and retry for minutes."""

from __future__ import annotations

from functools import cache

from core.errors import UserError
from core.model_folder import instead

PATIENCE = 10.0
"""Seconds for the hub to answer."""


@cache
def check_reachable(path: str, revision: str | None) -> None:
    """Ask whether there is such a model; what was fetched earlier is used where the hub does not answer.

    Args:
        path: A hub id; no folder of the name is here.
        revision: Branch, tag or commit.

    Raises:
        UserError: it is no hub id, there is no such model or revision, or the hub does not answer.
    """
    import httpx
    from huggingface_hub import HfApi, constants, errors, try_to_load_from_cache

    fetched = False
    try:
        fetched = isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str)
        HfApi().model_info(path, revision=revision, timeout=PATIENCE, expand=["sha"])
    except errors.HFValidationError:
        raise UserError(f"model.path={path} is no folder here, and no hub id", instead(path)) from None
    except errors.OfflineModeIsEnabled:
        if not fetched:
            raise UserError(
                f"model.path={path}: no folder here is called so, it was never fetched, and HF_HUB_OFFLINE is set",
                f"{instead(path)}; HF_HUB_OFFLINE=0 in front of the command asks the hub",
            ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"model.revision={revision}: model.path={path} has none", "model.revision=null") from None
    except errors.GatedRepoError:
        raise UserError(
            f"model.path={path}: its authors ask you to agree first",
            f"https://huggingface.co/{path}, then: hf auth login",
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"model.path={path}: no folder here is called so, and no model on the hub that you may see",
            f"{instead(path)}; for one of your own: hf auth login",
        ) from None
    except (httpx.HTTPError, OSError) as error:  # huggingface_hub's own are among them
        if not fetched:
            raise UserError(
                f"model.path={path}: no folder here is called so, and the hub does not answer: "
                f"{str(error).partition(chr(10))[0]}",
                instead(path),
            ) from None
        constants.HF_HUB_OFFLINE = True  # nothing else waits for it
