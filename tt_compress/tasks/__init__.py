"""Tasks: batches, loss, decoding and evaluation of a problem."""

from tt_compress.tasks import base, image_classification, translation

TASKS: dict[str, type[base.Task]] = {
  'classification': image_classification.ImageClassification,
  'translation': translation.Translation,
}
