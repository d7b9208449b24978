"""Which commit of a set a run is about: one request to the hub, before anything is fetched."""

from __future__ import annotations

from core.api import UserError
from plugins.hub.refusal import gated

PATIENCE = 10
"""Seconds for the hub to answer; ``datasets`` itself asks again for half a minute."""


def newest_commit(path: str, revision: str | None) -> str | None:
    """The commit that a set's branch or tag is at; None when ``HF_HUB_OFFLINE`` says not to ask.

    Raises:
        UserError: there is no such set or revision, or the hub cannot be reached.
    """
    import httpx
    from datasets import config
    from huggingface_hub import HfApi, errors

    try:
        api = HfApi(endpoint=config.HF_ENDPOINT)
        return api.dataset_info(path, revision=revision, timeout=PATIENCE, expand=["sha"]).sha
    except errors.OfflineModeIsEnabled:
        return None
    except errors.RevisionNotFoundError:
        raise UserError(f"data.revision={revision}: data.path={path} has none", "data.revision=null") from None
    except errors.GatedRepoError:
        raise gated(path) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(
            f"data.path={path}: no folder here, and no set on the hub that you may see",
            "data.path=NAMESPACE/NAME as on huggingface.co/datasets; for one of your own: hf auth login",
        ) from None
    except (httpx.HTTPError, OSError) as error:  # huggingface_hub's own are among them
        raise UserError(
            f"data.path={path}: no folder here, and the hub does not answer: {str(error).partition(chr(10))[0]}",
            "HF_HUB_OFFLINE=1 in front of the command takes what was fetched before; or data=jsonl data.train=FILE",
        ) from None
