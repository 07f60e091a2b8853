"""Translations by CTranslate2 and by plain PyTorch relative to ours.

All engines have the same weights, and take turns. The others run in processes
of their own, in the environment that TT_COMPRESS_PEERS names.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks import decode_work, peers, records, subprocesses
from tt_compress import configuration, timing
from tt_compress.models.transformer import transformer, transformer_config
from tt_compress.nn import modules
from tt_compress.tasks.decoding import decoder

ROUNDS = 7
_MODULES = ('torch', 'ctranslate2')


@dataclasses.dataclass(frozen=True)
class Case:
  """Sentences to translate.

  Attributes:
    text: for a table.
    work: sizes.
    goals: {engine: largest ratio of our time to its time, or None}.
  """

  text: str
  work: decode_work.Work
  goals: Mapping[str, float | None]


def _case(torch=None, ctranslate2=None, **sizes):
  work = decode_work.Work(**sizes)
  goals = {
    'torch': torch,
    'ctranslate2 float32': ctranslate2,
    'ctranslate2 int8': None,
  }
  return Case(f'beam {work.beam}, batch {work.batch}', work, goals)


CASES = (
  _case(batch=1, ctranslate2=1.0),
  _case(batch=32, ctranslate2=1.2, torch=0.8),
  _case(batch=1, beam=1),
  _case(batch=32, beam=1),
)
TINY = (
  _case(
    batch=2, vocab=60, dim=16, ffn=32, heads=2, layers=1, source=5, steps=6
  ),
)


def measure(cases: Sequence[Case] = CASES, **options) -> list[dict[str, Any]]:
  """Our times relative to those of other engines.

  Args:
    cases: what to time.
    **options: of `timing.interleaved`.

  Returns:
    A record for each case and engine: 'case', 'kind' (the engine) and its
    'version', the number of 'threads' of each engine, the values of
    `timing.ratios`, the 'goal' of the ratio, and 'same', the share of
    translations that are equal to ours.

  Raises:
    ModuleNotFoundError: an engine is not installed.
  """
  return [found for case in cases for found in _measure(case, options)]


def table(found: Sequence[dict[str, Any]]) -> str:
  """The records as Markdown."""
  columns = (
    'case',
    'kind',
    'version',
    'ratio',
    'goal',
    'ratio_of_minima',
    'ms',
    'reference_ms',
    'same',
  )
  return records.table_of(columns, found)


def _measure(case, options):
  python, sources = peers.python(_MODULES), case.work.sources()
  graphdef, variables = _model(case.work)
  ours = translator(case.work, graphdef, variables)
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    _write(pathlib.Path(folder), case.work, variables['params'])
    engines = {
      name: stack.enter_context(_started(python, name, folder))
      for name in case.goals
    }
    translate = {'ours': ours, **{name: e[0] for name, e in engines.items()}}
    expected, *others = (each(sources) for each in translate.values())
    times = timing.interleaved(
      {
        name: lambda each=each: each(sources)
        for name, each in translate.items()
      },
      **options,
    )
  for (name, (_, version)), found in zip(engines.items(), others, strict=True):
    ratios = timing.ratios(times, 'ours', name)
    yield {
      'case': case.text,
      'kind': name,
      'version': version,
      'threads': len(os.sched_getaffinity(0)),
      **{key: records.rounded(value) for key, value in ratios.items()},
      'goal': case.goals[name],
      'same': np.mean([x == y for x, y in zip(expected, found, strict=True)]),
    }


def _model(work):
  """A Transformer whose translations never end, and its arrays."""
  config = transformer_config.TransformerConfig(
    vocab_size=work.vocab,
    model_dim=work.dim,
    ffn_dim=work.ffn,
    num_heads=work.heads,
    num_encoder_layers=work.layers,
    num_decoder_layers=work.layers,
    norm='pre',
    logits_bias=True,
  )
  graphdef = None

  @jax.jit
  def arrays():
    nonlocal graphdef
    model = transformer.Transformer(config, rngs=nnx.Rngs(0))
    graphdef, params, buffers = modules.split(model)
    bias = params['logits_bias']
    for token in decode_work.BANNED:
      bias = bias.at[token].set(decode_work.NEVER)
    return {'params': {**params, 'logits_bias': bias}, 'buffers': buffers}

  variables = arrays()
  return graphdef, variables


def translator(
  work: decode_work.Work, graphdef: nnx.GraphDef, variables: Mapping
) -> decode_work.Engine:
  """Our engine."""
  config = configuration.defaults('benchmark', configuration.parse(''))
  settings = config.evaluation
  settings.update(batch_size=work.batch, max_ratio=0.0, max_extra=work.steps)
  search = decoder.Decoder(graphdef, settings).searcher(
    variables, beam_size=work.beam, num_ids=work.vocab
  )

  def translate(sources):
    found = search(np.array(sources, np.int32))
    return np.asarray(found.tokens[:, 0]).tolist()

  return translate


def _write(folder, work, params):
  named = jax.tree_util.tree_leaves_with_path(params)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  arrays = {name(path): np.asarray(array) for path, array in named}
  np.savez(folder / 'weights.npz', **arrays)
  (folder / 'work.json').write_text(json.dumps(dataclasses.asdict(work)))


@contextlib.contextmanager
def _started(python, name, folder) -> Iterator[tuple[decode_work.Engine, str]]:
  """Another engine and its version."""
  worker = 'benchmarks.decode_worker'
  with subprocesses.started(python, worker, name, folder) as (ask, version):
    yield lambda sources: json.loads(ask(json.dumps(sources))), version
