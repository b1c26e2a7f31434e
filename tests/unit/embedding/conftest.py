"""The stand-in for a SigLIP model, made once."""

from pathlib import Path

import pytest

from import_local.embedding_model import make_embedding_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedding_model(tmp_path_factory.mktemp("model"))
