import dataclasses
import importlib.util
import json
import pathlib
import sys
import typing
from typing import Literal

import pytest
from absl import flags
from ml_collections import config_flags

from tt_compress import configuration, models
from tt_compress.nn import modules
from tt_compress.training import build, optimizers

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))


def load(name, arguments=''):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arguments)


def parse(arguments, **options):
  parsed = configuration.parse(arguments, **options)
  return {name: parsed[name] for name in parsed if name != 'given'}


@pytest.mark.parametrize('nothing', ['', None])
def test_arguments_by_default(nothing):
  assert parse(nothing, rank=64) == dict(dense=False, tiny=False, rank=64)


def test_arguments_keep_the_type_of_the_default():
  found = parse('tiny,rank=8,rate=1,kind=x', rank=64, rate=0.5, kind='y')
  assert found == dict(dense=False, tiny=True, rank=8, rate=1.0, kind='x')
  assert isinstance(found['rate'], float)
  assert parse('dense=true,tiny=false') == dict(dense=True, tiny=False)


@pytest.mark.parametrize(
  'arguments, told',
  [
    ('rnak=8', "unknown config argument 'rnak'.*dense, rank, tiny"),
    ('rank=8.5', "rank='8.5' must be of type int, e.g. rank=64"),
    ('rank', "rank='' must be of type int"),
    ('tiny=yes', "tiny='yes' must be true or false"),
    ('tiny=', "tiny='' must be true or false"),
  ],
)
def test_bad_arguments(arguments, told):
  with pytest.raises(ValueError, match=told):
    configuration.parse(arguments, rank=64)


FILE = f'--config={CONFIGS / "quickstart.py"}'


@pytest.mark.parametrize(
  'flags, told',
  [
    ((f'--config={CONFIGS / "quikstart.py"}',), 'nearest: .*/quickstart.py'),
    (('--config=nowhere/x.py',), "no config file 'nowhere/x.py'$"),
    ((f'--config={__file__}',), 'has no function get_config'),
    ((f'{FILE}:tinny',), "unknown config argument 'tinny'"),
    (
      (FILE, '--config.optimizer.learning_rat=1'),
      "'optimizer.learning_rat'; nearest: optimizer.learning_rate",
    ),
    ((FILE, '--config.data.options.files=1'), "'data.options.files'; nearest"),
    (
      ('--config.modle.dropout', '0.1', FILE),
      "'modle.dropout'; nearest",
    ),
    ((FILE, '--config.x=1'), "unknown setting 'x'$"),
    (
      ('--workdir=x', '--config.seed', '1'),
      '--config.seed overrides .* --config=FILE',
    ),
  ],
)
def test_flags_that_name_nothing(flags, told):
  with pytest.raises((FileNotFoundError, ValueError), match=told):
    configuration.check_flags(['main.py', *flags])


def test_flags_that_name_settings():
  names = ('num_steps=1', 'model', 'compress[0]=1', 'data.options={}')
  overrides = [f'--config.{name}' for name in names]
  configuration.check_flags(['main.py', FILE, *overrides, '--workdir=x'])
  configuration.check_flags(['main.py', '--workdir=x'])


def test_arguments_are_part_of_the_name():
  assert load('wmt14_tt').name == 'wmt14_tt'
  assert load('wmt14_tt', 'rank=48,tiny').name == 'wmt14_tt-rank=48-tiny'


def sizes(blueprint):
  return modules.num_params(blueprint.params)


@pytest.mark.parametrize('name', NAMES)
def test_every_config_and_its_dense_twin_are_built(name):
  blueprint = build.blueprint(load(name))
  dense = build.blueprint(load(name, 'dense'))
  assert sizes(dense) > sizes(blueprint)
  assert sizes(dense) == blueprint.dense_num_params == dense.dense_num_params
  assert blueprint.report.swapped and not dense.report.swapped
  kinds = {type(spec).__name__ for spec in dense.matrices.values()}
  assert kinds == {'Dense'}


@pytest.mark.parametrize('name', NAMES)
def test_every_config_has_a_tiny_variant(name):
  config = load(name, 'tiny')
  blueprint = build.blueprint(config)
  assert blueprint.report.swapped
  paths = lambda found: {swap.path for swap in found.report.swapped}
  kinds = {
    type(swap.spec) for swap in build.blueprint(load(name)).report.swapped
  }
  assert {type(swap.spec) for swap in blueprint.report.swapped} == kinds
  assert sizes(blueprint) < sizes(build.blueprint(load(name, 'tiny,dense')))
  assert sizes(blueprint) < 250_000
  assert config.data.source in ('embedded', 'embedded_headlines', 'generated')
  assert config.num_steps <= 200
  # Small, but the same run: these are what a file chooses.
  full = load(name)
  for setting in ('norm', 'share_embeddings', 'tie_logits', 'activation'):
    assert config.model.get(setting) == full.model.get(setting)
  assert config.optimizer.name == full.optimizer.name
  assert paths(blueprint)


def test_published_sizes_of_the_network_for_mnist():
  """Row slides-M6: a ratio of 56.95."""
  assert sizes(build.blueprint(load('mnist'))) == 3574
  assert sizes(build.blueprint(load('mnist', 'dense'))) == 203_530


