"""Settings of the server, from arguments or from environment variables that begin with `SLATEWISE_`."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from .sampling import check_temperature

Temperature = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False), AfterValidator(check_temperature)]
"""0 shows the best slate, above 0 (and not below `sampling.LEAST_TEMPERATURE`) slates are drawn."""


class ServerSettings(BaseSettings):
    """Settings of the server; an argument wins over its environment variable, for instance `SLATEWISE_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix="SLATEWISE_", frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(default=None, min_length=8)
    """Key that requests under /v1 must bring in the header X-API-Key; none asks for no key."""
    explore: Temperature = 0.0
    """Temperature of requests that do not say; 0 shows the best slate."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of exploration; none draws from the operating system."""
    max_k: int = Field(default=100, ge=1)
    """Most places a request may ask for."""
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    """Longest request body that is read."""
    max_history: int = Field(default=1_000, ge=1)
    """Most events of a request's history, and of one batch of feedback."""
    session_gap: float = Field(default=1_800.0, gt=0)
    """Seconds without an event that end a shopper's session."""
    threads: int = Field(default=1, ge=1)
    """Threads of ONNX Runtime within one request."""
    page: bool = True
    """Whether / shows a page to try the policy on."""
