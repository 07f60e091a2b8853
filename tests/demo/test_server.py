"""The demo: what its server answers, refuses, and shows in a browser."""

import contextlib
import http.client
import json
import shutil
import subprocess
import threading

import pytest
import uvicorn

from tt_compress.demo import server
from tt_compress.tasks import base

SCRIPT = '<script>document.body.innerHTML = "broken"</script>'


class Echo:
  """A model that answers with the line in capitals, several times."""

  def __init__(self):
    self.lines = []

  def predict(self, lines, *, num_best=1):
    if 'refused' in lines:
      raise ValueError('line 1: refused by the task')
    self.lines += lines
    return [
      [base.Answer(f'{line.upper()} {k}', -k / 8) for k in range(num_best)]
      for line in lines
    ]


MODELS = (
  server.Model('large', Echo(), 2_000_000, 8e6, 'bleu 40.1'),
  server.Model('middle', Echo(), 1_000_000, 4e6),
  server.Model('small', Echo(), 500_000, 2e6),
)


@pytest.fixture(scope='module')
def port():
  """Of a running server."""
  config = uvicorn.Config(
    server.make(MODELS), host='127.0.0.1', port=0, log_level='warning'
  )
  running = uvicorn.Server(config)
  thread = threading.Thread(target=running.run)
  thread.start()
  while not running.started:
    thread.join(0.01)
  yield running.servers[0].sockets[0].getsockname()[1]
  running.should_exit = True
  thread.join()


def ask(port, method, path, body=None, host='127.0.0.1'):
  """(status, headers, text) of a response."""
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
  with contextlib.closing(connection):
    connection.request(method, path, body, {'Host': host})
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


def test_models_and_answers(port):
  status, _, text = ask(port, 'GET', '/models')
  assert status == 200
  assert json.loads(text)[0] == {
    'name': 'large',
    'num_params': 2_000_000,
    'num_bytes': 8e6,
    'scores': 'bleu 40.1',
  }
  body = json.dumps({'model': 1, 'text': '  two\nlines '})
  status, _, text = ask(port, 'POST', '/answer', body)
  found = json.loads(text)
  assert status == 200
  # A line break would be another line of the task.
  assert set(MODELS[1].run.lines) == {'two lines'}
  assert [each['text'] for each in found['answers']] == [
    f'TWO LINES {k}' for k in range(3)
  ]
  assert [each['score'] for each in found['answers']] == [0, -0.125, -0.25]
  assert found['milliseconds'] >= 0


@pytest.mark.parametrize(
  'body, message',
  [
    ('', "JSON with 'model'"),
    ('[]', "JSON with 'model'"),
    ('{"model": 0}', "JSON with 'model'"),
    ('{"model": 3, "text": "a"}', 'model=3 must be 0 to 2'),
    ('{"model": -1, "text": "a"}', 'model=-1 must be 0 to 2'),
    ('{"model": true, "text": "a"}', 'model=True must be 0 to 2'),
    ('{"model": 0, "text": " "}', 'the text is empty'),
    ('{"model": 0, "text": 7}', 'the text is empty'),
    (json.dumps({'model': 0, 'text': 'a' * 1001}), '1001 characters are more'),
    ('"' + 'a' * 20_000 + '"', 'at most 16,000 bytes'),
    ('{"model": 0, "text": "refused"}', 'refused by the task'),
  ],
)
def test_a_request_that_is_not_understood_is_refused(port, body, message):
  status, _, text = ask(port, 'POST', '/answer', body)
  assert status == 400
  assert message in json.loads(text)['error']


def test_the_page_loads_nothing_from_elsewhere(port):
  status, headers, text = ask(port, 'GET', '/')
  assert status == 200
  assert headers['Content-Security-Policy'].startswith("default-src 'none'")
  assert 'http' not in text
  for name in ('script.js', 'style.css'):
    status, _, text = ask(port, 'GET', f'/{name}')
    assert status == 200
    assert 'innerHTML' not in text
  # A page of the web that resolves its own name to this machine.
  assert ask(port, 'GET', '/models', host='example.com')[0] == 400
  assert ask(port, 'GET', '/../server.py')[0] == 404


@pytest.mark.full
def test_the_page_in_a_browser_shows_texts_as_text(port, tmp_path):
  browser = shutil.which('chromium') or shutil.which('google-chrome')
  if browser is None:
    pytest.skip('needs chromium or google-chrome')
  command = [
    browser,
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    f'--user-data-dir={tmp_path}',
    '--virtual-time-budget=5000',
  ]
  url = f'http://127.0.0.1:{port}/?text={SCRIPT}'
  result = subprocess.run(
    [*command, '--dump-dom', url], capture_output=True, text=True, timeout=120
  )
  shown = result.stdout
  assert 'broken 0' not in shown
  escaped = SCRIPT.upper().replace('<', '&lt;').replace('>', '&gt;')
  # Three answers of two models.
  assert shown.count(escaped) == 6
  assert '<h2>large</h2>' in shown
  assert '<h2>middle</h2>' in shown
  screenshot = tmp_path / 'page.png'
  subprocess.run(
    [*command, f'--screenshot={screenshot}', url], check=True, timeout=120
  )
  assert screenshot.stat().st_size > 5000