def test_a_task_brings_its_settings():
  arguments = configuration.parse('')
  config = configuration.defaults(
    'test', arguments, model='mlp', task='classification'
  )
  assert config.evaluation.metric == 'accuracy' and config.data.batch_size
  for setting in ('vocab_size', 'beam_size', 'bucket_lengths'):
    assert setting not in configuration.to_json(config)
  with pytest.raises(AttributeError, match='batch_size'):
    config.data.batchsize = 10
  config = configuration.defaults('test', arguments)
  assert config.model.vocab_size == 32_768 and config.label_smoothing == 0.1


def test_the_order_of_the_arguments_does_not_matter():
  one, other = (load('wmt14_tt', text) for text in ('tiny,dense', 'dense,tiny'))
  differing = configuration.differences(one, other)
  assert [line.split(':')[0] for line in differing] in ([], ['name'])


def test_tiny_drops_modes_inside_wrappers_and_lowers_ranks():
  arguments = configuration.parse('tiny')
  config = configuration.defaults('test', arguments)
  inner = dict(
    name='tensor_train', tt_rank=64, row_modes=(32, 32), col_modes=(8, 8)
  )
  config.compress = (
    ('embed', dict(name='pruned', base=inner)),
    ('.*/up', dict(name='sum', parts=(inner, dict(name='dense')))),
    ('.*/ffn/.*', dict(name='tensor_train', tt_rank=(4, 16))),
    ('.*/query', dict(name='monarch', num_blocks=(128, 256))),
    ('.*/key', dict(name='tensor_ring', rank=0.1)),
    ('.*/value', dict(name='tucker', rank=6)),
    ('.*/out', dict(name='phm', n='same')),
    ('.*', dict(name='low_rank', rank=2)),
  )
  small = dict(name='tensor_train', tt_rank=8)
  assert configuration.finish(config, arguments).compress == (
    ('embed', dict(name='pruned', base=small)),
    ('.*/up', dict(name='sum', parts=(small, dict(name='dense')))),
    ('.*/ffn/.*', dict(name='tensor_train', tt_rank=2)),
    ('.*/query', dict(name='monarch', num_blocks=2)),
    ('.*/key', dict(name='tensor_ring', compression_ratio=2.0)),
    ('.*/value', dict(name='tucker', rank=2)),
    ('.*/out', dict(name='phm', compression_ratio=2.0)),
    ('.*', dict(name='low_rank', rank=2)),
  )


def test_a_setting_that_is_none_by_default_has_a_type():
  """Else no flag could set it."""
  config = configuration.defaults('test', configuration.parse(''))
  assert config.model.source_vocab_size is None
  assert config.model.get_type('source_vocab_size') is int
  with pytest.raises(TypeError, match='source_vocab_size'):
    config.model.source_vocab_size = 'many'


@dataclasses.dataclass(frozen=True)
class ManyOptions:
  """An option of every type that a model may have."""

  required: int
  cell: Literal['lstm', 'gru'] = 'lstm'
  cutoffs: tuple[int, ...] | None = None
  reading: Literal['left', 'right'] | None = None
  times: Literal[1, 2] | None = None
  is_tied: bool | None = None
  rate: typing.Optional[float] = None  # noqa: UP045, models may write it so
  size: int | Literal['auto'] | None = None
  shape: tuple[int, ...] = dataclasses.field(default_factory=lambda: (2, 3))


@pytest.fixture
def many(monkeypatch):
  """A configuration of a model that has all of them."""
  monkeypatch.setitem(models.MODELS, 'many', (ManyOptions, None))
  return configuration.defaults(
    'test', configuration.parse(''), model='many', task='classification'
  )


