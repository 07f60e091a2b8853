"""Tasks: batches, loss, decoding and evaluation of a problem."""

from tt_compress.tasks import (
  base,
  image_classification,
  language_modeling,
  translation,
)

TASKS: dict[str, type[base.Task]] = {
  'classification': image_classification.ImageClassification,
  'language_modeling': language_modeling.LanguageModeling,
  'translation': translation.Translation,
}
