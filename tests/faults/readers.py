"""Readers of what a user hands over, a good input each, and clear errors."""

import dataclasses
import gzip
import io
import json
import lzma
import pathlib
import struct
import traceback
from collections.abc import Callable

import numpy as np
import pyarrow
from pyarrow import parquet
from safetensors import numpy as safetensors

import tt_compress
from tt_compress import rules
from tt_compress.configuration import arguments, saved
from tt_compress.data import (
  click_log_files,
  images,
  labeled_text,
  question_files,
  sentence_pieces,
  tables,
  text,
  text_files,
  token_files,
  token_streams,
  vocabularies,
)
from tt_compress.data.click_logs import formats
from tt_compress.pretrained import family, gguf, loading, tensors
from tt_compress.training import metrics, origin, workdir

PACKAGE = pathlib.Path(tt_compress.__file__).parent
STDIN = 'standard input'


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads files of a folder.

  Attributes:
    files: good contents by name.
    read: of the folder that holds them, given their names.
  """

  files: dict[str, bytes]
  read: Callable[..., object]

  def __call__(self, folder: pathlib.Path) -> object:
    return self.read(folder, *(str(folder / name) for name in self.files))


def is_clear(error: BaseException, folder: pathlib.Path) -> bool:
  """Whether an error of this package says what is wrong, and where.

  It is one of the kinds that `main` prints in a line, raised by the package
  itself, and names a file of the folder, the standard input or a rule.
  """
  *_, (frame, _) = traceback.walk_tb(error.__traceback__)
  is_ours = PACKAGE in pathlib.Path(frame.f_code.co_filename).parents
  said = str(error)
  # Names of data are the last two parts of a path.
  is_named = any(
    name in said for name in (f'{folder.name}/', str(folder), STDIN)
  )
  is_named |= said.startswith('rule ')
  return isinstance(error, OSError | ValueError) and is_ours and is_named


def _lines(*lines: str) -> bytes:
  return ''.join(f'{line}\n' for line in lines).encode()


def _pairs(**options):
  return lambda folder, *paths: text.load(
    'train', files={'train': paths}, **options
  )


def _of(load, **options):
  return lambda folder, path: load('train', files={'train': path}, **options)


def _clicks(layout):
  def read(folder, path):
    cache = str(folder / 'cache')
    options = dict(format=layout, min_count=1, folder=cache)
    files = dict.fromkeys(('train', 'validation', 'test'), path)
    found = click_log_files.load('train', files=files, **options)
    return np.asarray(found.ids).sum()

  return read


def _stream(folder, path):
  stream = token_streams.load('train', files={'train': path})
  words = vocabularies.VOCABULARIES['bytes']()
  return token_files.encode(stream, words, str(folder / 'cache'))


def _image_folder(folder, *paths):
  return images.from_idx('train', path=str(folder), num_validation=1)


def _pretrained(folder, *paths):
  kind, options = loading.described(family.Settings.read(str(folder)))
  found = tensors.find(str(folder))
  return kind, options, [tensor.read() for tensor in found.values()]


def _gguf(folder, path):
  settings, found = gguf.as_llama(gguf.read(path))
  return settings, [tensor.read() for tensor in found.values()]


def _standard_input(folder, path):
  data = pathlib.Path(path).read_bytes()
  return text_files.decode_lines(io.BytesIO(data), STDIN)


def _rules(folder, path):
  patterns = text_files.read_lines(path)
  names = ['encoder/layers/0/ffn/up', 'decoder/layers/1/ffn/down']
  return rules.assign([(pattern, 1) for pattern in patterns], names)


def _click_rows(layout) -> bytes:
  values = {'label': '1', 'count': '7', 'integer': '-12', 'ignored': 'x'}
  values |= {'hexadecimal': '05db9164', 'hour': '14102100'}
  row = [values[kind] for _, kind in layout.columns]
  header = [name for name, _ in layout.columns]
  lines = [header] * layout.has_header + [row] * 4
  return _lines(*map(layout.delimiter.join, lines))


def _idx(array: np.ndarray) -> bytes:
  sizes = struct.pack(f'>{array.ndim}I', *array.shape)
  return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _gguf_file() -> bytes:
  """A LLaMA with one matrix, as far as reading goes."""
  word = lambda text: struct.pack('<Q', len(text)) + text.encode()
  number = lambda name, value: word(name) + struct.pack('<II', 4, value)
  names = 'block_count context_length embedding_length feed_forward_length'
  names += ' attention.head_count attention.head_count_kv'
  values = [number(f'llama.{name}', 2) for name in names.split()]
  values += [
    word('general.architecture') + struct.pack('<I', 8) + word('llama'),
    word('llama.attention.layer_norm_rms_epsilon')
    + struct.pack('<If', 6, 1e-5),
    word('tokenizer.ggml.tokens')
    + struct.pack('<IIQ', 9, 8, 2)
    + word('a')
    + word('b'),
  ]
  matrix = np.arange(4, dtype='<f4')
  entry = word('token_embd.weight') + struct.pack('<IQQIQ', 2, 2, 2, 0, 0)
  head = b'GGUF' + struct.pack('<IQQ', 3, 1, len(values))
  head += b''.join(values) + entry
  return head + bytes(-len(head) % 32) + matrix.tobytes()


_QUESTION = {'context': 'Paris liegt', 'question': 'Was?', 'answer': 'Paris'}
_QUESTION |= {'answer_start': 0}
_SQUAD = {'context': 'Paris liegt'}
_SQUAD['qas'] = [
  {'question': 'Was?', 'answers': [{'text': 'Paris', 'answer_start': 0}]}
]
_WORDS = dict(specials=4, lower_case=False, pattern='[a-z]+')
_WORDS['words'] = ['<pad>', '<s>', '</s>', '<unk>', 'ab', 'ba']
_GPT2 = dict(model_type='gpt2', vocab_size=4, n_positions=4, n_embd=2)
_GPT2 |= dict(n_layer=1, n_head=1)
_PIXELS = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
_TSV = _lines('Guten Tag\tGood day', 'Ja\tYes', 'Nein\tNo')
_JSON = json.dumps


def _config_file() -> bytes:
  path = str(PACKAGE.parent / 'configs' / 'mnist.py')
  return saved.to_json(arguments.load(f'{path}:tiny')).encode()


def _model_file() -> bytes:
  options = dict(vocab_size=24, model_type='bpe', character_coverage=1.0)
  options |= dict(byte_fallback=False, normalization_rule_name='identity')
  lines = sentence_pieces.Sample(['der Hund und die Katze'] * 9, None)
  return sentence_pieces._train(lines, options)


def parquet_file(texts=('ein Text\n', 'geht weiter')) -> bytes:
  file = io.BytesIO()
  parquet.write_table(
    pyarrow.table({'text': pyarrow.array(texts, 'string')}), file
  )
  return file.getvalue()


def _in_folder(read):
  return lambda folder, path: read(str(folder))


READERS = {
  'aligned': Reader(
    {'a.de': _lines('Guten Tag', 'Ja'), 'a.en': _lines('Good day', 'Yes')},
    _pairs(),
  ),
  'tsv': Reader({'a.tsv': _TSV}, _pairs()),
  'gz': Reader({'a.tsv.gz': gzip.compress(_TSV, mtime=0)}, _pairs()),
  'xz': Reader({'a.tsv.xz': lzma.compress(_TSV)}, _pairs()),
  'jsonl': Reader(
    {'a.jsonl': _lines(_JSON({'source': 'Ja', 'target': 'Yes'}))}, _pairs()
  ),
  'labels': Reader(
    {'a.txt': _lines('1\tgut', '0\tso')}, _of(labeled_text.load)
  ),
  'labels jsonl': Reader(
    {'a.jsonl': _lines(_JSON({'label': 1, 'text': 'gut'}))},
    _of(labeled_text.load),
  ),
  'questions': Reader(
    {'a.json': _JSON({'data': [{'paragraphs': [_SQUAD]}]}).encode()},
    _of(question_files.load),
  ),
  'questions jsonl': Reader(
    {'a.jsonl': _lines(_JSON(_QUESTION))}, _of(question_files.load)
  ),
  'csv': Reader(
    {'a.csv': _lines('y,x,z', '1,2,0.5', '0,3,1e3')},
    _of(tables.load, label='y', integers=('x',), floats=('z',)),
  ),
  'criteo': Reader(
    {'a.tsv': _click_rows(formats.FORMATS['criteo'])}, _clicks('criteo')
  ),
  'avazu': Reader(
    {'a.csv': _click_rows(formats.FORMATS['avazu'])}, _clicks('avazu')
  ),
  'stream': Reader({'a.txt': _lines('ein Text', '', 'geht weiter')}, _stream),
  'parquet': Reader({'a.parquet': parquet_file()}, _stream),
  'idx': Reader(
    {
      'train-images-idx3-ubyte': _idx(_PIXELS),
      'train-labels-idx1-ubyte': _idx(np.arange(3, dtype=np.uint8)),
    },
    _image_folder,
  ),
  'idx gz': Reader(
    {
      'train-images-idx3-ubyte.gz': gzip.compress(_idx(_PIXELS), mtime=0),
      'train-labels-idx1-ubyte': _idx(np.arange(3, dtype=np.uint8)),
    },
    _image_folder,
  ),
  'words': Reader(
    {'vocabulary.json': _JSON(_WORDS).encode()},
    lambda folder, path: vocabularies.load(path).encode(['ab ba c']),
  ),
  'bytes': Reader(
    {'vocabulary.bytes': b'bytes'}, lambda folder, path: vocabularies.load(path)
  ),
  'pieces': Reader(
    {'vocabulary.model': _model_file()},
    lambda folder, path: vocabularies.load(path).encode(['der Hund']),
  ),
  'config': Reader(
    {'config.json': _config_file()}, _in_folder(workdir.load_config)
  ),
  'results': Reader(
    {'results.json': _JSON(dict.fromkeys(workdir._NEEDED, 1)).encode()},
    _in_folder(workdir.read_results),
  ),
  'data': Reader(
    {'data.json': b'{"num_pairs": 3}'}, _in_folder(workdir.read_data)
  ),
  'fit': Reader({'fit.json': b'{"error": 0.1}'}, _in_folder(origin.read)),
  'metrics': Reader(
    {'metrics.jsonl': _lines('{"step": 1, "train/loss": 2.5}')},
    _in_folder(metrics.read),
  ),
  'safetensors': Reader(
    {
      'config.json': _JSON(_GPT2).encode(),
      'model.safetensors': safetensors.save(
        {'wte.weight': np.ones((4, 2), np.float32)}
      ),
    },
    _pretrained,
  ),
  'safetensors in parts': Reader(
    {
      'model.safetensors.index.json': _JSON(
        {'weight_map': {'wte.weight': 'a.safetensors'}}
      ).encode(),
      'config.json': _JSON(_GPT2).encode(),
      'a.safetensors': safetensors.save(
        {'wte.weight': np.ones((4, 2), np.float32)}
      ),
    },
    _pretrained,
  ),
  'gguf': Reader({'a.gguf': _gguf_file()}, _gguf),
  'stdin': Reader({'stdin': _lines('Guten Tag', 'Ja')}, _standard_input),
  'rules': Reader({'rules': _lines('encoder/.*/(up|down)', '.*')}, _rules),
}
