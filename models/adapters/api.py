"""Models behind an OpenAI-compatible server: vLLM, SGLang and hosted ones; chat about images, and images from prompts.

What may pass (rate limits, time-outs, 5xx) is tried again after growing pauses, or after what ``Retry-After`` says, and every try keeps to
the pace. What succeeded beside a request that failed is kept until it is asked for again, so that a failure costs no other request twice.
The key comes from the environment alone, is stored nowhere, and is cut out of what a server says.
"""

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from jfeval.errors import BadRequest, UserError
from jfeval.models.adapters.layout import content_with_data
from jfeval.models.adapters.pace import Pace
from jfeval.pictures import MAX_PIXELS
from jfeval.schema import ImageJob, JsonObject, TextRequest
from jfeval.settings import NO_EFFECT

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server, a model on it, and how fast it may be asked."""

    model: str = ""
    """The model's name on the server."""
    base_url: str = ""
    """The server, such as http://localhost:8000/v1; empty for OpenAI's own."""
    key_env: str = field(default="OPENAI_API_KEY", metadata=NO_EFFECT)
    """Environment variable that holds the key; a local server needs none."""
    concurrency: int = field(default=8, metadata=NO_EFFECT)
    """Requests under way at a time; never more than a batch holds."""
    requests_per_minute: int = field(default=0, metadata=NO_EFFECT)
    """Most requests begun in a minute, later tries counted; 0 for as many as come."""
    timeout: float = field(default=120.0, metadata=NO_EFFECT)
    """Seconds until a request is given up and tried again."""
    max_retries: int = field(default=6, metadata=NO_EFFECT)
    """Tries after the first, with growing pauses."""
    temperature: float | None = 0.0
    """Of answers; null for the server's own: it is not sent then."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105
    """Name under which the most tokens of an answer are sent; OpenAI's reasoning models take the second alone."""
    size: str = "1024x1024"
    """Width and height of images, as the server names them."""
    response_format: str = ""
    """Sent with requests for images where it is not empty; DALL-E needs b64_json."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        for name, least in (("concurrency", 1), ("requests_per_minute", 0), ("max_retries", 0), ("timeout", 0.001)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")


def load(settings: Settings) -> "ApiModel":
    """Load a model behind an OpenAI-compatible server: `--model api --set base_url=http://localhost:8000/v1 --set model=NAME`.

    Raises:
        UserError: No model is named, the key is missing, or the package openai is.
    """
    if not settings.model:
        raise UserError(
            "model 'api' needs the name of a model on the server: --set model=NAME (and --set base_url=URL for your own server)"
        )
    key = os.environ.get(settings.key_env, "")
    if not key and not settings.base_url:
        raise UserError(
            f"the environment variable {settings.key_env} holds no key; set it, or name your own server with --set base_url=URL"
        )
    return ApiModel(settings, key)


class ApiModel:
    """Asks a server, several requests at a time.

    Args:
        settings: Server, model and pace.
        key: The key; empty for a server that needs none.
    """

    name = "api"

    def __init__(self, settings: Settings, key: str) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError("model 'api' needs the package openai: pip install 'jfeval[api]'") from error
        self._errors = openai
        self.settings, self._secret = settings, key
        self.client: Any = openai.OpenAI(  # tries again by `Pace`: the client's own tries would pass it by
            api_key=key or "none", base_url=settings.base_url or None, timeout=settings.timeout, max_retries=0
        )
        self._pace = Pace(settings.requests_per_minute)
        self._kept: dict[object, Any] = {}

    def identity(self) -> JsonObject:
        """Return server, model and recipe; a hosted model's weights cannot be known."""
        s, place = self.settings, urlsplit(str(self.client.base_url))
        server = f"{place.hostname}:{place.port}" if place.port else str(place.hostname)
        temperature = "not sent" if s.temperature is None else s.temperature
        recipe: JsonObject = {"temperature": temperature, "size": s.size, "seed": "not sent"}
        if s.token_limit != "max_tokens":  # noqa: S105
            recipe["token_limit"] = s.token_limit
        return {"model": self.name, "served": s.model, "server": server, "weights": "unknown", "recipe": recipe}

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request; see `_all` for errors."""
        return self._all(requests, self._answer)

    def generate(self, jobs: Sequence[ImageJob]) -> "list[Image]":
        """Draw one image per job; a server draws from its own randomness, so a job's seed says nothing to it."""
        return self._all(jobs, self._draw)

    def _all(self, asked: Sequence[Any], ask: Callable[[Any], T]) -> list[T]:
        """Carry out requests side by side.

        Raises:
            UserError: The server knows neither key nor model, so no request can succeed.
            BadRequest: The server refuses this request, and would again.
            RuntimeError: A request failed in all its tries.
        """
        waiting = [one for one in asked if _key(one) not in self._kept]
        failures: list[Exception] = []

        def carry_out(one: Any) -> None:  # noqa: ANN401
            try:
                self._kept[_key(one)] = self._pace.ask(lambda: ask(one), tries=self.settings.max_retries + 1, again=self._again)
            except Exception as error:  # raised below, once the others are done
                failures.append(self._as_ours(error))

        with ThreadPoolExecutor(max_workers=self.settings.concurrency) as pool, self._pace.wanted():
            list(pool.map(carry_out, waiting))
        if failures:
            raise next((error for error in failures if type(error) is UserError), failures[0])
        return [self._kept.pop(_key(one)) for one in asked]

    def _again(self, error: Exception) -> Mapping[str, str] | None:
        """Return the headers of a reply after which another try may succeed; None where none can."""
        if isinstance(error, self._errors.APIConnectionError):  # no reply, time-outs included
            return {}
        if not isinstance(error, self._errors.APIStatusError):
            return None
        passing = error.status_code in (408, 409, 429) or error.status_code >= 500
        return error.response.headers if passing else None

    def _as_ours(self, error: Exception) -> Exception:
        e, text = self._errors, str(error)
        text = (text.replace(self._secret, "***") if self._secret else text)[:300]
        if isinstance(error, e.AuthenticationError | e.PermissionDeniedError | e.NotFoundError):
            return UserError(f"the server does not serve {self.settings.model!r} to this key: {text}")
        if isinstance(error, e.BadRequestError | e.UnprocessableEntityError):
            return BadRequest(f"the server refuses the request: {text}")
        if isinstance(error, e.OpenAIError):
            tries = self.settings.max_retries + 1 if self._again(error) is not None else 1
            return RuntimeError(f"no answer after {tries} {'tries' if tries > 1 else 'try'} ({type(error).__name__}): {text}")
        return error

    def _answer(self, request: TextRequest) -> str:
        parts = content_with_data(request.question, request.images)
        system = [{"role": "system", "content": request.system}] if request.system else []
        how: dict[str, Any] = {self.settings.token_limit: request.max_new_tokens}
        if self.settings.temperature is not None:
            how["temperature"] = self.settings.temperature
        messages = [*system, {"role": "user", "content": parts}]
        choice = self.client.chat.completions.create(model=self.settings.model, messages=messages, **how).choices[0]
        text = (choice.message.content or "").strip()
        if not text and choice.finish_reason != "stop":
            reason = str(choice.finish_reason)[:40]
            raise BadRequest(f"the server returned no text (finish_reason {reason!r}; at most {request.max_new_tokens} tokens were asked)")
        return text

    def _draw(self, job: ImageJob) -> "Image":
        from PIL import Image

        form = {"response_format": self.settings.response_format} if self.settings.response_format else {}
        reply = self.client.images.generate(model=self.settings.model, prompt=job.prompt, n=1, size=self.settings.size, **form)
        data = reply.data[0].b64_json if reply.data else None
        if not data:
            raise UserError("the server returned no image data (perhaps an address); try --set response_format=b64_json")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadRequest(f"the server returned {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
            return image.convert("RGB")


def _key(asked: TextRequest | ImageJob) -> object:
    """Tell requests apart without holding their images."""
    if isinstance(asked, ImageJob):
        return asked
    return asked.sample_id, asked.question, asked.max_new_tokens