def test_options_of_every_type_have_defaults_and_are_set_by_flags(
  many, monkeypatch
):
  unset = ('required', 'cutoffs', 'reading', 'times', 'is_tied', 'rate', 'size')
  assert many.model.to_dict() == {
    **{'name': 'many', 'cell': 'lstm', 'shape': (2, 3)},
    **dict.fromkeys(unset),
  }
  changes = ('cell=gru', 'cutoffs=(10,20)', 'reading=left', 'times=2')
  changes += ('is_tied=false', 'rate=0.5', "size='auto'")
  argv = ['test', *(f'--config.model.{change}' for change in changes)]
  monkeypatch.setattr(sys, 'argv', argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict('config', many, flag_values=values)
  values(argv)
  changed = dict(cell='gru', cutoffs=(10, 20), reading='left', times=2)
  changed |= dict(is_tied=False, rate=0.5, size='auto')
  assert {name: many.model[name] for name in changed} == changed
  configuration.check_model(many.model)
  many.model.size = 7
  configuration.check_model(many.model)


@pytest.mark.parametrize(
  'name, value, told',
  [
    ('cell', 'rnn', "model.cell='rnn' must be one of 'lstm', 'gru'$"),
    ('reading', 'up', "model.reading='up' must be .*'left', 'right', None$"),
    ('times', 3, 'model.times=3 must be one of 1, 2, None$'),
  ],
)
def test_values_that_a_literal_does_not_name(many, name, value, told):
  configuration.check(many)
  many.model[name] = value
  with pytest.raises(ValueError, match=told):
    configuration.check(many)


@pytest.mark.parametrize(
  'name, value', [('cutoffs', 5), ('is_tied', 'yes'), ('times', 'two')]
)
def test_options_keep_their_type(many, name, value):
  with pytest.raises(TypeError, match=name):
    many.model[name] = value


def test_the_twin_differs_in_compression_alone():
  config = load('wmt14_tt')
  twin = configuration.twin(config)
  names = {
    line.split(':')[0] for line in configuration.differences(config, twin)
  }
  assert names == {'name', 'compress', 'model.tie_logits'}
  assert config.compress and not config.model.tie_logits  # untouched
  assert twin.data.get_type('max_difference') is int  # still to be overridden


@pytest.mark.parametrize('arguments', ['', 'tiny', 'dense'])
@pytest.mark.parametrize('name', NAMES)
def test_json_round_trip(name, arguments):
  config = load(name, arguments)
  again = configuration.from_json(configuration.to_json(config))
  assert configuration.differences(config, again) == []
  assert again.compress == config.compress
  assert again.data.to_dict() == config.data.to_dict()
  assert sizes(build.blueprint(again)) == sizes(build.blueprint(config))
  assert json.loads(configuration.to_json(again))['name'] == config.name


def test_settings_that_an_older_version_did_not_write_get_their_defaults():
  config = load('quickstart')
  old = config.to_dict()
  for name in ('mesh', 'sharding', 'machine', 'init_from', 'logits_blocks'):
    del old[name]
  del old['checkpoint']['choose'], old['model']['activation']
  old['data']['options'] = {}  # Those of a source are not the defaults'.
  again = configuration.from_json(json.dumps(old))
  config.data.options = {}
  assert again.to_dict() == config.to_dict()


def test_an_argument_without_effect_is_refused():
  with pytest.raises(ValueError, match='nothing is compressed; leave out att'):
    load('multi30k_slides', 'method=fewer_layers,layers=3,attention')
  with pytest.raises(ValueError, match='is the dense model; give layers=1'):
    load('multi30k_slides', 'method=fewer_layers')
  with pytest.raises(ValueError, match='attention_alone; leave out attention'):
    load('multi30k_slides', 'attention,attention_alone')
  with pytest.raises(ValueError, match='compressed; leave out embedding_rank'):
    load('t5_small', 'method=dense,embedding_rank=3')


def test_a_mean_of_checkpoints_keeps_as_many():
  configuration.check(load('fairseq_shapeshifter', 'average=5'))
  with pytest.raises(ValueError, match='but 6 are written; lower evaluation'):
    configuration.check(load('fairseq_shapeshifter', 'average=9'))


def test_a_configuration_of_an_unknown_task_is_read_and_refused():
  settings = load('quickstart').to_dict() | {'task': 'juggling'}
  config = configuration.from_json(json.dumps(settings))
  with pytest.raises(ValueError, match="task='juggling' is unknown"):
    configuration.check(config)


def test_a_read_configuration_refuses_new_settings():
  config = configuration.from_json(configuration.to_json(load('quickstart')))
  with pytest.raises(AttributeError, match='dropout'):
    config.model.droput = 0.1


def test_a_run_from_before_optimizers_refused_foreign_options():
  """Its file has b1 and momentum whatever the optimizer."""
  config = load('quickstart')
  config.optimizer.structure_aware = False
  settings = json.loads(configuration.to_json(config))
  new = (
    *('rules', 'initial_accumulator_value', 'decay_rate', 'clipping_threshold'),
    *('multiply_by_parameter_scale', 'min_dim_size_to_factor'),
    *('structure_aware', 'weight_decay_on'),
  )
  for name in new:
    settings['optimizer'].pop(name)
  settings['optimizer'].update(b1=0.9, momentum=0.0)
  old = configuration.from_json(json.dumps(settings))
  assert configuration.differences(old, config) == []
  optimizers.make(old.optimizer, old.num_steps)
  settings['optimizer'].update(name='sgd', b2=None, eps=None)
  old = configuration.from_json(json.dumps(settings))
  assert old.optimizer.momentum == 0.0  # which its checkpoints hold
  optimizers.make(old.optimizer, old.num_steps)


def test_differences():
  old, new = load('quickstart'), load('quickstart')
  assert configuration.differences(old, new) == []
  new.model.dropout = 0.5
  new.data.options = dict(num_train=10)
  new.compress = ()
  lines = configuration.differences(old, new)
  assert len(lines) == 4
  assert lines[0].startswith('compress: [[')
  assert "data.options: {} -> 'absent'" in lines
  assert "data.options.num_train: 'absent' -> 10" in lines
  assert 'model.dropout: 0.1 -> 0.5' in lines


def test_flatten():
  flat = configuration.flatten({'a': {'b': 1, 'c': {}}, 'd': 2})
  assert flat == {'a.b': 1, 'a.c': {}, 'd': 2}
