"""What differs between problems: batches, loss, decoding, evaluation."""

from tt_compress.tasks import base, image_classification, translation

TASKS: dict[str, type[base.Task]] = {
  'classification': image_classification.ImageClassification,
  'translation': translation.Translation,
}
