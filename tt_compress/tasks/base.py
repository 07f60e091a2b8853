"""The interface between a task and the training loop."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from tt_compress.data import sources
from tt_compress.nn import dropout
from tt_compress.tasks import run_vocabulary

Scores = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
  """A prediction for a line of text, and its score, by which it is ranked."""

  text: str
  score: float


class Task:
  """A problem: its data, batches, loss, scores, and their reports.

  `variables` are a model's arrays {'params': ..., 'buffers': ...}.

  Attributes:
    kind: of the data, a key of `sources.SOURCES`; None for a task that needs no
      source.
    metrics: scores that can choose the best checkpoint, each 'max' or 'min';
      the first is the default.
    unit: of the weights of the loss, for the progress line.
    reporting: dotted settings that change reports of a trained model, not the
      model.
    inputs: dotted settings of the inputs of the model; a run that starts from
      another one must have the same.
    called_with: arrays of a batch that are the arguments of a call of the
      model; () if it has no such call.
    reads_lines: whether the task has `predict`.
    distills: whether its loss is the `cross_entropy` of the `features` of a
      model alone, so that `models.transformer.distilled` can add a teacher.

  Args:
    config: the run's configuration.
    graphdef: the graph of its model, as `nn.modules.split` returns it.
    workdir: folder of the run; None to save nothing.
  """

  kind: ClassVar[sources.Kind | None] = None
  metrics: ClassVar[Mapping[str, str]] = {'loss': 'min'}
  unit: ClassVar[str] = 'examples'
  reporting: ClassVar[Sequence[str]] = ()
  inputs: ClassVar[Sequence[str]] = ()
  called_with: ClassVar[Sequence[str]] = ()
  reads_lines: ClassVar[bool] = False
  distills: ClassVar[bool] = False

  def __init__(self, config, graphdef: nnx.GraphDef, workdir: str | None):
    self._config = config
    self._graphdef = graphdef
    self._workdir = workdir
    self._splits: dict[str, sources.Data] = {}

  @classmethod
  def defaults(cls) -> dict:
    """Settings of the task besides the common ones, by group and name.

    The groups 'data' and 'evaluation' are needed; 'model' overrides defaults of
    the model.
    """
    raise NotImplementedError(f'{cls.__name__} has no defaults')

  @classmethod
  def batch_rows(cls, config) -> int:
    """Approximate number of rows of x in the products of a training step.

    By default, each example is one.
    """
    return cls.batch_shapes(config, 1)['positions'].shape[0]

  @classmethod
  def batch_shapes(
    cls, config, batch_multiple: int
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the largest global batch of training; reads no data.

    Args:
      config: of the run.
      batch_multiple: see `train_batches`.

    Returns:
      A shape for each array of a batch, 'positions' [examples] among them: the
      noise of an example depends on its position in the global batch.
    """
    raise NotImplementedError(f'{cls.__name__} has no batch_shapes')

  @classmethod
  def carry_shapes(cls, config) -> dict[str, Any]:
    """Shapes of the carry, which each step hands to the next one.

    The first carry is zeros. A task with a carry has the same number of
    examples in every batch, and the carry has an entry for each of them.

    Args:
      config: of the run.

    Returns:
      A tree of `jax.ShapeDtypeStruct` [examples, ...] without examples of
      padding; empty for a task whose steps are independent.
    """
    return {}

  @classmethod
  def check(cls, config) -> None:
    """Refuses settings that would fail or mislead only after training."""
    metric = config.evaluation.metric
    if metric not in cls.metrics:
      known = ' or '.join(map(repr, cls.metrics))
      raise ValueError(f'evaluation.metric={metric!r} must be {known}')
    if cls.kind is not None:
      sources.check(cls.kind, config.data.source, cls.source_options(config))

  @classmethod
  def source_options(cls, config) -> dict:
    """Options of the source `config.data.source`."""
    return dict(config.data.options)

  def load(self, split: str) -> sources.Data:
    """The data of 'train', 'validation' or 'test', read once."""
    if split not in self._splits:
      config = self._config
      self._splits[split] = sources.load(
        self.kind, config.data.source, split, **self.source_options(config)
      )
    return self._splits[split]

  @classmethod
  def shrink(cls, config) -> None:
    """Makes data, model and evaluation small; the data need no files."""
    raise NotImplementedError(f'{cls.__name__} has no shrink')

  def prepare(self) -> dict:
    """Reads all data that a run needs.

    Returns:
      Facts about the data, for the results; a resumed run must have the same.

    Raises:
      FileNotFoundError, ValueError: some data cannot be read.
    """
    return {}

  @property
  def vocabularies(self) -> Sequence[run_vocabulary.RunVocabulary]:
    """The vocabularies of the run, which are saved with its model."""
    return ()

  def save(self) -> None:
    """Writes the vocabularies into the workdir."""
    for vocabulary in self.vocabularies:
      vocabulary.save()

  def adopt(self, folder: str) -> None:
    """Uses the vocabularies of another run, so that ids keep their meaning."""
    for vocabulary in self.vocabularies:
      vocabulary.adopt(folder)

  def verify(self, facts: Mapping[str, Any]) -> None:
    """Refuses vocabularies other than those that the model was trained with.

    Args:
      facts: that `prepare` returned when training began.

    Raises:
      ValueError: naming the file that has changed.
    """
    for vocabulary in self.vocabularies:
      vocabulary.verify(facts)

  def train_batches(self, **share: int) -> Any:
    """Batches as a pure function of the step, see `batching.Batches`.

    The training loop calls `batch`, `first_steps`, `examples` and `summary`.

    Args:
      **share: `batch_multiple`, `process_index`, `process_count` of `Batches`.
    """
    raise NotImplementedError(f'{type(self).__name__} has no train_batches')

  @property
  def num_examples(self) -> int:
    """Sum of the weights of the loss over an epoch."""
    raise NotImplementedError(f'{type(self).__name__} has no num_examples')

  def loss(
    self,
    model: nnx.Module,
    batch: Mapping[str, jax.Array],
    noise: dropout.Noise | None = None,
    carry: Any = None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """The loss of a batch, a shard or a microbatch.

    Args:
      model: of the run.
      batch: arrays [examples, ...].
      noise: keys of this pass, for training; None means deterministic.
      carry: of the previous step, [examples, ...] for the examples of `batch`;
        None or empty for a task without carry. No gradient flows into the
        previous step.

    Returns:
      (sum of losses, sum of weights, carry for the next step, which has the
      shapes and dtypes of the given one).
    """
    raise NotImplementedError(f'{type(self).__name__} has no loss')

  def validate(self, variables: Mapping) -> dict[str, float]:
    """Scores on the validation split during training, `metrics` among them."""
    raise NotImplementedError(f'{type(self).__name__} has no validate')

  def evaluate(self, variables: Mapping, split: str) -> Scores:
    """All scores on 'validation' or 'test', for the results."""
    raise NotImplementedError(f'{type(self).__name__} has no evaluate')

  def example_losses(
    self, variables: Mapping, split: str
  ) -> Float[np.ndarray, ' examples']:
    """The loss of every example of a split, for paired comparisons.

    They have a fixed order, and their mean is the loss of `evaluate`.
    """
    raise NotImplementedError(f'{type(self).__name__} has no example_losses')

  def baselines(self) -> Scores:
    """Scores without training, for the results; empty unless configured."""
    return {}

  def check_lines(self) -> None:
    """Refuses prediction if the task does not read lines of text."""
    if not self.reads_lines:
      raise ValueError(
        f'task={self._config.task} does not predict from lines of text; '
        '--mode=evaluate scores its test split'
      )

  def predict(
    self, variables: Mapping, lines: Sequence[str], num_best: int
  ) -> Sequence[Sequence[Answer]]:
    """The num_best answers to every line, best first."""
    raise NotImplementedError(f'{type(self).__name__} has no predict')

  def report_answer(self, answer: Answer) -> str:
    """The line that is printed for the best answer alone."""
    return answer.text

  def progress(self, scores: Scores) -> str:
    """The scores of a validation on one line."""
    return '  '.join(
      f'validation {name} {scores[name]:.4f}' for name in self.metrics
    )

  def headline(self, scores: Scores) -> str:
    """The most important score, e.g. 'BLEU = 27.30'."""
    raise NotImplementedError(f'{type(self).__name__} has no headline')

  def report(self, split: str, scores: Scores) -> str:
    """The scores of `evaluate` as text; ends with the headline."""
    return f'\n{split} loss {scores["loss"]:.4f}\n{self.headline(scores)}'

  def report_baselines(self, results: Scores) -> str:
    """The scores of `baselines` in the results as text; empty without."""
    return ''
