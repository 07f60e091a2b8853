"""The web application of the demo: a page, its models and their answers."""

import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from starlette import (
  applications,
  concurrency,
  requests,
  responses,
  routing,
  staticfiles,
)
from starlette.middleware import Middleware, trustedhost

_PAGE = pathlib.Path(__file__).parent / 'page'
# The page, its script and its style come from this server and nothing else.
_HEADERS = {
  'Content-Security-Policy': "default-src 'none'; connect-src 'self'; "
  "script-src 'self'; style-src 'self'; form-action 'none'",
  'X-Content-Type-Options': 'nosniff',
}
# Longest text, in characters, and request, in bytes.
MAX_TEXT = 1000
_MAX_BYTES = 16 * MAX_TEXT


class Predicts(Protocol):
  """What the demo needs of a `Run`."""

  def predict(self, lines: Sequence[str], *, num_best: int = 1) -> list: ...


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model of the page.

  Attributes:
    name: shown; that of its folder.
    run: answers lines of text.
    num_params: trained numbers.
    num_bytes: of a file with them.
    scores: name and value of test scores, as text.
  """

  name: str
  run: Predicts
  num_params: int
  num_bytes: float
  scores: str = ''

  def described(self) -> dict[str, Any]:
    """The model for the page."""
    fields = [each.name for each in dataclasses.fields(self)]
    return {name: getattr(self, name) for name in fields if name != 'run'}


def answer(model: Model, text: str, num_best: int = 3) -> dict[str, Any]:
  """The best answers to a line, and the time that they take once compiled."""
  model.run.predict([text], num_best=num_best)
  begin = time.perf_counter()
  [best] = model.run.predict([text], num_best=num_best)
  seconds = time.perf_counter() - begin
  return {
    'answers': [{'text': each.text, 'score': each.score} for each in best],
    'milliseconds': 1000 * seconds,
  }


def read(body: bytes, models: Sequence[Model]) -> tuple[Model, str]:
  """The model and the text of a request.

  Raises:
    ValueError: naming what the request lacks.
  """
  try:
    request = json.loads(body)
    index, text = request['model'], request['text']
  except (KeyError, TypeError, ValueError):
    raise ValueError(
      "a request is JSON with 'model', an index, and 'text', a line"
    ) from None
  if type(index) is not int or not 0 <= index < len(models):
    raise ValueError(f'model={index!r} must be 0 to {len(models) - 1}')
  if not isinstance(text, str) or not text.strip():
    raise ValueError('the text is empty')
  if len(text) > MAX_TEXT:
    raise ValueError(f'{len(text)} characters are more than {MAX_TEXT}')
  return models[index], ' '.join(text.split())


def make(models: Sequence[Model]) -> applications.Starlette:
  """The application.

  `GET /models` lists the models, `POST /answer` with {'model': index, 'text':
  line} returns `answer`. A request that is not understood, or a line that the
  task refuses, gets status 400 and {'error': message}. Requests for other hosts
  than this one are refused, so that no page of the web reaches the server
  through a name of its own.
  """
  # Two programs at a time would share the cores, and so would their times.
  lock = threading.Lock()

  def list_models(request: requests.Request) -> responses.Response:
    return responses.JSONResponse([each.described() for each in models])

  async def post_answer(request: requests.Request) -> responses.Response:
    try:
      model, text = read(await _body(request), models)
      found = await concurrency.run_in_threadpool(respond, model, text)
    except ValueError as error:
      return responses.JSONResponse({'error': str(error)}, status_code=400)
    return responses.JSONResponse(found)

  def respond(model, text):
    with lock:
      return answer(model, text)

  return applications.Starlette(
    routes=[
      routing.Route('/models', list_models),
      routing.Route('/answer', post_answer, methods=['POST']),
      routing.Mount('/', staticfiles.StaticFiles(directory=_PAGE, html=True)),
    ],
    middleware=[
      Middleware(
        trustedhost.TrustedHostMiddleware,
        allowed_hosts=['127.0.0.1', 'localhost'],
      ),
      Middleware(_WithHeaders),
    ],
  )


async def _body(request):
  """The body of a request, never more than `_MAX_BYTES` of it in memory."""
  body = b''
  async for part in request.stream():
    body += part
    if len(body) > _MAX_BYTES:
      raise ValueError(f'a request has at most {_MAX_BYTES:,} bytes')
  return body


class _WithHeaders:
  """Adds `_HEADERS` to every response."""

  def __init__(self, app):
    self._app = app

  async def __call__(self, scope, receive, send):
    async def send_more(message):
      if message['type'] == 'http.response.start':
        message['headers'] += [
          (name.lower().encode(), value.encode())
          for name, value in _HEADERS.items()
        ]
      await send(message)

    await self._app(scope, receive, send_more)
